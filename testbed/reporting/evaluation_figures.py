"""Figures of an evaluation: what policies miss against what they hold, and how they follow the traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from plotly.subplots import make_subplots

from testbed.measurement.scaling_log import ScalingLog
from testbed.reporting.cluster_figures import add_offered
from testbed.reporting.pictures import LOOK
from testbed.reporting.png import save_png
from testbed.reporting.style import INK, MUTED, SIMULATED, axis, short, styled

FloatArray = npt.NDArray[np.float64]
LINES = (  # challenger, baseline, oracle: colour, dash in plotly, style in matplotlib, width
    (SIMULATED, "solid", "-", 2.0),
    (INK, "solid", "-", 1.3),
    (MUTED, "dash", "--", 1.3),
)


@dataclass(frozen=True)
class Timeline:
    """One run of a policy: float64[n] each, for intervals that end at time_s; the first entry is the start."""

    policy: str
    time_s: FloatArray
    offered_rps: FloatArray
    asked: FloatArray  # replicas
    ready: FloatArray
    missed_rps: FloatArray


def timeline_of(policy: str, log: ScalingLog) -> Timeline:
    """Of the log's first run."""
    run = log.run(log.seeds[0])
    time_s = run["time_ns"].to_numpy() / 1e9
    seconds = np.diff(time_s, prepend=0.0)

    def rate(name: str) -> FloatArray:
        return _from_start(np.diff(run[name].to_numpy(), prepend=0) / seconds)

    asked, ready = (_from_start(run[name].to_numpy(dtype=float)) for name in ("asked", "ready"))
    return Timeline(policy, np.append(0.0, time_s), rate("arrived"), asked, ready, rate("missed"))


def _from_start(values: FloatArray) -> FloatArray:
    """The first interval's value holds from the start."""
    return np.append(values[0], values)


