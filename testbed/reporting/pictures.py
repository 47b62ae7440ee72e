"""The same figures as PNG files, for report.md and README: matplotlib, no display, no state shared between figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from testbed.reporting.labels import device_text, repeat_band_pct, run_labels
from testbed.reporting.png import save_png
from testbed.reporting.series import NORMAL_95, OverheadCurves, PairSeries, ServiceCurve
from testbed.reporting.style import GRID, INK, INVALID, MUTED, REAL, SIMULATED
from testbed.reporting.summary import ComparisonRow, group_key

LOOK: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a name is a $
    "xtick.color": INK,
    "ytick.color": INK,
}
_LINES: dict[str, dict[str, Any]] = {
    "repeat": {"color": REAL, "linewidth": 0.6, "alpha": 0.7},
    "real": {"color": REAL, "linewidth": 1.6},
    "simulated": {"color": SIMULATED, "linewidth": 1.6, "linestyle": "--"},
}
_SYMBOLS = "oDs^Pv"


def save_overview(rows: Sequence[ComparisonRow], file: Path) -> None:
    """Simulated against real P95 of all runs, with the identity and a band of 5 %."""
    with rc_context(LOOK):
        figure = Figure(figsize=(5.6, 5.2), layout="constrained")
        axes = figure.subplots()
        shown = [row for row in rows if row.p95_real_ms and row.p95_sim_ms]
        values = [value for row in shown for value in (row.p95_real_ms, row.p95_sim_ms) if value]
        ends = np.array([min(values) / 1.3, max(values) * 1.3] if values else [1.0, 10.0])
        axes.fill_between(ends, ends * 0.95, ends * 1.05, color=INK, alpha=0.1, linewidth=0, label="within 5 %")
        axes.plot(ends, ends, color=MUTED, linewidth=0.8, label="simulated = real")
        groups = {group_key(row): row for row in shown}
        for symbol, (key, first) in zip(_SYMBOLS * len(groups), groups.items(), strict=False):
            for valid, colour in ((True, SIMULATED), (False, INVALID)):
                part = [row for row in shown if group_key(row) == key and bool(row.valid) is valid]
                where = device_text(first.device, first.emulated) if valid else "NOT VALID"
                if part:
                    axes.plot(
                        [row.p95_real_ms or np.nan for row in part],
                        [row.p95_sim_ms or np.nan for row in part],
                        symbol,
                        color=colour,
                        fillstyle="full" if valid else "none",
                        label=f"{first.model}, {where}",
                    )
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="P95 real, ms", ylabel="P95 simulated, ms")
        plain_numbers(axes.xaxis)
        plain_numbers(axes.yaxis)
        axes.legend()
        save_png(figure, file, dpi=120)


def plain_numbers(axis: Axis) -> None:
    """Marks of a logarithmic axis as plain numbers: powers of ten would need the math that LOOK turns off."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save_by_run(rows: Sequence[ComparisonRow], title: str, file: Path) -> None:
    """One line a run of one group: quantile errors over the spread of the repeats, KS, throughput, utilisation."""
    with rc_context(LOOK):
        figure = Figure(figsize=(11, 1.5 + 0.26 * len(rows)), layout="constrained")
        errors, ks, throughput, busy = figure.subplots(1, 4, sharey=True, width_ratios=[0.46, 0.16, 0.2, 0.18])
        for at, row in enumerate(rows):
            if (band := repeat_band_pct(row)) is not None:
                spread = Rectangle((band[0], at - 0.36), band[1] - band[0], 0.72, color=REAL, alpha=0.18, linewidth=0)
                errors.add_patch(spread)
        errors.axvline(0, color=INK, linewidth=0.8)
        _marks(errors, [row.p50_error_pct for row in rows], "o", SIMULATED, "P50", hollow=True)
        _marks(errors, [row.p99_error_pct for row in rows], "x", SIMULATED, "P99")
        _marks(errors, [row.p95_error_pct for row in rows], "D", SIMULATED, "P95")
        _marks(ks, [row.ks for row in rows], "o", SIMULATED, "KS")
        _marks(throughput, [row.throughput_real_rps for row in rows], "o", REAL, "real", hollow=True)
        _marks(throughput, [row.throughput_sim_rps for row in rows], "|", SIMULATED, "simulated")
        _marks(busy, [row.utilisation for row in rows], "o", REAL, "real", hollow=True)
        _marks(busy, [row.utilisation_sim for row in rows], "|", SIMULATED, "simulated")
        errors.set(xlabel="error, % (simulated - real)", ylim=(len(rows) - 0.4, -0.6))
        marked = ("" if row.valid else " NOT VALID" for row in rows)
        errors.set_yticks(
            range(len(rows)), [label + mark for label, mark in zip(run_labels(rows), marked, strict=True)]
        )
        for label, row in zip(errors.get_yticklabels(), rows, strict=True):
            if not row.valid:
                label.set_color(INVALID)
        for axes, name in ((ks, "KS"), (throughput, "throughput, 1/s"), (busy, "utilisation")):
            axes.set(xlabel=name, xlim=(0, axes.get_xlim()[1] * 1.05))
        handles = [*errors.get_legend_handles_labels()[0], Patch(color=REAL, alpha=0.18, label="repeated real P95")]
        handles += throughput.get_legend_handles_labels()[0]
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save_png(figure, file, dpi=110)


