"""`kis benchmark`."""

from __future__ import annotations

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, shown, table
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import out_folder
from testbed.pipeline.benchmark_config import BenchmarkConfig
from testbed.words import counted


@flags(BenchmarkConfig, usual=["trials", "seeds"])
def benchmark(
    given: Given,
    config: options.Config,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    out: options.Out = None,
) -> None:
    """Given the folder of a benchmark with --out, it goes on: what is missing, and further policies or services."""
    settings = configured(BenchmarkConfig, config, given)
    folder = out_folder(out, "benchmark")
    with ConsoleReporter(folder) as reporter:
        policies = f"{', '.join((*settings.candidates, *settings.compared))}"
        held_out = counted(settings.held_out_worlds, "held-out world")
        reporter.phase(f"{policies}: for each of {', '.join(settings.services)}, {held_out}")
        from testbed.pipeline.benchmark import benchmark as run_benchmark
        from testbed.reporting.benchmark import sentence

        wins = run_benchmark(settings, folder, reporter.progress, options.workers_of(workers, ray))
    allowed = f"{settings.allowed_slo_violation_rate:.1%}"
    spent = "money" if settings.objective == "cost" else "GPU-s"
    of_all = "nodes" if settings.objective == "cost" else "replicas"
    caption = f"simulated; {spent}: % of all {of_all}, at {allowed} missed and as chosen"
    rows = table("policy", f"{spent} at {allowed}", "missed %", spent, "changes/h", caption=caption)
    for policy, told in sorted(wins["policies"].items(), key=lambda item: item[1]["cost_pct"] or 1e9):
        chosen = told["chosen"]
        rows.add_row(
            policy,
            shown(told["cost_pct"], ".1f"),
            f"{100 * chosen['slo_violation_rate']:.2f}",
            f"{chosen['cost_pct']:.1f}",
            f"{chosen['changes_per_hour']:.0f}",
        )
    console.print(rows)
    say(sentence(wins))
    print_path(console, folder / "report.html")
