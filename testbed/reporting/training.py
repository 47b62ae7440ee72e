"""Trainings: learning curves of one or of one for each seed, their median, the baselines that they are compared with,
and what a policy that was exported does in some scenarios.

A training's folder has curve.csv, a row an evaluation (steps: decisions so far, seconds: wall clock so far; reward,
slo_violation_rate, gpu, churn, acting: means over the evaluation's scenarios), and baselines.json, a row of the same
names for each other policy. A folder with an exported policy has episodes.csv, a row a step of each policy
(EpisodeRow).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadgen.artifact import read_json
from testbed.reporting.drawing import LOOK, SIMULATED, WIDTH, FloatArray, save_png
from testbed.reporting.labels import number

Curve = Mapping[str, FloatArray]  # by the names of curve.csv's columns, float64[evaluations] each
Baselines = Mapping[str, Mapping[str, float]]
BASELINES = "baselines.json"
EPISODES, TRAINED = "episodes.csv", "trained"
COLUMNS = ("steps", "seconds", "reward", "slo_violation_rate", "gpu", "churn")
ACTING = "acting"  # a column that older curves do not have
AXES = {"decisions": ("steps", 1.0), "minutes": ("seconds", 1 / 60)}  # of a picture: its column, and the factor


class EpisodeRow(NamedTuple):
    """A row of episodes.csv. arrived, missed: requests of the step that ends at time_s; asked, ready: replicas then."""

    scenario: int
    policy: str
    time_s: float
    arrived: int
    missed: int
    asked: int
    ready: int


class Passed(NamedTuple):
    """steps and minutes: from which evaluation on the reward stays above the baseline's; None: it does not.

    best: the largest reward of an evaluation.
    """

    baseline: str
    reward: float
    steps: int | None
    minutes: float | None
    best: float

    def __str__(self) -> str:
        if self.steps is None:
            when = "at every evaluation" if self.best <= self.reward else "at the end"
            return (
                f"no better than {self.baseline} {when}: best reward {self.best:.3f}, {self.baseline} {self.reward:.3f}"
            )
        return (
            f"above {self.baseline} (reward {self.reward:.3f}) from {self.steps} decisions ({self.minutes:.1f} min) on"
        )


def read_curves(folders: Sequence[Path]) -> list[Curve]:
    """Those of the folders that have one already."""
    files = [folder / "curve.csv" for folder in folders]
    tables = [pd.read_csv(file) for file in files if file.exists()]
    return [_curve(table) for table in tables if len(table)]


def _curve(table: pd.DataFrame) -> Curve:
    """With ACTING, NaN where nobody counted it."""
    counted = {ACTING: table[ACTING]} if ACTING in table else {ACTING: pd.Series(np.nan, table.index)}
    columns = {name: table[name] for name in COLUMNS} | counted
    return {name: column.to_numpy(dtype=np.float64) for name, column in columns.items()}


def read_baselines(folders: Sequence[Path]) -> Baselines:
    """Of the first that has some: they do not depend on a training's seed."""
    for folder in folders:
        if (file := folder / BASELINES).exists():
            baselines: Baselines = read_json(file, "delete it and go on with the training")
            return baselines
    return {}


def median_of(curves: Sequence[Curve]) -> Curve:
    """Column by column, at the steps at which every curve has an evaluation."""
    steps = reduce(np.intersect1d, [curve["steps"] for curve in curves])
    rows = [np.searchsorted(curve["steps"], steps) for curve in curves]
    return {
        name: np.median([curve[name][at] for curve, at in zip(curves, rows, strict=True)], axis=0) for name in COLUMNS
    }


def passed(curve: Curve, baselines: Baselines) -> list[Passed]:
    """When the curve passes each baseline for good."""
    each, best = [], float(np.max(curve["reward"]))
    for name, baseline in baselines.items():
        below = np.flatnonzero(curve["reward"] <= baseline["reward"])
        first = int(below[-1]) + 1 if len(below) else 0
        if first < len(curve["steps"]):
            at = (int(curve["steps"][first]), float(curve["seconds"][first]) / 60)
            each.append(Passed(name, baseline["reward"], *at, best))
        else:
            each.append(Passed(name, baseline["reward"], None, None, best))
    return each


