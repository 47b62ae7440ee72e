"""The same training with several seeds: one folder each, and the best of them.

Files in results/<name>/: seed-1/, seed-2/, ... (a training each: train.py), baselines.json, and after each evaluation
curves.png, seeds.json (each seed's best evaluation, and when their median passes each baseline), policy.onnx and
policy.json of the best seed. That one is the best of several on the scenarios that chose it: judge it on others (`kis
evaluate`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from loadgen.artifact import read_json
from testbed.autoscaling.policy_file import read_pair, write_pair
from testbed.errors import ConfigError
from testbed.kiscaler.build import scenarios_of
from testbed.kiscaler.evaluation import Evaluation, read_curve, write_baselines
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train import Progress, train
from testbed.kiscaler.train_config import TrainConfig
from testbed.reporting.training import BASELINES, baselines_passed, save_curves
from testbed.study import refuse_others
from workloads.files import write_json

OnEvaluation = Callable[[int, Evaluation], None]  # told the seed


class Training(NamedTuple):
    """One of several: its configuration has its seed."""

    config: TrainConfig
    folder: Path


Runner = Callable[[Sequence[Training], Scenarios, OnEvaluation, Progress], None]


def one_after_another(
    trainings: Sequence[Training], scenarios: Scenarios, on_evaluation: OnEvaluation, progress: Progress
) -> None:
    """A Runner in this process: a training's environments keep the machine's cores busy already."""
    for number, (config, folder) in enumerate(trainings):

        def of_all(share: float, before: int = number) -> None:
            progress((before + share) / len(trainings))

        train(config, folder, partial(on_evaluation, config.seed), of_all, scenarios)


def train_seeds(
    config: TrainConfig,
    seeds: Sequence[int],
    folder: Path,
    on_evaluation: OnEvaluation,
    progress: Progress,
    run: Runner = one_after_another,
) -> Path:
    """Train each seed, or go on with those that were interrupted; returns policy.onnx, of the best seed.

    Seeds that the folder was given before stay in it, and go on too. ConfigError if it is of another configuration.
    """
    settings = config.model_dump(mode="json", exclude={"seed"})
    seeds = [*(earlier := _seeds_before(folder, config)), *(seed for seed in seeds if seed not in earlier)]
    trainings = [Training(config.model_copy(update={"seed": seed}), folder / f"seed-{seed}") for seed in seeds]
    scenarios = scenarios_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_baselines(config, scenarios, folder)
    for training in trainings:
        training.folder.mkdir(exist_ok=True)
        if not (training.folder / BASELINES).exists():  # the scenarios that judge are the same for every seed
            shutil.copy(folder / BASELINES, training.folder)

    def tell(seed: int, evaluation: Evaluation) -> None:
        _summarise(trainings, settings, folder)
        on_evaluation(seed, evaluation)

    _summarise(trainings, settings, folder)
    run(trainings, scenarios, tell, progress)
    _summarise(trainings, settings, folder)
    return folder / "policy.onnx"


def folders_in(folder: Path) -> list[Path]:
    """Of all seeds that a folder of train_seeds has."""
    summary = read_json(folder / "seeds.json", "give the folder of a training with --seeds")
    return [folder / f"seed-{seed}" for seed in summary["seeds"]]


def _seeds_before(folder: Path, config: TrainConfig) -> list[int]:
    """Those that the folder was given before."""
    if (folder / "train.json").exists():
        raise ConfigError(f"{folder} is of one training: choose another folder for several seeds")
    if not (folder / "seeds.json").exists():
        return []
    before = read_json(folder / "seeds.json", "choose another folder")
    refuse_others(config, {**before["configuration"], "seed": config.seed}, folder / "seeds.json")
    return [int(seed) for seed in before["seeds"]]


def _summarise(trainings: Sequence[Training], settings: dict[str, Any], folder: Path) -> None:
    """curves.png, policy.onnx, policy.json and seeds.json, from what the trainings have left so far."""
    folders = [training.folder for training in trainings]
    best = {training.config.seed: _best(training.folder) for training in trainings}
    judged = {
        training.config.seed: evaluation
        for training in trainings
        if (evaluation := best[training.config.seed]) is not None and (training.folder / "policy.json").exists()
    }
    chosen = max(judged, key=lambda seed: judged[seed].reward) if judged else None
    save_curves(folders, folder / "curves.png")
    if chosen is not None:
        _copy_policy(folder / f"seed-{chosen}", folder, {"seed": chosen, "best_of_seeds": sorted(judged)})
    summary = {
        "simulated": True,
        "best": chosen,
        "seeds": {seed: None if evaluation is None else evaluation._asdict() for seed, evaluation in best.items()},
        "baselines_passed": [passed._asdict() for passed in baselines_passed(folders)],
        "configuration": settings,
    }
    write_json(folder / "seeds.json", summary)


def _best(folder: Path) -> Evaluation | None:
    """The evaluation whose policy a training has exported."""
    return max(read_curve(folder / "curve.csv"), key=lambda evaluation: evaluation.reward, default=None)


def _copy_policy(source: Path, to: Path, provenance: dict[str, Any]) -> None:
    pair = read_pair(source / "policy.onnx")
    named = pair.description.model_copy(update={"trained": {**pair.description.trained, **provenance}})
    write_pair(to / "policy.onnx", pair.network, named)
