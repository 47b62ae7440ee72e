"""Figures of an evaluation: what policies miss against what they hold, and how they follow the traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.measurement.scaling_log import ScalingLog
from testbed.reporting.drawing import (
    INK,
    INVALID,
    LOOK,
    MUTED,
    SIMULATED,
    SYMBOLS,
    WIDTH,
    FloatArray,
    draw_rate,
    name_marks,
    steps_before,
    thinned,
)

SHARES_PCT = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)  # marks of the axis
PANELS = 3  # in a line of `policies`
LINES = ((SIMULATED, "-", 1.8), (INK, "-", 1.2), (MUTED, "--", 1.2))  # challenger, baseline, oracle


@dataclass(frozen=True)
class ScalingTimeline:
    """One run of a policy: float64[n] each, for intervals that end at time_s; the first entry is the start."""

    policy: str
    time_s: FloatArray
    offered_rps: FloatArray
    asked: FloatArray  # replicas
    ready: FloatArray
    missed_rps: FloatArray


def timeline_of(policy: str, log: ScalingLog) -> ScalingTimeline:
    """Of the log's first run."""
    run = log.run(log.seeds[0])
    time_s = run["time_ns"].to_numpy() / 1e9
    seconds = np.diff(time_s, prepend=0.0)

    def rate(name: str) -> FloatArray:
        return _from_start(np.diff(run[name].to_numpy(), prepend=0) / seconds)

    asked, ready = (_from_start(run[name].to_numpy(dtype=float)) for name in ("asked", "ready"))
    return ScalingTimeline(policy, np.append(0.0, time_s), rate("arrived"), asked, ready, rate("missed"))


def _from_start(values: FloatArray) -> FloatArray:
    """The first interval's value holds from the start."""
    return np.append(values[0], values)


@rc_context(LOOK)
def pareto(evaluation: Mapping[str, Any]) -> Figure:
    """Share over the target against GPU-seconds: a mark a policy; beside it each kind of several."""
    count = len(evaluation["policies"])
    figure = Figure(figsize=(WIDTH, max(4.8, 1 + 0.2 * count)), layout="constrained")
    kinds = evaluation["per_traffic"].values()
    panels = figure.subplots(1, 2 if len(kinds) > 1 else 1, sharey=True, squeeze=False)[0]
    means, pale = panels[0], panels[1:]
    objective = evaluation.get("objective", "gpu_seconds")
    front = sorted(_point(evaluation["policies"][policy], objective) for policy in evaluation["pareto_front"])
    for axes in panels:
        axes.step(*zip(*front, strict=True), where="post", color=MUTED, linewidth=0.9, linestyle=":", label="front")
    roles = {evaluation["challenger"]: (SIMULATED, "challenger"), evaluation["baseline"]: (INK, "baseline")}
    named = {}
    for k, (policy, summary) in enumerate(evaluation["policies"].items()):
        colour, role = roles.get(policy, (f"C{k}", ""))
        drawn: dict[str, Any] = {"marker": SYMBOLS[k % len(SYMBOLS)], "color": colour, "linestyle": "none"}
        fill = "full" if policy in evaluation["pareto_front"] else "none"
        label = f"{policy} ({role})" if role else policy
        each = [_point(policies[policy], objective) for policies in kinds]
        for axes in pale:
            axes.plot(*zip(*each, strict=True), **drawn, markersize=4, alpha=0.35, markeredgewidth=0, clip_on=False)
        for axes in panels:
            axes.plot(
                *_point(summary, objective), **drawn, markersize=8, mew=1.4, fillstyle=fill, clip_on=False, label=label
            )
        named[label] = means.lines[-1]
    means.set_yscale("symlog", linthresh=1)
    means.set(ylabel="requests over the target, % (logarithmic above 1)", ylim=(0, 100))
    means.set_yticks(SHARES_PCT, [f"{share:g}" for share in SHARES_PCT])
    means.set(title="means of all traffic" if len(pale) else f"means of {next(iter(evaluation['per_traffic']))}")
    for axes in pale:
        axes.set(title="pale: each kind of traffic")
    for axes in panels:
        spent = "GPU-seconds" if objective == "gpu_seconds" else evaluation["currency"]
        axes.set(xlabel=f"{spent} a run", xlim=(0, None))
        axes.locator_params(axis="x", nbins=6)
    name_marks(figure, means, named)
    return figure


