"""`kis compare` and `kis report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from testbed.cli.replay import print_path
from testbed.reporting.compare import Comparison, compare_folder
from testbed.reporting.report import write_report

Results = Annotated[Path, typer.Argument(help="A results folder of `kis calibrate`.")]


def compare(results: Results) -> None:
    """Compare the simulated runs of a results folder with the real ones; writes comparison.json and shows the table.

    Example: [bold]kis compare results/20260101-120000-calibrate[/bold]
    """
    comparison = compare_folder(results)
    (results / "comparison.json").write_text(comparison.text)
    console = Console()
    show_comparison(console, comparison)
    print_path(console, results / "comparison.json")


def report(results: Results) -> None:
    """Write the report of a results folder again: report.html, report.md, comparison.json and figures.

    Example: [bold]kis report results/20260101-120000-calibrate[/bold]
    """
    print_path(Console(), write_report(results))


def show_comparison(console: Console, comparison: Comparison) -> None:
    """One line a run: P95 real and simulated, the error, and the real system's own spread."""
    table = Table("run", "", "P95 real", "P95 sim", "error", "spread of repeats", "KS", "utilisation")
    for row in comparison.runs:
        table.add_row(
            row.run_id,
            "" if row.valid else "[red]INVALID[/red]",
            _shown(row.p95_real_ms, "ms"),
            _shown(row.p95_sim_ms, "ms"),
            _shown(row.p95_error_pct, "%", "+.1f"),
            _shown(row.repeat_spread_pct, "%", ".1f"),
            _shown(row.ks, "", ".3f"),
            _shown(row.utilisation, "", ".2f"),
        )
    console.print(table)


def _shown(value: float | None, unit: str, form: str = ".2f") -> str:
    return "not measured" if value is None else f"{value:{form}} {unit}".rstrip()
