"""`kis evaluate`."""

from __future__ import annotations

from typing import Any

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, table
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import out_folder
from testbed.pipeline.evaluate_config import EvaluateConfig
from testbed.pipeline.traffic import length_notes
from testbed.words import counted


@flags(EvaluateConfig, usual=["seeds"])
def evaluate(
    given: Given,
    config: options.Config,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    out: options.Out = None,
) -> None:
    """Given the folder of an evaluation with --out, it goes on: what is missing, more seeds, traffic or policies."""
    settings = configured(EvaluateConfig, config, given)
    folder = out_folder(out, "evaluate")
    with ConsoleReporter(folder) as reporter:
        runs = len(settings.policies) * len(settings.traffic) * settings.seeds
        under = f"{', '.join(settings.policies)} under {', '.join(settings.traffic)}"
        reporter.phase(f"{counted(runs, 'run')}: {under}")
        stated_s = settings.duration_s if "duration_s" in settings.model_fields_set else None
        reporter.notes(length_notes(settings.traffic, stated_s))
        from testbed.pipeline.evaluate import evaluate as run_evaluation
        from testbed.reporting.verdict import verdict
        from testbed.simulation.rules import queue_notes

        reporter.notes(queue_notes(model.dynamic_batching for model in settings.cluster.models))

        result = run_evaluation(settings, folder, reporter.progress, options.workers_of(workers, ray))
    known = any(summary["saving_low_pct"] is not None for summary in result["policies"].values())
    intervals = "with 90 % intervals" if known else "too few for intervals"
    caption = f"simulated; beside {result['baseline']}, {intervals}"
    currency = result.get("currency")
    spent = ("GPU-s", *([currency] if currency else []))
    rows = table("policy", "over target %", *spent, "saving %", "changes", caption=caption)
    for policy, summary in result["policies"].items():
        rows.add_row(
            policy,
            f"{100 * summary['slo_violation_rate']:.2f}",
            f"{summary['gpu_seconds']:.0f}",
            *([f"{summary['cost']:.2f}"] if currency else []),
            "-" if policy == result["baseline"] else _saving(summary),
            f"{summary['changes']:.1f}",
        )
    console.print(rows)
    say(verdict(result))
    print_path(console, folder / "report.html")


def _saving(policy: dict[str, Any]) -> str:
    if policy["saving_pct"] is None:
        return "-"
    low, high = policy["saving_low_pct"], policy["saving_high_pct"]
    return f"{policy['saving_pct']:+.1f}" + ("" if low is None else f" ({low:+.1f} to {high:+.1f})")
