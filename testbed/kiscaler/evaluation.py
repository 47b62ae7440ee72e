"""How good a policy is, in the scenarios that judge: a row of curve.csv for the learning one, of baselines.json for
each other."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadgen.artifact import read_csv_rows
from testbed.kiscaler.baselines import play_baselines
from testbed.kiscaler.control import Shuffled
from testbed.kiscaler.env import ScalingEnv
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train_config import TrainConfig
from testbed.reporting.training import BASELINES
from workloads.files import finite, write_json

EVALUATION_SEED = 10_000_000  # scenarios from here on are for judging; training draws its own below 2**31 at random


class Evaluation(NamedTuple):
    """Means over the evaluation's scenarios. gpu: share of what max_replicas would hold.

    steps: decisions that were learned from, seconds: wall clock of the training so far; both 0 of a baseline. acting:
    share of decisions whose action makes another number of replicas than no action would (the same as before, or what
    the base rule proposes); None: of a baseline, or of a curve from before it was counted.
    """

    steps: int
    reward: float
    slo_violation_rate: float
    gpu: float
    churn: float
    seconds: float = 0.0
    acting: float | None = None


def evaluate(
    env: ScalingEnv | Shuffled, choose: Callable[[npt.NDArray[np.float32]], int], count: int, steps: int = 0
) -> Evaluation:
    """Play each of `count` evaluation scenarios once."""
    sums = np.zeros(5)
    for number in range(count):
        observation, _ = env.reset(options={"scenario_seed": EVALUATION_SEED + number})
        over = False
        while not over:
            observation, reward, _, over, parts = env.step(np.int64(choose(observation)))
            sums += (float(reward), parts["slo_violation_rate"], parts["gpu"], parts["churn"], parts["acted"])
    *means, acting = (sums / (count * env.steps)).tolist()
    return Evaluation(steps, *means)._replace(acting=acting)


def write_baselines(
    config: TrainConfig, scenarios: Scenarios, folder: Path, on_progress: Callable[[float], None] = lambda _: None
) -> None:
    """baselines.json: a row of curve.csv for each, by its name; they are played once, as the configuration stays."""
    file = folder / BASELINES
    if file.exists():
        return
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + config.evaluation_scenarios)
    played = play_baselines(config.baselines, scenarios, config.weights, config.episode_steps, seeds, on_progress)
    write_json(file, {name: Evaluation(0, *means)._asdict() for name, means in played.items()})


def read_curve(file: Path) -> list[Evaluation]:
    """Every evaluation so far; ArtifactError if the file has other columns."""
    return read_csv_rows(file, _evaluation, "train in another folder") if file.exists() else []


def _evaluation(row: Mapping[str, str]) -> Evaluation:
    told = Evaluation(int(row["steps"]), *(finite(row[name]) for name in Evaluation._fields[1:-1]))
    return told._replace(acting=finite(row["acting"])) if row.get("acting") else told


def append_to_curve(file: Path, evaluation: Evaluation) -> None:
    """Its row, after the header if it is the first."""
    new = not file.exists()
    with file.open("a", newline="") as rows:
        writer = csv.writer(rows)
        writer.writerows([Evaluation._fields, evaluation] if new else [evaluation])
