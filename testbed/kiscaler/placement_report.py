"""A trained placement beside its baselines, on worlds that neither training nor its evaluations have seen.

    python -m testbed.kiscaler.placement_report FOLDER

FOLDER is of a `kis train` with placement. Files there: placement.csv (one row a world and chooser), placement.md (means
over worlds, and paired differences of rewards with Student's intervals). The parameters of the reactive baselines are
those with the best mean reward on worlds of their own.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import onnxruntime
from rich.console import Console

from testbed.autoscaling.policy_file import read_pair
from testbed.config import load_config
from testbed.errors import ConfigError
from testbed.kiscaler.placement_baselines import CheapestMix, Choose, Fixed, Foreseeing, at_random
from testbed.kiscaler.placement_env import PlacementEnv
from testbed.kiscaler.train import TrainConfig, make_env, scenarios_of
from testbed.statistics import mean_interval
from workloads.errors import KisError
from workloads.files import replacing, write_text_atomically

TUNING_SEED, REPORT_SEED = 20_000_000, 30_000_000  # beside train.EVALUATION_SEED
TUNING_WORLDS, REPORT_WORLDS = 16, 60
HELD, HEADROOM, SHARES = (0.5, 1.0, 3.0, 10.0), (1.0, 1.15, 1.3), (0.4, 0.6, 0.8, 1.0)
C = TypeVar("C", bound=Choose)


class Episode(NamedTuple):
    """Means over one world's steps: see Evaluation."""

    chooser: str
    world: int
    price: float
    reward: float
    missed: float
    gpu: float
    churn: float


def play(env: PlacementEnv, name: str, choose: Choose, world: int) -> Episode:
    """One episode of that world."""
    env.reset(options={"scenario_seed": world})
    sums, over = np.zeros(4), False
    while not over:
        _, reward, _, over, parts = env.step(np.int64(choose(env)))
        sums += (reward, parts["missed"], parts["gpu"], parts["churn"])
    return Episode(name, world, env.world.scale.price, *(sums / env.steps).tolist())


def best_of(env: PlacementEnv, tried: Iterable[C]) -> C:
    """The one with the best mean reward on the tuning worlds."""

    def mean(one: C) -> float:
        return float(np.mean([play(env, "", one, TUNING_SEED + k).reward for k in range(TUNING_WORLDS)]))

    return max(tried, key=mean)


class Trained:
    """The exported network's greedy action."""

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            read_pair(file).network, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, env: PlacementEnv) -> int:
        """See Choose."""
        (logits,) = self._session.run(None, {"features": env.seen[np.newaxis]})
        return int(np.argmax(logits[0]))


def choosers_of(env: PlacementEnv, policy: Path) -> dict[str, Choose]:
    """By name: trained, heuristics, and random."""
    found: dict[str, Choose] = {"trained": Trained(policy)}
    for kind in (None, *env.scenarios.mixes.names):
        best = best_of(env, [CheapestMix(held, headroom, kind) for held, headroom in product(HELD, HEADROOM)])
        label = "cheapest mix" if kind is None else f"{kind} only"
        found[f"{label} (held {best.held:g}, headroom {best.headroom:g})"] = best
    fixed = best_of(env, [Fixed(share) for share in SHARES])
    found[f"fixed mix (for {fixed.share:.0%} of the most)"] = fixed
    return {**found, "cheapest mix that knows the traffic": Foreseeing(), "random": at_random(1)}


def table_of(episodes: Sequence[Episode]) -> str:
    """Markdown: means over worlds, and how much larger the first chooser's reward is (Student's t over worlds)."""
    by: dict[str, list[Episode]] = {}
    for one in episodes:
        by.setdefault(one.chooser, []).append(one)
    first, *_ = by.values()
    lines = [
        "| chooser | reward a step | over target | GPU cost | churn | first's reward is larger by (95 %) |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for name, mine in by.items():
        reward, missed, gpu, churn = (float(np.mean([one[k] for one in mine])) for k in range(3, 7))
        differences = np.array([a.reward - b.reward for a, b in zip(first, mine, strict=True)])
        lines.append(
            f"| {name} | {reward:.4f} | {missed:.2%} | {gpu:.1%} | {churn:.3f} | "
            f"{'' if mine is first else _interval(differences)} |"
        )
    return "\n".join(lines) + "\n"


def _interval(differences: np.ndarray) -> str:
    found = mean_interval(differences, 0.95)
    return f"{differences.mean():+.4f}" + (f" ({found.low:+.4f}..{found.high:+.4f})" if found else "")


def report(folder: Path, worlds: int = REPORT_WORLDS) -> str:
    """Play all choosers on all worlds, write the files, and return the table."""
    config = load_config(folder / "train.json", TrainConfig)
    env = make_env(config, scenarios_of(config))
    if not isinstance(env, PlacementEnv):
        raise ConfigError(f"{folder} is a training without `placement`: give the folder of one with it")
    choosers: Mapping[str, Choose] = choosers_of(env, folder / "policy.onnx")
    episodes = [play(env, name, one, REPORT_SEED + k) for name, one in choosers.items() for k in range(worlds)]
    with replacing(folder / "placement.csv") as temporary, temporary.open("w", newline="") as rows:
        csv.writer(rows).writerows([Episode._fields, *episodes])
    told = table_of(episodes)
    write_text_atomically(folder / "placement.md", told)
    return told


def main(arguments: Sequence[str]) -> int:
    """FOLDER of a training."""
    console = Console(soft_wrap=True)
    if len(arguments) != 1:
        console.print("usage: python -m testbed.kiscaler.placement_report FOLDER", markup=False)
        return 2
    try:
        console.print(report(Path(arguments[0])), markup=False)
    except KisError as error:
        console.print(str(error), markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
