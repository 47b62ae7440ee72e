"""`kis compare` and `kis report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, shown, table
from workloads.files import write_text_atomically

if TYPE_CHECKING:
    from testbed.reporting.compare import Comparison

Results = Annotated[Path, typer.Argument(help="A results folder.")]


def compare(results: Results) -> None:
    """Writes comparison.json and shows the table.

    Example: [bold]kis compare results/20260101-120000-calibrate[/bold]
    """
    with ConsoleReporter() as reporter:
        reporter.phase(f"compare the runs of {results}")
        from testbed.pipeline.restore import restore
        from testbed.reporting.compare import compare_folder

        restore(results, reporter, workers=options.workers_of(None))
        comparison = compare_folder(results, reporter.progress)
    write_text_atomically(results / "comparison.json", comparison.text)
    show_comparison(console, comparison)
    print_path(console, results / "comparison.json")


def report(
    results: Results,
    anew: Annotated[
        bool,
        typer.Option("--anew", help="First fit and simulate again, from the real runs, as this version of kis does."),
    ] = False,
    workers: options.WorkerCount = None,
) -> None:
    """Of a calibration, a simulated cluster's run, an experiment, an evaluation, a comparison of devices or a study.

    Example: [bold]kis report results/20260101-120000-calibrate[/bold]
    """
    with ConsoleReporter() as reporter:
        reporter.phase(f"report of {results}")
        from testbed.pipeline.restore import restore
        from testbed.reporting.reports import report_of

        if anew:
            from testbed.pipeline.anew import compute_anew

            compute_anew(results, reporter, options.workers_of(workers))
        restore(results, reporter, workers=options.workers_of(workers))  # what an archived folder lacks
        page = report_of(results).write(results, reporter.progress)
    print_path(console, page)


def show_comparison(console: Console, comparison: Comparison) -> None:
    """One line a run: P95 real and simulated, the error, and the real system's own spread."""
    headings = ("P95 real\nms", "P95 sim\nms", "error\n%", "spread\n%", "KS", "util.")
    rows = table("run", *headings, caption="-: not measured")
    for row in comparison.runs:
        rows.add_row(
            f"{row.run_id} [red]INVALID[/red]" if row.valid is False else row.run_id,
            shown(row.p95_real_ms),
            shown(row.p95_sim_ms),
            shown(row.p95_error_pct, "+.1f"),
            shown(row.repeat_spread_pct, ".1f"),
            shown(row.ks, ".3f"),
            shown(row.utilisation),
        )
    console.print(rows)
