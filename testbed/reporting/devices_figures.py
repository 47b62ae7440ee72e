"""Figures of two devices: the distributions of their latencies, and latency over time."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.devices import Devices, Study
from testbed.reporting.loading import LoadedRun
from testbed.reporting.pictures import LOOK, plain_numbers
from testbed.reporting.png import save_png
from testbed.reporting.style import INK, REAL, axis, short, styled

FloatArray = npt.NDArray[np.float64]
COLOURS = (INK, REAL)  # both are real: of the first side and of the second
DASHES = ("dash", "solid")
LINES = ("--", "-")  # the same, as matplotlib calls them
SHOWN = 600  # points of a curve: more than pixels show nothing
BINS = 12  # of a run's time
TICKS_MS = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5)]
TICKS = {"tickvals": TICKS_MS, "ticktext": [f"{value:g}" for value in TICKS_MS]}  # of a logarithmic axis


def ecdf(run: LoadedRun) -> tuple[FloatArray, FloatArray]:
    """Latencies of the answered requests in ms, ascending, and the share of them that is no slower."""
    latency_ms = 1e3 * np.sort(run.requests.latency_s[run.requests.ok])
    share = np.arange(1, len(latency_ms) + 1) / max(len(latency_ms), 1)
    kept = np.unique(np.linspace(0, len(latency_ms) - 1, SHOWN).astype(int)) if len(latency_ms) else slice(0)
    return latency_ms[kept], share[kept]


def median_over_time(run: LoadedRun) -> tuple[FloatArray, FloatArray]:
    """Middle of each of BINS equal bins of the span, and the median latency in ms of the requests scheduled in it; NaN:
    none was answered."""
    edges = np.linspace(0.0, run.manifest.duration_s, BINS + 1)
    place = np.digitize(run.requests.seconds("scheduled_ns"), edges) - 1
    latency_ms = 1e3 * run.requests.latency_s
    parts = [latency_ms[(place == k) & np.isfinite(latency_ms)] for k in range(BINS)]
    medians = [float(np.median(part)) if len(part) else np.nan for part in parts]
    return (edges[:-1] + edges[1:]) / 2, np.array(medians)


def distributions(study: Study) -> go.Figure:
    """One curve a run, latency on a logarithmic axis: a ratio is a distance."""
    figure = _curves(study, ecdf)
    figure.add_hline(y=0.95, line={"color": INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="latency, ms", type="log", **TICKS, **axis())
    figure.update_yaxes(title_text="share of requests", range=[0, 1.01], tickformat=".0%", **axis())
    return styled(figure, 380)


def over_time(study: Study) -> go.Figure:
    """Median latency of each twelfth of the schedule; a queue that grows is a line that climbs."""
    figure = _curves(study, median_over_time)
    figure.update_xaxes(title_text="scheduled time, s", range=[0, study.runs[0].manifest.duration_s], **axis())
    figure.update_yaxes(title_text="median latency, ms", type="log", **TICKS, **axis())
    return styled(figure, 300)


def save_distributions(found: Devices, file: Path) -> None:
    """A picture with one panel a study: the distributions of all runs."""
    with rc_context(LOOK):
        figure = Figure(figsize=(5.2 * len(found.studies) + 0.4, 3.6), layout="constrained")
        panels = figure.subplots(1, len(found.studies), squeeze=False, sharey=True)[0]
        for study, panel in zip(found.studies, panels, strict=True):
            for side, colour, line in zip(study.sides, COLOURS, LINES, strict=True):
                for run in side.runs:
                    label = f"{side.label}: {side.device.name}" if run is side.runs[0] else None
                    panel.plot(*ecdf(run), color=colour, linestyle=line, linewidth=1.1, label=label)
            panel.axhline(0.95, color=INK, linewidth=0.7, linestyle=":")
            panel.set(xscale="log", xlabel="latency, ms", ylim=(0, 1.01), title=study.model)
            plain_numbers(panel.xaxis)
        panels[0].set_ylabel("share of requests; dotted: P95")
        figure.legend(handles=panels[0].get_legend_handles_labels()[0], loc="outside lower left", fontsize=7)
        save_png(figure, file, dpi=130)


def _curves(study: Study, points: Callable[[LoadedRun], tuple[FloatArray, FloatArray]]) -> go.Figure:
    """One line a run; a side's runs share colour, dash and one entry of the legend."""
    figure = go.Figure()
    for side, colour, dash in zip(study.sides, COLOURS, DASHES, strict=True):
        for run in side.runs:
            x, y = points(run)
            figure.add_scatter(
                x=short(x),
                y=short(y),
                mode="lines",
                line={"color": colour, "width": 1.4, "dash": dash},
                name=html.escape(f"{side.label}: {side.device.name}"),
                legendgroup=side.label,
                showlegend=run is side.runs[0],
                hovertext=html.escape(run.manifest.run_id),
            )
    return figure
