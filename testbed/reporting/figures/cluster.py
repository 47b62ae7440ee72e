"""Figures of a cluster run: replicas, traffic and latency over each other; pods from asked for to gone; devices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.measurement.metric_log import MetricLog
from testbed.reporting.drawing import (
    INK,
    INVALID,
    LOOK,
    MUTED,
    REAL,
    SIMULATED,
    WIDTH,
    FloatArray,
    draw_rate,
    log_axis,
    thinned,
    title,
)

SHOWN_PODS = 200  # that were there longest; more bars than pixels show nothing
STATES = {  # a pod's state -> its colour, from waiting to gone
    "pending": "#c9ced6",
    "starting": "#f3d9b1",
    "loading": "#e9b872",
    "ready": "#8fb8de",
    "serving": REAL,
    "draining": MUTED,
    "backoff": INVALID,
}
DEVICES = {"utilisation": ("utilisation", 1.0), "memory_used": ("memory, GiB", 2.0**-30), "power": ("power, W", 1.0)}


@rc_context(LOOK)
def over_time(
    metrics: MetricLog, model: str, target_ms: float, heading: str, episodes: Sequence[tuple[float, float]] = ()
) -> Figure:
    """Replicas asked for, ready and pending; offered rate; P95 of each interval with the target.

    metrics: a cluster run's, source `deployment`, one sample an interval. episodes: from when to when most requests
    missed, the worst first; they are shaded and numbered.
    """

    def series(name: str) -> tuple[FloatArray, FloatArray]:
        rows = metrics.select("deployment", name, model=model)
        return rows["time_s"].to_numpy(), rows["value"].to_numpy()

    figure = Figure(figsize=(WIDTH, 5.8), layout="constrained")
    replicas, rate, latency = figure.subplots(3, 1, sharex=True, height_ratios=[0.38, 0.22, 0.4])
    for name, label, colour, style, width in (
        ("spec_replicas", "asked for", MUTED, "--", 1.3),
        ("ready_replicas", "ready", SIMULATED, "-", 1.6),
        ("pending_replicas", "pending", INK, ":", 1.0),
    ):
        replicas.step(*thinned(*series(name)), where="pre", color=colour, linestyle=style, linewidth=width, label=label)
    replicas.set(ylabel="replicas", ylim=(0, None))
    replicas.locator_params(axis="y", nbins=5, integer=True)
    time_s, arrived = series("arrived")
    draw_rate(rate, time_s, arrived / np.diff(time_s, prepend=0.0), "pre")
    time_s, p95_s = series("latency_p95")
    latency.plot(*thinned(time_s, 1e3 * p95_s), color=SIMULATED, linewidth=1.2, label="P95 of each interval")
    latency.axhline(target_ms, color=INK, linestyle="--", linewidth=0.9, label="target")
    latency.set(ylabel="P95, ms", xlabel="seconds (simulated)", xlim=(0, time_s[-1]))
    log_axis(latency, "y")
    for place, (start_s, end_s) in enumerate(episodes, start=1):
        for axes in (replicas, rate, latency):
            axes.axvspan(start_s, end_s, color=INVALID, alpha=0.15, linewidth=0)
        middle = (start_s + end_s) / 2
        replicas.annotate(
            str(place), (middle, 1), xycoords=("data", "axes fraction"), ha="center", va="top", color=INVALID
        )
    handles = [*replicas.get_legend_handles_labels()[0], *latency.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    figure.align_ylabels()
    title(figure, heading)
    return figure


@rc_context(LOOK)
def pods(metrics: MetricLog, model: str, end_s: float) -> Figure:
    """One bar a pod, coloured by its state."""
    spans = pod_spans(metrics, model, end_s)
    names = list(dict.fromkeys(spans["pod"]))
    if len(names) > SHOWN_PODS:
        longest = set(spans.groupby("pod")["seconds"].sum().nlargest(SHOWN_PODS).index)
        names = [name for name in names if name in longest]
    rows = {name: row for row, name in enumerate(names)}
    figure = Figure(figsize=(WIDTH, 1.1 + 0.17 * max(3, len(names))), layout="constrained")
    axes = figure.subplots()
    spans = spans[spans["pod"].isin(names)]
    for state, colour in STATES.items():
        bars = spans[spans["state"] == state]
        start_s, row = bars["start_s"].to_numpy(dtype=float), bars["pod"].map(rows).to_numpy(dtype=float)
        gap = np.full(len(bars), np.nan)
        # One line with gaps is a hundredth of the bytes of as many rectangles.
        x = np.column_stack([start_s, start_s + bars["seconds"].to_numpy(dtype=float), gap]).ravel()
        axes.plot(x, np.column_stack([row, row, gap]).ravel(), color=colour, lw=8, solid_capstyle="butt", label=state)
    axes.set(xlabel="seconds (simulated)", xlim=(0, end_s), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), names)
    figure.legend(handles=axes.get_lines(), loc="outside upper left", ncols=len(STATES))
    return figure


@rc_context(LOOK)
def nodes(metrics: MetricLog) -> Figure:
    """Nodes of each pool that are paid for, and of these ready."""
    counts = metrics.select("pool", "nodes")
    pools = list(dict.fromkeys(counts["pool"]))
    figure = Figure(figsize=(WIDTH, 1.0 + 1.2 * len(pools)), layout="constrained")
    for axes, pool in zip(figure.subplots(len(pools), 1, sharex=True, squeeze=False)[:, 0], pools, strict=True):
        there = metrics.select("pool", "nodes", pool=pool)
        time_s, paid = there["time_s"].to_numpy(), there["value"].to_numpy()
        ready = paid - metrics.select("pool", "starting_nodes", pool=pool)["value"].to_numpy()
        axes.step(*thinned(time_s, paid), where="pre", color=MUTED, linestyle="--", linewidth=1.3, label="paid for")
        axes.step(*thinned(time_s, ready), where="pre", color=SIMULATED, linewidth=1.6, label="ready")
        axes.set(ylabel=f"nodes, {pool}", ylim=(0, None), xlim=(0, time_s[-1]))
        axes.locator_params(axis="y", nbins=5, integer=True)
    axes.set(xlabel="seconds (simulated)")
    figure.legend(handles=axes.get_lines(), loc="outside upper right", ncols=2)
    return figure


def pod_spans(metrics: MetricLog, model: str, end_s: float) -> pd.DataFrame:
    """pod, state, start_s, seconds: what each pod was, from when, and for how long; `gone` is no state to show."""
    rows = metrics.select("replica", "state", model=model).sort_values("time_s", kind="stable")
    spans = []
    for pod, of_pod in rows.groupby("replica", sort=False) if len(rows) else ():  # none: a model without a pod
        times = [*of_pod["time_s"], end_s]
        for k, state in enumerate(of_pod["state"]):
            if state != "gone" and times[k + 1] > times[k]:
                spans.append((pod, state, times[k], times[k + 1] - times[k]))
    return pd.DataFrame(spans, columns=["pod", "state", "start_s", "seconds"])


@rc_context(LOOK)
def devices(metrics: MetricLog) -> Figure:
    """Utilisation of each device over time; memory and power beneath, where they are known."""
    grids = {}
    for name in DEVICES:
        table = metrics.select("device", name)
        if len(table):
            table["where"] = table["node"] + " #" + table["device"]
            grid = table.pivot_table(index="where", columns="time_s", values="value", sort=False)
            grids[name] = grid.loc[list(dict.fromkeys(table["where"]))]
    lines = max((len(grid) for grid in grids.values()), default=1)
    figure = Figure(figsize=(WIDTH, 0.6 + max(1, len(grids)) * (0.6 + 0.2 * min(lines, 40))), layout="constrained")
    panels = figure.subplots(max(1, len(grids)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, grid) in zip(panels, grids.items(), strict=False):
        label, scale = DEVICES[name]
        last_s = float(grid.columns[-1])
        image = axes.imshow(
            scale * grid.to_numpy(),
            aspect="auto",
            interpolation="none",
            cmap="cividis",  # as well on a dark page, and for colour-blind eyes
            vmin=0,
            vmax=1 if name == "utilisation" else None,
            extent=(0, last_s, len(grid) - 0.5, -0.5),
        )
        axes.grid(visible=False)
        axes.set(title=label)
        every = -(-len(grid) // 40)
        axes.set_yticks(range(0, len(grid), every), list(grid.index)[::every])
        figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01)
    panels[-1].set(xlabel="seconds (simulated)")
    return figure
