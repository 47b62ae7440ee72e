"""Figures of two devices: the distributions of their latencies, and latency over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from testbed.reporting.devices import Study
from testbed.reporting.drawing import INK, LOOK, POINTS, REAL, WIDTH, FloatArray, log_axis
from testbed.reporting.loading import LoadedRun
from testbed.reporting.series import middles, quantiles_of_bins

LOOKS = ((INK, "--"), (REAL, "-"))  # both sides are real
BINS = 12  # of a run's time


def ecdf(run: LoadedRun) -> tuple[FloatArray, FloatArray]:
    """Latencies of the answered requests in ms, ascending, and the share of them that is no slower."""
    latency_ms = 1e3 * np.sort(run.requests.latency_s[run.requests.ok])
    share = np.arange(1, len(latency_ms) + 1) / max(len(latency_ms), 1)
    kept = np.unique(np.linspace(0, len(latency_ms) - 1, POINTS).astype(int)) if len(latency_ms) else slice(0)
    return latency_ms[kept], share[kept]


def median_over_time(run: LoadedRun) -> tuple[FloatArray, FloatArray]:
    """Middle of each of BINS equal bins of the span, and the median latency in ms of the requests scheduled in it; NaN:
    none was answered."""
    edges_s = np.linspace(0.0, run.manifest.duration_s, BINS + 1)
    return middles(edges_s), quantiles_of_bins(run, edges_s, (0.5,))[0]


@rc_context(LOOK)
def distributions(studies: Sequence[Study]) -> Figure:
    """A panel a study, a curve a run; latency on a logarithmic axis: a ratio is a distance."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    panels = figure.subplots(1, len(studies), squeeze=False, sharey=True)[0]
    for study, axes in zip(studies, panels, strict=True):
        _draw(axes, study, ecdf)
        axes.axhline(0.95, color=INK, linewidth=0.8, linestyle=":")
        axes.set(title=study.model, xlabel="latency, ms", ylim=(0, 1.01))
        log_axis(axes, "x")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    panels[0].set_ylabel("share of requests; dotted: P95")
    figure.legend(handles=panels[0].get_legend_handles_labels()[0], loc="outside upper left", ncols=2)
    return figure


@rc_context(LOOK)
def over_time(study: Study) -> Figure:
    """Median latency of each twelfth of the schedule; a queue that grows is a line that climbs."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    _draw(axes, study, median_over_time)
    duration_s = study.runs[0].manifest.duration_s
    axes.set(xlabel="scheduled time, s", ylabel="median latency, ms", xlim=(0, duration_s))
    log_axis(axes, "y")
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def _draw(axes: Axes, study: Study, points: Callable[[LoadedRun], tuple[FloatArray, FloatArray]]) -> None:
    """One line a run; a side's runs share colour, dash and one entry of the legend."""
    for side, (colour, style) in zip(study.sides, LOOKS, strict=True):
        for run in side.runs:
            label = f"{side.label}: {side.device.name}" if run is side.runs[0] else None
            axes.plot(*points(run), color=colour, linestyle=style, linewidth=1.2, label=label)
