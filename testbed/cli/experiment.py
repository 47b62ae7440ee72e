"""`kis experiment`."""

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
from testbed.config import load_config
from testbed.pipeline.experiment import run_experiment
from testbed.pipeline.experiment_config import ExperimentConfig
from testbed.reporting.experiment import read_experiment, rows_of, summary_of
from testbed.serving.kubernetes_api import api_client


def experiment(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML).")],
    kubeconfig: Annotated[Path | None, typer.Option("--kubeconfig", help="[default: KUBECONFIG]")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; one that was interrupted is continued.")
    ] = None,
) -> None:
    """Autoscalers on a real deployment and in KISim: each traffic under each policy, both beside each other.

    Example: [bold]kis experiment testbed/configs/experiment.yaml[/bold]
    Continue after an interrupt: [bold]kis experiment testbed/configs/experiment.yaml --out results/that-folder[/bold]
    """
    settings = load_config(config, ExperimentConfig)
    folder = options.out_folder(out, "experiment")
    console = Console()
    with ConsoleNarrator(console) as narrator:
        page = run_experiment(settings, folder, api_client(kubeconfig), kubeconfig, narrator)
    show_experiment(console, folder)
    print_path(console, page)


def show_experiment(console: Console, folder: Path) -> None:
    """One line a real run, and the correlations."""
    rows = rows_of(read_experiment(folder))
    table = Table(box=SIMPLE, caption="real above simulated; -: not measured", pad_edge=False)
    table.add_column("run", overflow="fold", min_width=20)
    for heading in ("P95 ms", "error %", "over target %", "replica-s", "error %", "changes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row['run_id']} [red]INVALID[/red]" if row["valid"] is False else row["run_id"],
            _both(row, "p95_ms", ".1f"),
            _shown(row["p95_ms_error_pct"], "+.1f"),
            f"{100 * row['missed_share_real']:.2f}\n{100 * row['missed_share_sim']:.2f}",
            _both(row, "replica_seconds", ".1f"),
            _shown(row["replica_seconds_error_pct"], "+.1f"),
            _both(row, "changes", ".0f"),
        )
    console.print(table)
    summary = summary_of(rows)
    for cost, one in summary["pairs"].items():
        within = f"{one['within']} of {one['pairs']} pairs within {one['bar_pct']:g} %"
        console.print(f"{cost}, means of repeats: {within}, worst {_shown(one['worst_pct'], '.1f')} %", highlight=False)
    for cost, share in summary["within_simulated_range"].items():
        console.print(f"real {cost} within 90 % of the simulated runs: {_shown(share, '.0%')}", highlight=False)
    for cost, found in summary["srcc"].items():
        told = ", ".join(f"{name} {_shown(value, '.3f')}" for name, value in found.items())
        console.print(f"sim-vs-real correlation of {cost}: {told}", highlight=False)


def _both(row: dict[str, float | None], name: str, form: str) -> str:
    return f"{_shown(row[f'{name}_real'], form)}\n{_shown(row[f'{name}_sim'], form)}"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
