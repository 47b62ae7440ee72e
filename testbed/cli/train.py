"""`kis train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import print_path
from testbed.config import build, load_config
from testbed.kiscaler import train as training


def train(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML); flags override it.")],
    steps: Annotated[int | None, typer.Option("--steps", help="Decisions to learn from.")] = None,
    seed: options.Seed = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; a training that was interrupted goes on.")
    ] = None,
) -> None:
    """An autoscaler learns in simulated clusters (PPO); it leaves as policy.onnx and policy.json.

    Example: [bold]kis train testbed/configs/train.yaml --out results/kiscaler[/bold]
    """
    settings = load_config(config, training.TrainConfig)
    given: dict[str, Any] = {"total_steps": steps, "seed": seed}
    changed = {name: value for name, value in given.items() if value is not None}
    settings = build(training.TrainConfig, {**settings.model_dump(exclude_unset=True), **changed}, "flags")
    folder = options.out_folder(out, "train")
    console = Console()
    with ConsoleNarrator(console) as narrator:
        narrator.phase(f"{settings.total_steps} decisions in {settings.environments} processes")

        def tell(found: training.Evaluation) -> None:
            narrator.phase(
                f"{found.steps}: reward {found.reward:.3f}, over target {found.missed:.2%}, devices {found.gpu:.1%}"
            )

        policy = training.train(settings, folder, tell, narrator.progress)
    print_path(console, policy)
