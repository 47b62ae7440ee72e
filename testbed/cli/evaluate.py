"""`kis evaluate`."""

from __future__ import annotations

from typing import Any

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, table
from testbed.cli.flags import Given, configured, flags
from testbed.pipeline.evaluate_config import EvaluateConfig


@flags(EvaluateConfig, usual=["seeds"])
def evaluate(
    given: Given,
    config: options.Config,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    out: options.Out = None,
) -> None:
    """Given the folder of an evaluation with --out, it goes on: with what is missing, more seeds, traffic or policies.

    Example: [bold]kis evaluate testbed/configs/evaluate.yaml[/bold]
    """
    settings = configured(EvaluateConfig, config, given)
    folder = options.out_folder(out, "evaluate")
    with ConsoleReporter() as reporter:
        policies, traffics = len(settings.policies), len(settings.traffic)
        reporter.phase(f"{policies} policies, {traffics} kinds of traffic, {settings.seeds} runs of each pair")
        from testbed.pipeline.evaluate import evaluate as run_evaluation
        from testbed.reporting.verdict import verdict

        result = run_evaluation(settings, folder, reporter.progress, options.workers_of(workers, ray))
    caption = f"simulated; beside {result['baseline']}, with 90 % intervals"
    rows = table("policy", "over target %", "GPU-s", "saving %", "changes", caption=caption)
    for policy, summary in result["policies"].items():
        rows.add_row(
            policy,
            f"{100 * summary['slo_violation_rate']:.2f}",
            f"{summary['gpu_seconds']:.0f}",
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
