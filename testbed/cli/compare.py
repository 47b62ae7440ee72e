"""`kis compare` and `kis report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import print_path
from testbed.pipeline.anew import compute_anew
from testbed.pipeline.restore import restore
from testbed.reporting.compare import Comparison, compare_folder
from testbed.reporting.reports import write_report
from workloads.files import write_text_atomically

Results = Annotated[Path, typer.Argument(help="A results folder of `kis calibrate`.")]


def compare(results: Results) -> None:
    """Compare the simulated runs of a results folder with the real ones; writes comparison.json and shows the table.

    Example: [bold]kis compare results/20260101-120000-calibrate[/bold]
    """
    console = Console()
    _restored(console, results)
    comparison = compare_folder(results)
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
    """Write the report of a results folder, a simulated cluster's run, an experiment, an evaluation or devices, again.

    Example: [bold]kis report results/20260101-120000-calibrate[/bold]
    """
    console = Console()
    if anew:
        with ConsoleNarrator(console) as narrator:
            compute_anew(results, narrator, options.workers_of(workers))
    _restored(console, results, workers)
    print_path(console, write_report(results))


def _restored(console: Console, results: Path, workers: int | None = None) -> None:
    """An archived folder gets its runs back first."""
    with ConsoleNarrator(console) as narrator:
        restore(results, narrator, workers=options.workers_of(workers))


def show_comparison(console: Console, comparison: Comparison) -> None:
    """One line a run: P95 real and simulated, the error, and the real system's own spread."""
    table = Table(box=SIMPLE, caption="-: not measured", pad_edge=False)
    table.add_column("run", overflow="fold")
    for heading in ("P95 real\nms", "P95 sim\nms", "error\n%", "spread\n%", "KS", "util."):
        table.add_column(
            heading, justify="right", no_wrap=True, min_width=max(map(len, [*heading.split("\n"), "0.000"]))
        )
    for row in comparison.runs:
        table.add_row(
            f"{row.run_id} [red]INVALID[/red]" if row.valid is False else row.run_id,
            _shown(row.p95_real_ms),
            _shown(row.p95_sim_ms),
            _shown(row.p95_error_pct, "+.1f"),
            _shown(row.repeat_spread_pct, ".1f"),
            _shown(row.ks, ".3f"),
            _shown(row.utilisation),
        )
    console.print(table)


def _shown(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else f"{value:{form}}"
