"""The report of a training, or of one for each seed: does the policy beat the baselines, and what does it do?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from loadgen.artifact import read_json
from testbed.config_file import build
from testbed.errors import ReportError
from testbed.kiscaler.learner import METHODS
from testbed.kiscaler.train_config import TrainConfig
from testbed.reporting.figures.evaluation import ScalingTimeline, timelines
from testbed.reporting.labels import number
from testbed.reporting.report import Content, Report
from testbed.reporting.training import (
    ACTING,
    BASELINES,
    EPISODES,
    TRAINED,
    Curve,
    learning_curves,
    median_of,
    passed,
    read_baselines,
    read_curves,
    sentence,
)

AGAIN = "run `kis train` again with this folder"


def gather(folder: Path) -> Content:
    """Of its configuration, its curves, and what its policies did."""
    config, seeds = _configuration(folder)
    curves, baselines = _curves(folder, seeds), read_baselines([folder])
    shown = _shown(config, baselines)
    episodes = _episodes(folder / EPISODES, shown) if (folder / EPISODES).exists() else {}
    drawn = {"curves": partial(learning_curves, curves, baselines)}
    pictures = {"curves.png": drawn["curves"]}
    if episodes:
        drawn["episodes"] = pictures["figures/episodes.png"] = partial(timelines, episodes)
    values = {
        "name": folder.resolve().name,
        "config": config,
        "method": METHODS.find(config.method).title,
        "model": config.cluster.models[0].name,
        "sentence": found(folder),
        "trained": read_json(folder / "policy.json", AGAIN)["trained"],
        "seeds": seeds,
        "rows": {TRAINED: _exported(curves), **baselines},
        "oracles": _oracles(config, baselines),
        "passed": passed(median_of(curves), baselines),
        "acts": _acts(config, _exported(curves)[ACTING]),
        "shown": shown,
        "episodes": bool(episodes),
    }
    return Content(values, drawn, pictures)


def found(folder: Path) -> str:
    """Does the policy beat the baselines?"""
    config, seeds = _configuration(folder)
    if config.control is not None:
        return f"A control ({config.control}), to compare a training with: it scales nothing."
    baselines = read_baselines([folder])
    return sentence(_exported(_curves(folder, seeds)), baselines, _oracles(config, baselines))


def _configuration(folder: Path) -> tuple[TrainConfig, list[int]]:
    """And the seeds, if each has a training of its own."""
    if (file := folder / "seeds.json").exists():
        told = read_json(file, AGAIN)
        return build(TrainConfig, told["configuration"], str(file)), [int(seed) for seed in told["seeds"]]
    return build(TrainConfig, read_json(folder / "train.json", AGAIN), str(folder / "train.json")), []


def _curves(folder: Path, seeds: list[int]) -> list[Curve]:
    curves = read_curves([folder / f"seed-{seed}" for seed in seeds] or [folder])
    if not curves:
        raise ReportError(f"{folder} has no evaluation yet: {AGAIN}")
    return curves


def _exported(curves: list[Curve]) -> dict[str, float]:
    """The evaluation whose policy was exported: the best of all."""
    best = max(curves, key=lambda curve: float(curve["reward"].max()))
    at = int(best["reward"].argmax())
    return {name: float(values[at]) for name, values in best.items()}


def _acts(config: TrainConfig, share: float) -> str:
    """In how many of its decisions the policy does something; empty: it was not counted."""
    if np.isnan(share):
        return ""
    otherwise = "it had asked for before" if config.base is None else f"the {config.base} that it corrects proposes"
    told = f"In {number(100 * share, 1, '%')} of its decisions the exported policy asks for another number of replicas"
    return f"{told} than {otherwise}."


def _oracles(config: TrainConfig, baselines: Mapping[str, Any]) -> list[str]:
    """Baselines that know the arrivals to come."""
    return [name for name in baselines if config.baselines.get(name, {}).get("kind") == "oracle"]


def _shown(config: TrainConfig, baselines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The policies that are drawn step by step: the trained one, the best baseline, and one that knows the arrivals."""
    oracles = _oracles(config, baselines)
    rivals = sorted((name for name in baselines if name not in oracles), key=lambda name: -baselines[name]["reward"])
    return [TRAINED, *rivals[:1], *oracles[:1]]


def _episodes(file: Path, shown: list[str]) -> dict[str, list[ScalingTimeline]]:
    """By scenario: the policies that are shown."""
    table = pd.read_csv(file)
    by_scenario: dict[str, list[ScalingTimeline]] = {}
    for scenario, rows in table.groupby("scenario"):
        of_policy = {name: rows[rows["policy"] == name] for name in shown}
        lines = [_timeline(name, steps) for name, steps in of_policy.items() if len(steps) > 1]
        by_scenario[f"scenario {scenario}"] = lines
    return {name: lines for name, lines in by_scenario.items() if lines}


def _timeline(policy: str, steps: pd.DataFrame) -> ScalingTimeline:
    """From the first step's end on."""
    time_s = steps["time_s"].to_numpy(dtype=float)
    seconds = np.diff(time_s, prepend=2 * time_s[0] - time_s[1])
    arrived, missed = (steps[name].to_numpy(dtype=float) / seconds for name in ("arrived", "missed"))
    asked, ready = (steps[name].to_numpy(dtype=float) for name in ("asked", "ready"))
    return ScalingTimeline(policy, time_s, arrived, asked, ready, missed)


REPORT = Report(
    "training",
    BASELINES,
    "kis train",
    gather,
    question="Does an autoscaler that learns in the simulator beat the others?",
    found=found,
)
