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
from testbed.errors import ConfigError
from testbed.kiscaler import seeds as many
from testbed.kiscaler import train as training
from testbed.kiscaler.evaluation import Evaluation
from testbed.kiscaler.on_ray import on_ray
from testbed.kiscaler.train_config import TrainConfig
from testbed.reporting.training import baselines_passed


def train(
    config: Annotated[Path, typer.Argument(help="Configuration file (YAML); flags override it.")],
    steps: Annotated[int | None, typer.Option("--steps", help="Decisions to learn from.")] = None,
    seed: options.Seed = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="One training for each, e.g. 1,2,3; the best one's policy is kept.")
    ] = None,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="A control: learn from observations of other steps; it must do worse.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Train the seeds on the Ray cluster of this address; local: on this machine."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; a training that was interrupted goes on.")
    ] = None,
) -> None:
    """An autoscaler learns in simulated clusters (PPO); it leaves as policy.onnx and policy.json.

    Example: [bold]kis train testbed/configs/train.yaml --seeds 1,2,3 --out results/kiscaler[/bold]
    """
    settings = load_config(config, TrainConfig)
    given: dict[str, Any] = {"total_steps": steps, "seed": seed, "control": "shuffled" if shuffled else None}
    changed = {name: value for name, value in given.items() if value is not None}
    settings = build(TrainConfig, {**settings.model_dump(exclude_unset=True), **changed}, "flags")
    numbers = None if seeds is None else _numbers(seeds)
    if numbers is not None and seed is not None:
        raise ConfigError("--seed is of one training, --seeds of several: give one of them")
    if numbers is None and ray is not None:
        raise ConfigError("--ray trains several seeds side by side: give --seeds too, e.g. --seeds 1,2,3")
    run = many.one_after_another if ray is None else on_ray(ray)
    folder = options.out_folder(out, "train")
    console = Console()
    with ConsoleNarrator(console) as narrator:
        each = "" if numbers is None else f", for each of {len(numbers)} seeds"
        narrator.phase(f"{settings.total_steps} decisions in {settings.environments} processes{each}")

        def tell(found: Evaluation, who: str = "") -> None:
            told = f"reward {found.reward:.3f}, over target {found.missed:.2%}, devices {found.gpu:.1%}"
            narrator.phase(f"{who}{found.steps}: {told}")

        if numbers is None:
            policy, folders = training.train(settings, folder, tell, narrator.progress), [folder]
        else:
            policy = many.train_seeds(
                settings,
                numbers,
                folder,
                lambda number, found: tell(found, f"seed {number}, "),
                narrator.progress,
                run,
            )
            folders = many.folders_in(folder)
    for one in baselines_passed(folders):
        console.print(f"{'' if len(folders) == 1 else 'median of the seeds: '}{one}", highlight=False, soft_wrap=True)
    print_path(console, policy)


def _numbers(text: str) -> list[int]:
    parts = [one.strip() for one in text.split(",")]
    if not all(one.isdecimal() for one in parts) or len(set(parts)) < len(parts):
        raise ConfigError(f"--seeds {text}: give whole numbers with commas between, each once, e.g. --seeds 1,2,3")
    return [int(one) for one in parts]