def staircase(found: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Corners of the front: GPU-seconds, and per cent over the target."""
    points = sorted(_point(found["policies"][policy]) for policy in found["pareto_front"])
    held, missed = [points[0][0]], [points[0][1]]
    for x, y in points[1:]:
        held += [x, x]
        missed += [missed[-1], y]
    return held, missed


def pareto(found: Mapping[str, Any]) -> go.Figure:
    """Share over the target against GPU-seconds: a point a policy, small ones its kinds of traffic."""
    figure = go.Figure()
    held, missed = staircase(found)
    line = {"color": MUTED, "width": 1, "dash": "dot"}
    figure.add_scatter(x=short(held), y=short(missed), mode="lines", line=line, name="front", hoverinfo="skip")
    for policy, one in found["policies"].items():
        colour = _colour(found, policy)
        each = [_point(policies[policy]) for policies in found["per_traffic"].values()]
        figure.add_scatter(
            x=short(x for x, _ in each),
            y=short(y for _, y in each),
            mode="markers",
            text=list(found["per_traffic"]),
            marker={"size": 5, "color": colour, "opacity": 0.35},
            hovertemplate=policy + " on %{text}: %{x} GPU-seconds, %{y} %<extra></extra>",
            showlegend=False,
        )
        x, y = _point(one)
        figure.add_scatter(
            x=short([x]),
            y=short([y]),
            mode="markers+text",
            text=[policy],
            textposition="top center",
            textfont={"color": colour},
            marker={"size": 11, "color": colour, "symbol": "circle" if policy in found["pareto_front"] else "x"},
            hovertemplate=policy + ": %{x} GPU-seconds, %{y} %<extra></extra>",
            showlegend=False,
        )
    figure.update_xaxes(title_text="GPU-seconds a run", **axis())
    figure.update_yaxes(title_text="requests over the target, %", **axis())
    return styled(figure, 420)


def over_time(lines: Sequence[Timeline]) -> go.Figure:
    """Offered rate, replicas asked for (ready ones: when their legend is clicked), requests that miss the target."""
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, row_heights=[0.25, 0.5, 0.25], vertical_spacing=0.05)
    first = lines[0]
    for one, (colour, dash, _, width) in zip(lines, LINES, strict=False):
        for values, what, shown in ((one.asked, "", True), (one.ready, ", ready", "legendonly")):
            line = {"color": colour, "width": width, "dash": dash if shown is True else "dot", "shape": "vh"}
            name = f"{one.policy}{what}"
            x, y = short(one.time_s), short(values)
            figure.add_scatter(x=x, y=y, name=name, mode="lines", line=line, visible=shown, row=2, col=1)
        line = {"color": colour, "width": width, "dash": dash, "shape": "vh"}
        x, y = short(one.time_s), short(one.missed_rps)
        figure.add_scatter(x=x, y=y, name=one.policy, showlegend=False, mode="lines", line=line, row=3, col=1)
    add_offered(figure, first.time_s, first.offered_rps, "vh", row=1)
    figure.update_xaxes(**axis())
    figure.update_xaxes(title_text="seconds (simulated)", row=3, col=1)
    for row, title in enumerate(("offered, 1/s", "replicas", "missed, 1/s"), start=1):
        figure.update_yaxes(title_text=title, rangemode="tozero", nticks=8 if row == 2 else 4, **axis(), row=row, col=1)
    return styled(figure, 460)


def save_pareto(found: Mapping[str, Any], file: Path) -> None:
    """The same as a picture, with the means alone."""
    with rc_context(LOOK):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        panel = figure.subplots()
        panel.plot(*staircase(found), color=MUTED, linewidth=0.9, linestyle=":", label="front")
        for policy, one in found["policies"].items():
            colour = _colour(found, policy)
            x, y = _point(one)
            on_front = policy in found["pareto_front"]
            panel.plot([x], [y], "o" if on_front else "x", color=colour, markersize=7, clip_on=False)
            panel.annotate(policy, (x, y), xytext=(0, 7), textcoords="offset points", color=colour, ha="center")
        panel.set_xlabel("GPU-seconds a run")
        panel.set_ylabel("requests over the target, %")
        panel.margins(x=0.1, y=0.12)
        panel.set_ylim(bottom=0)
        panel.legend(loc="upper right")
        save_png(figure, file, dpi=130)


def save_timelines(timelines: Mapping[str, Sequence[Timeline]], file: Path) -> None:
    """Two panels a traffic: the offered rate, and beneath it the replicas that each policy asked for."""
    columns = min(2, len(timelines))
    rows = -(-len(timelines) // columns)
    with rc_context(LOOK):
        figure = Figure(figsize=(4.8 * columns, 2.5 * rows + 0.4), layout="constrained")
        panels = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[0.45, 1.0] * rows)
        for panel in panels.flat:
            panel.set_visible(False)
        for k, (traffic, lines) in enumerate(timelines.items()):
            rate, replicas = (panels[2 * (k // columns) + part, k % columns] for part in (0, 1))
            rate.set_visible(True)
            replicas.set_visible(True)
            rate.fill_between(lines[0].time_s, lines[0].offered_rps, step="pre", color=INK, alpha=0.15, linewidth=0)
            rate.set(title=traffic, ylabel="requests/s", ylim=(0, None), xlim=(0, lines[0].time_s[-1]))
            rate.yaxis.set_major_locator(MaxNLocator(3))
            rate.tick_params(labelbottom=False)
            for one, (colour, _, style, width) in zip(lines, LINES, strict=False):
                replicas.step(one.time_s, one.asked, where="pre", color=colour, linestyle=style, linewidth=0.8 * width)
            replicas.set(ylabel="replicas", ylim=(0, None), xlim=(0, lines[0].time_s[-1]))
            replicas.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        first = next(iter(timelines.values()))
        handles = [
            panels[1, 0].plot([], [], color=colour, linestyle=style, linewidth=0.8 * width)[0]
            for _, (colour, _, style, width) in zip(first, LINES, strict=False)
        ]
        figure.legend(handles, [one.policy for one in first], loc="outside upper right", ncols=len(handles))
        figure.supxlabel("seconds (simulated)", fontsize=8)
        save_png(figure, file, dpi=110)


def _point(one: Mapping[str, Any]) -> tuple[float, float]:
    return one["gpu_seconds"], 100 * one["slo_miss"]


def _colour(found: Mapping[str, Any], policy: str) -> str:
    return SIMULATED if policy == found["challenger"] else INK if policy == found["baseline"] else MUTED
