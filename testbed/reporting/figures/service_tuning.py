"""The figure of `kis tune-service`: what a replica serves within the target, against the latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.drawing import INK, LOOK, MUTED, REAL, SYMBOLS, WIDTH


@rc_context(LOOK)
def settings(
    rows: Sequence[Mapping[str, Any]], picks: Sequence[Mapping[str, Any]], target_ms: float, percentile: float
) -> Figure:
    """A symbol for each model and number of instances; hollow: does not hold. A line joins those to which no other is
    better in both. Picks have a number, and a cross where their real runs lie: the rate with the share that was within
    the target for real, beside the simulated one."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys((row["model"], row["service"]["instances"]) for row in rows))
    for k, (model, instances) in enumerate(kinds):
        mine = [row for row in rows if (row["model"], row["service"]["instances"]) == (model, instances)]
        look: dict[str, Any] = {"color": f"C{k}", "marker": SYMBOLS[k % len(SYMBOLS)], "ls": "none", "ms": 5}
        label = f"{model}, {instances} instance{'s' if instances > 1 else ''}"
        for holds in (True, False):
            some = [row for row in mine if row["holds"] is holds]
            fill: dict[str, Any] = {} if holds else {"fillstyle": "none", "alpha": 0.5}
            axes.plot(
                *_places(some), label=label if holds or not any(row["holds"] for row in mine) else None, **look, **fill
            )
    front = sorted((row for row in rows if row["front"]), key=lambda row: row["throughput_rps"])
    axes.plot(*_places(front), color=MUTED, lw=1, zorder=1)
    for number, pick in enumerate(picks, start=1):
        row = rows[pick["setting"]]
        at = (row["throughput_rps"], row["latency_ms"]["middle"])
        axes.plot(*at, "o", ms=14, mew=1.6, fillstyle="none", color=INK)
        axes.annotate(str(number), at, xytext=(9, 6), textcoords="offset points", fontweight="bold", color=INK)
        if {"traffic", "most"} <= set(pick["runs"]):
            most = pick["runs"]["most"]
            served = row["throughput_rps"] * most["within_target_rps"] / most["predicted_within_target_rps"]
            real = (served, pick["runs"]["traffic"]["latency_ms"])
            axes.plot(*real, "x", ms=7, mew=2, color=REAL, label="real runs of a pick" if number == 1 else None)
            axes.annotate("", real, at, arrowprops={"arrowstyle": "-", "color": REAL, "lw": 0.8})
    axes.axhline(target_ms, color=INK, linestyle="--", linewidth=1)
    axes.set(
        title=f"P{percentile:g} under the traffic, ms (dashed: the target of {target_ms:g} ms)",
        xlabel="requests/s that one replica serves within the target",
        xlim=(0, None),
        ylim=(0, min(max(1.2 * target_ms, axes.get_ylim()[1]), 3 * target_ms)),
    )
    figure.legend(loc="outside lower left", ncols=3)
    return figure


def _places(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    return [row["throughput_rps"] for row in rows], [row["latency_ms"]["middle"] for row in rows]