def save_pair(series: PairSeries, title: str, file: Path) -> None:
    """CDF, tail, latency over time with the offered rate, and batch sizes of one pair."""
    with rc_context(LOOK):
        figure = Figure(figsize=(11, 5.6), layout="constrained")
        grid = figure.add_gridspec(3, 3, height_ratios=[1, 0.72, 0.28])
        body, tail, sizes = (figure.add_subplot(grid[0, column]) for column in range(3))
        for curve in series.curves:
            low = curve.probability <= 0.995
            body.plot(curve.latency_ms[low], curve.probability[low], **_LINES[curve.role])
            high = (curve.probability >= 0.5) & (curve.probability < 1)
            tail.plot(curve.latency_ms[high], 1 - curve.probability[high], **_LINES[curve.role])
        body.set(title="CDF to P99.5", xlabel="latency, ms", xlim=(0, None), ylim=(0, 1.01))
        tail.set(title="share slower, %", xlabel="latency, ms", yscale="log")
        tail.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
        tail.yaxis.set_minor_formatter(NullFormatter())
        _bars(sizes, series)
        latency = figure.add_subplot(grid[1, :])
        offered = figure.add_subplot(grid[2, :], sharex=latency)
        time = series.timeline
        for real, sim, width in ((time.p95_real_ms, time.p95_sim_ms, 1.6), (time.p50_real_ms, time.p50_sim_ms, 0.8)):
            latency.plot(time.time_s, real, color=REAL, linewidth=width)
            latency.plot(time.time_s, sim, color=SIMULATED, linewidth=width, linestyle="--")
        latency.set(title="P95 (thick) and P50 (thin) over time", ylabel="latency, ms", ylim=(0, None))
        latency.tick_params(labelbottom=False)
        offered.fill_between(time.time_s, time.offered_rps, step="mid", color=INK, alpha=0.15, linewidth=0)
        end_s = time.time_s[0] + time.time_s[-1]
        offered.set(xlabel="scheduled time, s", ylabel="offered, 1/s", xlim=(0, end_s), ylim=(0, None))
        roles = [role for role in ("real", "repeat", "simulated") if any(c.role == role for c in series.curves)]
        names = {"repeat": "real, repeated"}
        handles = [Line2D([], [], label=names.get(role, role), **_LINES[role]) for role in roles]
        figure.legend(handles=handles, loc="outside upper right", ncols=3)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save_png(figure, file, dpi=100)


def save_profile(service: ServiceCurve, overhead: OverheadCurves, title: str, file: Path) -> None:
    """Service time by batch size, and per-request overhead by load."""
    with rc_context(LOOK):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        sizes = np.array(service.batch_size)
        left.fill_between(sizes, service.low_ms, service.high_ms, color=REAL, alpha=0.18, linewidth=0, label="90 %")
        bars = np.nan_to_num(NORMAL_95 * service.mean_std_ms)
        left.errorbar(sizes, service.mean_ms, bars, color=REAL, linewidth=1, capsize=2, label="mean, fitted (90 %)")
        left.plot(sizes, service.measured_ms, "o", color=REAL, fillstyle="none", label="mean, measured")
        left.set(xlabel="batch size", ylabel="service time, ms", ylim=(0, None))
        left.legend()
        for width, (name, values) in zip((0.6, 1.0, 2.0, 0.6), overhead.quantiles_ms.items(), strict=True):
            right.plot(overhead.rate_rps, values, "o-", color=REAL, linewidth=width, markersize=3)
            right.annotate(name, (overhead.rate_rps[-1], values[-1]), xytext=(5, -3), textcoords="offset points")
        right.set(xlabel="rate, 1/s", ylabel="overhead of a request, ms", xlim=(0, None), ylim=(0, None))
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        save_png(figure, file, dpi=110)


def _marks(
    axes: Axes, values: Sequence[float | None], symbol: str, colour: str, label: str, *, hollow: bool = False
) -> None:
    known = [np.nan if value is None else value for value in values]
    fill = "none" if hollow else "full"
    axes.plot(known, range(len(known)), symbol, color=colour, label=label, markersize=5.5, fillstyle=fill)


def _bars(axes: Axes, series: PairSeries) -> None:
    for shift, counts, colour in ((-0.2, series.batches_real, REAL), (0.2, series.batches_sim, SIMULATED)):
        if counts is not None:
            total = sum(counts.values())
            axes.bar([size + shift for size in counts], [100 * n / total for n in counts.values()], 0.38, color=colour)
    missing = [
        name for name, counts in (("real", series.batches_real), ("simulated", series.batches_sim)) if counts is None
    ]
    note = f" ({' and '.join(missing)} not measured)" if missing else ""
    axes.set(title=f"batches by size, %{note}", xlabel="batch size")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