def baselines_passed(folders: Sequence[Path]) -> list[Passed]:
    """When the median of the curves that there are passes each baseline."""
    curves = read_curves(folders)
    return passed(median_of(curves), read_baselines(folders)) if curves else []


def sentence(trained: Mapping[str, float], baselines: Baselines, oracles: Sequence[str]) -> str:
    """Does the policy that was exported beat the others? trained: a row of its curve; oracles: of the baselines, those
    that know the arrivals."""
    own = f"reward {number(trained['reward'], 3)}"
    rivals = {name: row for name, row in baselines.items() if name not in oracles}
    if not rivals:
        return f"The trained policy has {own}; there is no baseline to compare it with."
    best = max(rivals, key=lambda name: rivals[name]["reward"])
    better = [name for name, row in rivals.items() if row["reward"] >= trained["reward"]]
    if len(better) == len(rivals):
        worst = min(rivals, key=lambda name: rivals[name]["reward"])
        other = "the only baseline" if len(rivals) == 1 else "every baseline, even than the worst of them"
        return (
            f'The trained policy is worse than {other}, "{worst}": {own} against '
            f'{number(rivals[worst]["reward"], 3)}. Do not use it: train longer, or use "{best}".'
        )
    compared = f'{number(rivals[best]["reward"], 3)} of "{best}"'
    if better:
        return (
            f"The trained policy does not beat the best baseline: {own} against {compared}"
            f"{_differences(trained, rivals[best])}."
        )
    every = "every baseline that does not know the arrivals" if oracles else "every baseline"
    return f"The trained policy beats {every}: {own} against {compared}{_differences(trained, rivals[best])}."


def _differences(trained: Mapping[str, float], other: Mapping[str, float]) -> str:
    """Beside that baseline: devices and misses."""
    more = 100 * (trained["gpu"] / other["gpu"] - 1) if other["gpu"] else 0.0
    points = 100 * (trained["slo_violation_rate"] - other["slo_violation_rate"])
    held, missed = ("more" if value > 0 else "fewer" for value in (more, points))
    return f"; it holds {number(abs(more), 1, '%')} {held} devices and misses {number(abs(points), 2)} points {missed}"


def save_curves(folders: Sequence[Path], file: Path) -> None:
    """Draw the curves that there are; without one nothing is written."""
    curves = read_curves(folders)
    if curves:
        save_png(learning_curves(curves, read_baselines(folders)), file)


@rc_context(LOOK)
def learning_curves(curves: Sequence[Curve], baselines: Baselines) -> Figure:
    """Reward by decisions and by time, share over the target and devices held: each curve and their median."""
    median = median_of(curves)
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    (by_steps, by_minutes), (missed, gpu) = figure.subplots(2, 2)
    by_minutes.sharey(by_steps)
    _panel(by_steps, curves, median, baselines, "decisions", "reward")
    _panel(by_minutes, curves, median, baselines, "minutes", "reward")
    _panel(missed, curves, median, baselines, "decisions", "slo_violation_rate")
    _panel(gpu, curves, median, baselines, "decisions", "gpu")
    by_steps.set(title="reward of a step, mean of the scenarios that judge (simulated)")
    by_minutes.set(title="the same against wall-clock time of one training")
    missed.set(title="requests over the target, %")
    gpu.set(title="devices held, % of what all replicas would hold")
    handles, labels = by_steps.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, 2 + len(baselines)))
    return figure


def _panel(axes: Axes, curves: Sequence[Curve], median: Curve, baselines: Baselines, along: str, column: str) -> None:
    x, factor = AXES[along]
    scale = 1.0 if column == "reward" else 100.0
    each = "training" if len(curves) == 1 else f"each of {len(curves)} seeds"
    for place, curve in enumerate(curves):
        label = each if place == 0 else None
        axes.plot(factor * curve[x], scale * curve[column], ".-", color=SIMULATED, lw=0.7, ms=3, alpha=0.6, label=label)
    if len(curves) > 1:
        axes.plot(factor * median[x], scale * median[column], color=SIMULATED, linewidth=2.4, label="median")
    for place, (name, baseline) in enumerate(baselines.items()):
        dash = ("--", "-.", ":")[place % 3]
        axes.axhline(scale * baseline[column], color=f"C{place}", linestyle=dash, linewidth=1.2, label=name)
    axes.set_xlabel(along)
    axes.set_xlim(left=0)
    if column != "reward":
        axes.set_ylim(bottom=0)
