"""Figures of one run, real or simulated: what was offered and answered second by second, latency over time, its
distribution, and batch sizes."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
)
from testbed.reporting.loading import LoadedRun
from testbed.reporting.series import curve_of, latency_bins, middles, quantiles_of_bins

QUANTILES = (0.50, 0.95, 0.99)


def by_second(run: LoadedRun) -> dict[str, FloatArray]:
    """float64[seconds] of each: requests offered, answered, and offered but never answered, in each second of the run.

    What is answered after the schedule's end counts in seconds of its own, so nothing is left out.
    """
    log = run.requests
    scheduled_s, completed_s = log.seconds("scheduled_ns"), log.seconds("completed_ns")[log.ok]
    last_s = max(run.manifest.duration_s, float(completed_s.max(initial=0.0)))
    edges = np.arange(np.ceil(last_s) + 1)
    parts = {"offered": scheduled_s, "answered": completed_s, "not answered": scheduled_s[~log.ok]}
    return {name: np.histogram(times_s, edges)[0].astype(np.float64) for name, times_s in parts.items()}


@rc_context(LOOK)
def over_time(run: LoadedRun) -> Figure:
    """Rates by second; beneath, P50 and P95 of the requests scheduled in each bin."""
    colour = _colour(run)
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    rate, latency = figure.subplots(2, 1, sharex=True)
    counted = by_second(run)
    seconds: FloatArray = np.arange(len(counted["offered"]), dtype=np.float64) + 0.5
    draw_rate(rate, seconds, counted["offered"], "mid")
    rate.step(*thinned(seconds, counted["answered"]), where="mid", color=colour, linewidth=1.4, label="answered")
    if counted["not answered"].any():
        lost = thinned(seconds, counted["not answered"])
        rate.step(*lost, where="mid", color=INVALID, linewidth=1.2, label="not answered")
    rate.get_lines()[0].set_label("offered")
    rate.set(ylabel="requests a second")
    edges = latency_bins(run)
    p50, p95 = quantiles_of_bins(run, edges, (0.50, 0.95))
    latency.plot(middles(edges), p95, color=colour, linewidth=1.6, marker=".", label="P95")
    latency.plot(middles(edges), p50, color=colour, linewidth=1.0, linestyle=":", label="P50")
    latency.set(ylabel="latency, ms", xlabel="seconds of the run", xlim=(0, seconds[-1] + 0.5))
    log_axis(latency, "y")
    handles = [*rate.get_legend_handles_labels()[0], *latency.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    figure.align_ylabels()
    return figure


@rc_context(LOOK)
def distribution(run: LoadedRun) -> Figure:
    """Share of the answered requests below each latency, with P50, P95 and P99 marked."""
    figure = Figure(figsize=(WIDTH / 2, 4.2), layout="constrained")
    axes = figure.subplots()
    curve = curve_of("real" if run.manifest.kind == "real" else "simulated", run.requests.latency_s)
    if curve is not None:
        axes.plot(curve.latency_ms, curve.probability, color=_colour(run), linewidth=1.6)
        for share in QUANTILES:
            at_ms = float(np.quantile(run.requests.latency_s[run.requests.ok], share)) * 1e3
            axes.plot([at_ms], [share], "o", color=INK, markersize=4)
            axes.annotate(
                f"P{100 * share:g} {at_ms:.3g} ms", (at_ms, share), (-6, 2), textcoords="offset points", ha="right"
            )
    axes.set(xlabel="latency, ms", ylabel="share of answered requests", ylim=(0, 1.03))
    if curve is not None:
        log_axis(axes, "x")
    return figure


@rc_context(LOOK)
def batches(run: LoadedRun, counts: dict[int, int]) -> Figure:
    """Number of batches of each size."""
    figure = Figure(figsize=(WIDTH / 2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.bar(list(counts), list(counts.values()), color=_colour(run), edgecolor=MUTED, linewidth=0.4)
    axes.set(
        xlabel="requests in a batch", ylabel="batches", xlim=(0.4, max(run.manifest.service.max_batch_size, 1) + 0.6)
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _colour(run: LoadedRun) -> str:
    return REAL if run.manifest.kind == "real" else SIMULATED
