"""`kis train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say
from testbed.cli.flags import Given, Short, configured, flags
from testbed.cli.out import out_folder
from testbed.errors import ConfigError
from testbed.kiscaler.learner import METHODS
from testbed.kiscaler.train_config import TrainConfig
from testbed.words import counted

if TYPE_CHECKING:
    from testbed.kiscaler.evaluation import Evaluation


@flags(TrainConfig, usual=["method", Short("--steps", "total_steps"), "seed", "control"])
def train(
    given: Given,
    config: options.Config,
    seeds: Annotated[str | None, typer.Option(help="A training each, e.g. 1,2,3; the best policy is kept.")] = None,
    ray: Annotated[str | None, typer.Option(help="Train the seeds on a Ray cluster: its address, or local.")] = None,
    out: options.Out = None,
) -> None:
    """By PPO, or another --method; it leaves as policy.onnx and policy.json.

    About ten minutes a seed with testbed/configs/train.yaml."""
    settings = configured(TrainConfig, config, given)
    numbers = None if seeds is None else _numbers(seeds)
    if numbers is not None and "seed" in given:
        raise ConfigError("--seed is of one training, --seeds of several: give one of them")
    if numbers is None and ray is not None:
        raise ConfigError("--ray trains several seeds side by side: give --seeds too, e.g. --seeds 1,2,3")
    folder = out_folder(out, "train")
    with ConsoleReporter(folder) as reporter:
        each = "" if numbers is None else f", for each of {len(numbers)} seeds"
        shown = f", {settings.shown_steps:,} decisions shown by a teacher" if settings.shown_steps else ""
        reporter.phase(
            f"{METHODS.find(settings.method).title}: {counted(len(settings.baselines), 'baseline')}{shown}, "
            f"{settings.total_steps:,} decisions of its own, in {counted(settings.environments, 'environment')}{each}"
        )
        from testbed.kiscaler import seeds as many
        from testbed.kiscaler import train as training
        from testbed.kiscaler.on_ray import on_ray
        from testbed.reporting.training import baselines_passed

        run = many.one_after_another if ray is None else on_ray(ray)

        def tell(evaluation: Evaluation, who: str = "") -> None:
            missed, devices = f"over target {evaluation.slo_violation_rate:.2%}", f"devices {evaluation.gpu:.1%}"
            reporter.note(f"{who}{evaluation.steps}: reward {evaluation.reward:.3f}, {missed}, {devices}")

        if numbers is None:
            policy, folders = training.train(settings, folder, tell, reporter.progress), [folder]
        else:
            policy = many.train_seeds(
                settings,
                numbers,
                folder,
                lambda number, evaluation: tell(evaluation, f"seed {number}, "),
                reporter.progress,
                run,
            )
            folders = many.folders_in(folder)
        reporter.phase("the exported policy in some of the scenarios that judge")
        from testbed.kiscaler.build import scenarios_of
        from testbed.kiscaler.episodes import write_episodes
        from testbed.reporting.reports import training as report

        write_episodes(settings, scenarios_of(settings), folder)
        page = report.REPORT.write(folder)
    judged = baselines_passed(folders)
    for passed in judged:
        say(f"{'' if len(folders) == 1 else 'median of the seeds: '}{passed}")
    beaten = bool(judged) and all(passed.steps is None for passed in judged)
    say(report.found(folder), style="red" if beaten else None)
    print_path(console, policy)
    print_path(console, page)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise ConfigError(f"--seeds {text}: give whole numbers with commas between, each once, e.g. --seeds 1,2,3")
    return [int(part) for part in parts]
