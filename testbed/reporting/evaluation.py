"""An evaluation in numbers: each policy beside the baseline, run by run, and which of them no other one beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.loading import read_json
from testbed.reporting.page import environment
from testbed.reporting.pictures import LOOK

RESAMPLES = 4000
FloatArray = npt.NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]


def summary_of(rows: Rows, baseline: str) -> dict[str, Any]:
    """Means of each policy, its paired differences from the baseline with 90 % intervals, and the Pareto front.

    saving_pct: of GPU-seconds, in per cent of the baseline's. Intervals are of a bootstrap over (traffic, seed): whole
    pairs are drawn again.
    """
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    tables = {policy: table_of(rows, policy) for policy in policies}
    told = {}
    for policy in policies:
        mine, theirs = tables[policy], tables[baseline]
        told[policy] = {
            "slo_miss": float(mine[:, 0].mean()),
            "gpu_seconds": float(mine[:, 1].mean()),
            "changes": float(np.mean([row["changes"] for row in rows if row["policy"] == policy])),
            **_paired(mine, theirs),
        }
    points = np.array([[told[policy]["slo_miss"], told[policy]["gpu_seconds"]] for policy in policies])
    best = front(points)
    return {
        "policies": told,
        "pareto_front": [policy for policy, on in zip(policies, best, strict=True) if on],
        "hypervolume": hypervolume(points),
    }


def table_of(rows: Rows, policy: str) -> FloatArray:
    """float[n, 2]: share missed and GPU-seconds of each of a policy's runs, in the order of traffic and seed."""
    mine = sorted((row for row in rows if row["policy"] == policy), key=lambda row: (row["traffic"], row["seed"]))
    return np.array([[1.0 if row["slo_miss"] is None else row["slo_miss"], row["gpu_seconds"]] for row in mine])


def _paired(mine: FloatArray, theirs: FloatArray) -> dict[str, float]:
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(mine), size=(RESAMPLES, len(mine)))

    def saving(of: npt.NDArray[np.int64]) -> FloatArray:
        return np.asarray(100 * (1 - mine[of, 1].sum(axis=-1) / theirs[of, 1].sum(axis=-1)))

    def difference(of: npt.NDArray[np.int64]) -> FloatArray:
        return np.asarray((mine[of, 0] - theirs[of, 0]).mean(axis=-1))

    every = np.arange(len(mine))
    low, high = np.quantile(saving(drawn), (0.05, 0.95))
    least, most = np.quantile(difference(drawn), (0.05, 0.95))
    return {
        "saving_pct": float(saving(every)),
        "saving_low_pct": float(low),
        "saving_high_pct": float(high),
        "slo_miss_difference": float(difference(every)),
        "slo_miss_difference_low": float(least),
        "slo_miss_difference_high": float(most),
    }


def front(points: FloatArray) -> npt.NDArray[np.bool_]:
    """bool[n]: no other point is as good in both columns and better in one. Less is better."""
    as_good = np.all(points[None] <= points[:, None], axis=2)
    better = np.any(points[None] < points[:, None], axis=2)
    return np.asarray(~np.any(as_good & better, axis=1))


def hypervolume(points: FloatArray) -> float:
    """Share of the box between the origin and the worst of each column that the front dominates (two columns)."""
    worst = points.max(axis=0)
    if (worst <= 0).any():
        return 0.0
    ordered = points[front(points)] / worst
    ordered = ordered[np.argsort(ordered[:, 0])]
    edges = np.append(ordered[:, 0], 1.0)
    return float(np.sum(np.diff(edges) * (1.0 - np.minimum.accumulate(ordered[:, 1]))))


def write_evaluation_report(folder: Path) -> Path:
    """report.md and pareto.png, from evaluation.json; returns report.md."""
    found = read_json(folder / "evaluation.json", "run `kis evaluate` again")
    save_pareto(found, folder / "pareto.png")
    page = folder / "report.md"
    page.write_text(
        environment(html=False).get_template("evaluation.md.j2").render(c=found, name=folder.resolve().name)
    )
    return page


def save_pareto(found: Mapping[str, Any], file: Path) -> None:
    """Share over the target against GPU-seconds: one point a policy, small ones its runs."""
    with rc_context(LOOK):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        panel = figure.subplots()
        for number, (policy, one) in enumerate(found["policies"].items()):
            mine = [row for row in found["rows"] if row["policy"] == policy]
            colour = f"C{number % 10}"
            missed = [100 * (1.0 if row["slo_miss"] is None else row["slo_miss"]) for row in mine]
            panel.scatter([row["gpu_seconds"] for row in mine], missed, s=6, color=colour, alpha=0.25, linewidths=0)
            marker = "o" if policy in found["pareto_front"] else "x"
            panel.scatter(
                [one["gpu_seconds"]], [100 * one["slo_miss"]], s=60, color=colour, marker=marker, label=policy
            )
        panel.set_xlabel("GPU-seconds a run")
        panel.set_ylabel("requests over the target, %")
        panel.set_ylim(bottom=0)
        panel.legend(fontsize=7, title="crosses: another is better in both", title_fontsize=7)
        figure.savefig(file, dpi=130)
