"""`kis adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import print_path
from testbed.config import build, load_config
from testbed.pipeline import adaptation


def adapt(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML); flags override it.")],
    quiet_runs: Annotated[int | None, typer.Option("--quiet-runs", help="Runs without drift.")] = None,
    workers: options.WorkerCount = None,
    ray: options.Ray = None,
    out: options.Out = None,
) -> None:
    """A service that drifts in KISim: found, recalibrated, judged, promoted; beside the same without adaptation.

    Example: [bold]kis adapt testbed/configs/adaptation.yaml[/bold]
    A real deployment: [bold]kis controller C --policy P --adapt testbed/configs/adapt-controller.yaml[/bold]
    """
    settings = load_config(config, adaptation.AdaptRunConfig)
    changed: dict[str, Any] = {} if quiet_runs is None else {"quiet_runs": quiet_runs}
    settings = build(adaptation.AdaptRunConfig, {**settings.model_dump(exclude_unset=True), **changed}, "flags")
    folder = options.out_folder(out, "adapt")
    console = Console()
    with ConsoleNarrator(console) as narrator:
        drift = settings.run.faults[0]
        narrator.phase(
            f"{settings.run.duration_s:g} s of {settings.model}, batches {drift.slow_down:g} x as long from "
            f"{drift.at_s:g} s on; {settings.quiet_runs} runs without drift"
        )
        found = adaptation.adapt(settings, folder, narrator.progress, options.workers_of(workers, ray))
    for time_s, state, why in found["states"]:
        console.print(f"{time_s:7.0f} s  {state:<13}  {why}", highlight=False, soft_wrap=True)
    over, quiet = found["over_target"], found["quiet"]
    console.print(
        f"over target: {_share(over['before'])} before, {_share(over['adapted'])} after the adaptation, "
        f"{_share(over['not_adapted'])} without one (simulated)",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"{quiet['without_a_step']} of {quiet['runs']} runs without drift took no step ({quiet['seconds']:g} s each)",
        highlight=False,
        soft_wrap=True,
    )
    print_path(console, folder / "adaptation.json")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
