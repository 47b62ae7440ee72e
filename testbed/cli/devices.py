"""`kis devices`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import print_path
from testbed.config import load_config
from testbed.pipeline.devices import DevicesConfig, compare_devices
from testbed.reporting.reports.devices import claim


def devices(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML).")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; one that was interrupted is continued.")
    ] = None,
) -> None:
    """CPU against GPU: the same traffic on the same model on both, how many times slower, with an interval.

    Example: [bold]kis devices testbed/configs/devices.yaml[/bold]
    Continue after an interrupt: [bold]kis devices testbed/configs/devices.yaml --out results/that-folder[/bold]
    """
    settings = load_config(config, DevicesConfig)
    folder = options.out_folder(out, "devices")
    console = Console()
    with ConsoleNarrator(console) as narrator:
        page = compare_devices(settings, folder, narrator)
    show_devices(console, json.loads((folder / "ratios.json").read_text()))
    print_path(console, page)


def show_devices(console: Console, found: dict[str, Any]) -> None:
    """A sentence a study, what is wrong with it, and a line a run."""
    table = Table(box=SIMPLE, caption="-: not measured", pad_edge=False)
    table.add_column("run", overflow="fold")
    for heading in ("P50 ms", "P95 ms", "mean ms", "requests/s", "busy %"):
        table.add_column(heading, justify="right")
    for study in found["studies"]:
        for row in study["runs"]:
            mark = "" if row["valid"] else " [red]INVALID[/red]"
            mark += " [red]SATURATED[/red]" if row["saturated"] else ""
            busy = None if row["utilisation"] is None else 100 * row["utilisation"]
            values = (row["p50_ms"], row["p95_ms"], row["mean_ms"])
            table.add_row(
                f"{escape(row['run_id'])}{mark}",
                *(_shown(value, ".1f") for value in values),
                _shown(row["throughput_rps"], ".2f"),
                _shown(busy, ".0f"),
            )
    console.print(table)
    for study in found["studies"]:
        for reason in study["reasons"]:
            console.print(f"[red]INVALID[/red] {escape(reason)}", highlight=False)
        for label in study["saturated"]:
            console.print(f"[red]SATURATED[/red] {study['model']} on {label}: lower the rate", highlight=False)
        console.print(escape(claim(study)), highlight=False)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