@rc_context(LOOK)
def policies(lines: Sequence[ScalingTimeline]) -> Figure:
    """Every policy on one traffic, a panel each: replicas asked for and ready, and what it misses, on one scale."""
    rows = -(-len(lines) // PANELS)
    figure = Figure(figsize=(WIDTH, 0.6 + 1.5 * rows), layout="constrained")
    panels = figure.subplots(rows, PANELS, sharex=True, sharey=True, squeeze=False).ravel()
    most = max(float(line.missed_rps.max()) for line in lines) or 1.0
    highest = max(float(np.nanmax([line.asked.max(), line.ready.max()])) for line in lines)
    for panel in panels[len(lines) :]:
        panel.set_axis_off()
    for number, (panel, line) in enumerate(zip(panels, lines, strict=False), start=1):
        time_s, rate = thinned(line.time_s, line.offered_rps, points=60)
        panel.fill_between(
            time_s, rate * highest / max(float(rate.max()), 1e-9), step="pre", color=MUTED, alpha=0.12, linewidth=0
        )
        panel.step(*steps_before(line.time_s, line.asked), where="pre", color=INK, linewidth=1.2)
        panel.step(*steps_before(line.time_s, line.ready), where="pre", color=INK, linewidth=0.8, linestyle=":")
        panel.set(title=line.policy, xlim=(0, line.time_s[-1]), ylim=(0, 1.05 * highest))
        panel.locator_params(axis="y", nbins=4, integer=True)
        missed = panel.twinx()
        time_s, missed_rps = steps_before(line.time_s, line.missed_rps)
        missed.fill_between(time_s, missed_rps, step="pre", color=INVALID, alpha=0.45, linewidth=0)
        missed.set(ylim=(0, most))
        missed.grid(visible=False)
        missed.locator_params(axis="y", nbins=3)
        last = number % PANELS == 0 or number == len(lines)
        missed.tick_params(colors=INVALID, labelsize=7, labelright=last, right=last)
        missed.spines[:].set_visible(False)
    figure.supylabel("replicas", fontsize=9)
    figure.supxlabel("seconds (simulated); right axis: missed, 1/s", fontsize=9)
    return figure


@rc_context(LOOK)
def timelines(by_traffic: Mapping[str, Sequence[ScalingTimeline]]) -> Figure:
    """Of each traffic the offered rate, replicas asked for (dotted: ready), and requests that miss the target."""
    columns = min(2, len(by_traffic))
    rows = -(-len(by_traffic) // columns)
    figure = Figure(figsize=(WIDTH, 0.6 + rows * (4.4 if columns == 1 else 3.6)), layout="constrained")
    parts = figure.subfigures(rows, columns, squeeze=False).ravel()
    for part, (traffic, lines) in zip(parts, by_traffic.items(), strict=False):
        rate, replicas, missed = part.subplots(3, 1, sharex=True, height_ratios=[0.25, 0.5, 0.25])
        draw_rate(rate, lines[0].time_s, lines[0].offered_rps, "pre")
        for line, (colour, style, width) in zip(lines, LINES, strict=False):
            drawn: dict[str, Any] = {"where": "pre", "color": colour, "linewidth": width}
            replicas.step(*steps_before(line.time_s, line.asked), linestyle=style, label=line.policy, **drawn)
            replicas.step(*steps_before(line.time_s, line.ready), **drawn | {"linestyle": ":", "linewidth": 0.8})
            missed.step(*steps_before(line.time_s, line.missed_rps), linestyle=style, **drawn)
        rate.set(title=traffic, xlim=(0, lines[0].time_s[-1]))
        replicas.set(ylabel="replicas", ylim=(0, None))
        replicas.locator_params(axis="y", nbins=5, integer=True)
        missed.set(ylabel="missed, 1/s", ylim=(0, None))
        missed.locator_params(axis="y", nbins=3)
        part.align_ylabels()
    handles = parts[0].axes[1].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    figure.supxlabel("seconds (simulated)", fontsize=9)
    return figure


def _point(summary: Mapping[str, Any], objective: str) -> tuple[float, float]:
    return summary[objective], 100 * summary["slo_violation_rate"]
