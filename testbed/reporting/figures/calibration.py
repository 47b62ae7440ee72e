"""A calibration's figures: simulated against real, over all runs and pair by pair, and what a profile knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from testbed.calibration.profile import ServiceProfile
from testbed.reporting.drawing import (
    INK,
    INVALID,
    LOOK,
    MUTED,
    REAL,
    SIMULATED,
    SYMBOLS,
    WIDTH,
    draw_rate,
    log_axis,
    title,
)
from testbed.reporting.labels import device_text, repeat_band_pct, run_labels
from testbed.reporting.series import PairSeries, Timeline, overhead_quantiles_ms
from testbed.reporting.summary import ComparisonRow, group_key

NORMAL_95 = 1.645  # standard deviations: 90 % of a normal distribution lie within
NAMES = {"real": "real", "repeat": "real, repeated", "simulated": "simulated"}
LINES: dict[str, dict[str, Any]] = {
    "real": {"color": REAL, "linewidth": 1.6},
    "repeat": {"color": REAL, "linewidth": 0.6, "alpha": 0.7},
    "simulated": {"color": SIMULATED, "linewidth": 1.6, "linestyle": "--"},
}


@rc_context(LOOK)
def overview(rows: Sequence[ComparisonRow]) -> Figure:
    """Simulated against real P95 of all runs, with the identity and a band of 5 % about it."""
    figure = Figure(figsize=(5, 4.8), layout="constrained")  # as wide as a phone can show
    axes = figure.subplots()
    shown = [row for row in rows if row.p95_real_ms and row.p95_sim_ms]
    values = [value for row in shown for value in (row.p95_real_ms, row.p95_sim_ms) if value]
    ends = np.array([min(values) / 1.3, max(values) * 1.3] if values else [1.0, 10.0])
    axes.fill_between(ends, ends * 0.95, ends * 1.05, color=INK, alpha=0.1, linewidth=0, label="within 5 %")
    axes.plot(ends, ends, color=MUTED, linewidth=0.8, label="simulated = real")
    groups = {group_key(row): row for row in shown}
    for symbol, (key, first) in zip(SYMBOLS * len(groups), groups.items(), strict=False):
        for valid, colour in ((True, SIMULATED), (False, INVALID)):
            part = [row for row in shown if group_key(row) == key and bool(row.valid) is valid]
            where = device_text(first.device, first.emulated) if valid else "NOT VALID"
            if part:
                _marks(
                    axes,
                    [row.p95_real_ms for row in part],
                    [row.p95_sim_ms for row in part],
                    symbol,
                    colour,
                    f"{first.model}, {where}",
                    hollow=not valid,
                )
    axes.set(xlim=ends, ylim=ends, xlabel="P95 real, ms", ylabel="P95 simulated, ms")
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.legend(loc="upper left")
    return figure


@rc_context(LOOK)
def by_run(rows: Sequence[ComparisonRow], where: str) -> Figure:
    """One line a run of one group: quantile errors over the spread of the repeats, KS, throughput, utilisation."""
    figure = Figure(figsize=(WIDTH, 1.5 + 0.26 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True, width_ratios=[0.46, 0.16, 0.2, 0.18])
    errors, ks, throughput, busy = panels
    lines = range(len(rows))
    for at, row in enumerate(rows):
        if (band := repeat_band_pct(row)) is not None:
            spread = Rectangle((band[0], at - 0.36), band[1] - band[0], 0.72, color=REAL, alpha=0.18, linewidth=0)
            errors.add_patch(spread)
    errors.axvline(0, color=INK, linewidth=0.8)
    _marks(errors, [row.p50_error_pct for row in rows], lines, "o", SIMULATED, "P50", hollow=True)
    _marks(errors, [row.p99_error_pct for row in rows], lines, "x", SIMULATED, "P99")
    _marks(errors, [row.p95_error_pct for row in rows], lines, "D", SIMULATED, "P95")
    _marks(ks, [row.ks for row in rows], lines, "o", SIMULATED, "KS")
    for axes, real, sim in (
        (throughput, [row.throughput_real_rps for row in rows], [row.throughput_sim_rps for row in rows]),
        (busy, [row.utilisation for row in rows], [row.utilisation_sim for row in rows]),
    ):
        _marks(axes, real, lines, "o", REAL, "real", hollow=True)
        _marks(axes, sim, lines, "|", SIMULATED, "simulated")
    errors.set(xlabel="error, % (simulated - real)", ylim=(len(rows) - 0.4, -0.6))
    marked = ("" if row.valid else " NOT VALID" for row in rows)
    errors.set_yticks(lines, [label + mark for label, mark in zip(run_labels(rows), marked, strict=True)])
    for label, row in zip(errors.get_yticklabels(), rows, strict=True):
        if not row.valid:
            label.set_color(INVALID)
    for axes, name in zip(panels[1:], ("KS", "throughput, 1/s", "utilisation"), strict=True):
        axes.set(xlabel=name, xlim=(0, axes.get_xlim()[1] * 1.05))
    handles = [*errors.get_legend_handles_labels()[0]]
    if errors.patches:
        handles.append(Patch(color=REAL, alpha=0.18, label="range of repeated real P95"))
    handles += throughput.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    title(figure, where)
    return figure


@rc_context(LOOK)
def pair(series: PairSeries, which: str) -> Figure:
    """CDF, tail and batch sizes of one pair; latency over time, with the offered rate beneath."""
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    grid = figure.add_gridspec(3, 3, height_ratios=[1, 0.8, 0.3], width_ratios=[1, 1, 0.8])
    body, tail, sizes = (figure.add_subplot(grid[0, column]) for column in range(3))
    for curve in series.curves:
        low, high = curve.probability <= 0.995, (curve.probability >= 0.5) & (curve.probability < 1)
        body.plot(curve.latency_ms[low], curve.probability[low], **LINES[curve.role])
        tail.plot(curve.latency_ms[high], 1 - curve.probability[high], **LINES[curve.role])
    body.set(title="share of requests, to P99.5", xlabel="latency, ms", xlim=(0, None), ylim=(0, 1.01))
    body.yaxis.set_major_formatter(PercentFormatter(1))
    log_axis(tail, "y", scale=100)
    tail.set(title="share slower, %", xlabel="latency, ms", xlim=(0, None))
    _batch_sizes(sizes, {"real": series.batches_real, "simulated": series.batches_sim})
    latency = figure.add_subplot(grid[1, :])
    _latency(latency, figure.add_subplot(grid[2, :], sharex=latency), series.timeline)
    roles = [role for role in NAMES if any(curve.role == role for curve in series.curves)]
    handles = [Line2D([], [], label=NAMES[role], **LINES[role]) for role in roles]
    figure.legend(handles=handles, loc="outside upper right", ncols=3)
    title(figure, which)
    return figure


@rc_context(LOOK)
def profile(known: ServiceProfile, where: str) -> Figure:
    """Service time by batch size, with the band of 90 % of single batches, and the overhead of a request by load.

    Slow phases are not in the band. The overhead is that of the smallest service measured.
    """
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    times = known.service_time
    sizes, mean_ms = np.array(times.batch_size), 1e3 * np.array(times.mean_s)
    grid = np.linspace(0, 1, len(times.noise_quantiles))
    band = (mean_ms * np.interp(share, grid, times.noise_quantiles) for share in (0.05, 0.95))
    left.fill_between(sizes, *band, color=REAL, alpha=0.18, linewidth=0, label="90 % of batches")
    bars_ms = NORMAL_95 * 1e3 * np.array(times.uncertainty.std_s()) if times.uncertainty else None
    left.errorbar(sizes, mean_ms, bars_ms, color=REAL, linewidth=1, capsize=2, label="mean, fitted (90 %)")
    measured_ms = 1e3 * np.array(times.measured_s or times.mean_s, dtype=float)
    measured_ms[np.array(times.batches) == 0] = np.nan
    _marks(left, sizes, measured_ms, "o", REAL, "mean, measured", hollow=True)
    left.set(title="service time of a batch, ms", xlabel="batch size", ylim=(0, None))
    left.locator_params(axis="x", nbins=10, integer=True)
    left.legend(loc="upper left")
    levels = known.overhead.levels_for(replicas=1, instances=1)
    rates = [level.rate_rps for level in levels]
    quantiles = np.transpose([overhead_quantiles_ms(level, (0.99, 0.95, 0.50, 0.05)) for level in levels])
    lines = (("P99", 0.7, ":"), ("P95", 1.2, "-"), ("P50", 2.0, "-"), ("P5", 0.7, "-"))
    for values, (name, width, style) in zip(quantiles, lines, strict=True):
        right.plot(rates, values, f"o{style}", color=REAL, linewidth=width, markersize=3, label=name)
    right.margins(y=0.25)
    right.set(title="overhead of a request, ms", xlabel="rate, 1/s", xlim=(0, None), ylim=(0, None))
    right.legend(loc="upper left", ncols=4)
    title(figure, where)
    return figure


def _marks(axes: Axes, x: Any, y: Any, symbol: str, colour: str, label: str, *, hollow: bool = False) -> None:
    """None among the values: no mark."""
    known = (np.array(values, dtype=float) for values in (x, y))
    fill = "none" if hollow else "full"
    axes.plot(*known, symbol, color=colour, label=label, ms=9 if symbol == "|" else 5.5, mew=1.3, fillstyle=fill)


def _batch_sizes(axes: Axes, sides: Mapping[str, dict[int, int] | None]) -> None:
    """Share of batches by size; a side that was not measured says so."""
    for shift, (role, counts) in zip((-0.2, 0.2), sides.items(), strict=True):
        if counts is not None:
            shares = 100 * np.array(list(counts.values())) / sum(counts.values())
            axes.bar(np.array(list(counts)) + shift, shares, 0.38, color=LINES[role]["color"])
    missing = " and ".join(role for role, counts in sides.items() if counts is None)
    axes.set(title="batches by size, %" + (f" ({missing} not measured)" if missing else ""), xlabel="batch size")
    axes.locator_params(axis="x", nbins=10, integer=True)


def _latency(latency: Axes, rate: Axes, timeline: Timeline) -> None:
    """P95 and P50 of the requests scheduled in each bin, over the rate they were offered at."""
    for real, sim, width in (
        (timeline.p95_real_ms, timeline.p95_sim_ms, 1.6),
        (timeline.p50_real_ms, timeline.p50_sim_ms, 0.8),
    ):
        latency.plot(timeline.time_s, real, **LINES["real"] | {"linewidth": width})
        latency.plot(timeline.time_s, sim, **LINES["simulated"] | {"linewidth": width})
    latency.set(title="P95 (thick) and P50 (thin) over time", ylabel="latency, ms", ylim=(0, None))
    latency.tick_params(labelbottom=False)
    draw_rate(rate, timeline.time_s, timeline.offered_rps, "mid")
    rate.set(xlabel="scheduled time, s", xlim=(0, timeline.time_s[0] + timeline.time_s[-1]))
