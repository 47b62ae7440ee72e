"""The page's figures, as plotly figures without a template: the page adds what they all share."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from testbed.reporting.labels import device_text, repeat_band_pct, run_labels
from testbed.reporting.series import NORMAL_95, Curve, OverheadCurves, ServiceCurve, Timeline
from testbed.reporting.style import BAND, GRID, INK, INVALID, MUTED, REAL, REAL_BAND, SIMULATED, axis, short, styled
from testbed.reporting.summary import ComparisonRow, group_key

NAMES = {"real": "real", "repeat": "real, repeated", "simulated": "simulated"}
_LINES: dict[str, dict[str, Any]] = {
    "real": {"color": REAL, "width": 2},
    "repeat": {"color": REAL, "width": 0.8},
    "simulated": {"color": SIMULATED, "width": 2, "dash": "dash"},
}
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star")


def distribution(curves: Sequence[Curve]) -> go.Figure:
    """CDF real over simulated up to P99.5, and beside it the share of slower requests on a log scale, to the last."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.09)
    named: set[str] = set()
    for curve in curves:
        body, tail = curve.probability <= 0.995, (curve.probability >= 0.5) & (curve.probability < 1)
        line = {"line": _LINES[curve.role], "mode": "lines", "legendgroup": curve.role, "name": NAMES[curve.role]}
        figure.add_scatter(
            x=short(curve.latency_ms[body]),
            y=short(curve.probability[body]),
            showlegend=curve.role not in named,
            **line,
            row=1,
            col=1,
        )
        figure.add_scatter(
            x=short(curve.latency_ms[tail]),
            y=short(1 - curve.probability[tail]),
            showlegend=False,
            **line,
            row=1,
            col=2,
        )
        named.add(curve.role)
    figure.update_xaxes(title_text="latency, ms", rangemode="tozero", **axis())
    figure.update_yaxes(title_text="share of requests", range=[0, 1.01], tickformat=".0%", **axis(), row=1, col=1)
    figure.update_yaxes(title_text="share slower", type="log", dtick=1, tickformat="~%", **axis(), row=1, col=2)
    return styled(figure, 300)


def over_time(timeline: Timeline) -> go.Figure:
    """P50 and P95 per bin of scheduled time, with the offered rate beneath."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.06)
    for name, values, role, width in (
        ("P95 real", timeline.p95_real_ms, "real", 2),
        ("P95 simulated", timeline.p95_sim_ms, "simulated", 2),
        ("P50 real", timeline.p50_real_ms, "real", 1),
        ("P50 simulated", timeline.p50_sim_ms, "simulated", 1),
    ):
        line = {**_LINES[role], "width": width}
        figure.add_scatter(x=short(timeline.time_s), y=short(values), name=name, mode="lines", line=line, row=1, col=1)
    figure.add_scatter(
        x=short(timeline.time_s),
        y=short(timeline.offered_rps),
        name="offered rate",
        mode="lines",
        line={"color": MUTED, "width": 1, "shape": "hvh"},
        fill="tozeroy",
        fillcolor=BAND,
        showlegend=False,
        row=2,
        col=1,
    )
    end_s = float(timeline.time_s[0] + timeline.time_s[-1])
    figure.update_xaxes(range=[0, end_s], **axis())
    figure.update_xaxes(title_text="scheduled time, s", row=2, col=1)
    figure.update_yaxes(title_text="latency, ms", rangemode="tozero", **axis(), row=1, col=1)
    figure.update_yaxes(title_text="offered, 1/s", rangemode="tozero", nticks=4, **axis(), row=2, col=1)
    return styled(figure, 360)


def batch_sizes(real: dict[int, int] | None, sim: dict[int, int] | None) -> go.Figure:
    """Share of batches by size; a side that was not measured says so."""
    figure = go.Figure()
    for role, counts in (("real", real), ("simulated", sim)):
        if counts is None:
            figure.add_bar(x=[None], y=[None], name=f"{role}: not measured", marker_color=_LINES[role]["color"])
            continue
        total = sum(counts.values())
        share = [round(100 * count / total, 2) for count in counts.values()]
        figure.add_bar(x=list(counts), y=share, name=role, marker_color=_LINES[role]["color"])
    figure.update_xaxes(title_text="batch size", dtick=1, **axis())
    figure.update_yaxes(title_text="share of batches, %", rangemode="tozero", **axis())
    return styled(figure, 300).update_layout(bargap=0.25)


def overview(rows: Sequence[ComparisonRow]) -> go.Figure:
    """Simulated against real P95 of all runs on log axes, with the identity and a band of 5 % about it."""
    figure = go.Figure()
    shown = [row for row in rows if row.p95_real_ms and row.p95_sim_ms]
    values = [value for row in shown for value in (row.p95_real_ms, row.p95_sim_ms) if value]
    low, high = (min(values) / 1.3, max(values) * 1.3) if values else (1.0, 10.0)
    ends = np.array([low, high])
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(x=ends, y=ends * 1.05, showlegend=False, **band)
    figure.add_scatter(x=ends, y=ends * 0.95, fill="tonexty", fillcolor=BAND, name="within 5 %", **band)
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": MUTED, "width": 1}, name="simulated = real", hoverinfo="skip"
    )
    groups = {group_key(row): row for row in shown}
    for symbol, (key, first) in zip(_SYMBOLS * len(groups), groups.items(), strict=False):
        members = [row for row in shown if group_key(row) == key]
        for name, colour, part in (
            (f"{first.model}, {device_text(first.device, first.emulated)}", SIMULATED, [r for r in members if r.valid]),
            (f"{first.model}, not valid", INVALID, [r for r in members if not r.valid]),
        ):
            if part:
                figure.add_scatter(
                    x=[row.p95_real_ms for row in part],
                    y=[row.p95_sim_ms for row in part],
                    text=[html.escape(row.run_id) for row in part],
                    mode="markers",
                    marker={"symbol": symbol + ("" if colour == SIMULATED else "-open"), "color": colour, "size": 9},
                    name=html.escape(name),
                )
    tick_ms = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5)]
    ticks = {"tickvals": tick_ms, "ticktext": [f"{value:g}" for value in tick_ms]}
    figure.update_xaxes(title_text="P95 real, ms", type="log", range=np.log10(ends), **ticks, **axis())
    figure.update_yaxes(title_text="P95 simulated, ms", type="log", range=np.log10(ends), **ticks, **axis())
    inside = {"orientation": "v", "x": 0.02, "y": 0.98, "yanchor": "top", "bgcolor": "rgba(255, 255, 255, 0.85)"}
    return styled(figure, 480).update_layout(legend={**inside, "traceorder": "normal"})


def by_run(rows: Sequence[ComparisonRow]) -> go.Figure:
    """One line a run of one group: quantile errors over the spread of the repeats, KS, throughput, utilisation."""
    y = list(range(len(rows)))
    figure = make_subplots(
        rows=1, cols=4, shared_yaxes=True, column_widths=[0.46, 0.16, 0.2, 0.18], horizontal_spacing=0.025
    )
    for at, row in enumerate(rows):
        if (band := repeat_band_pct(row)) is not None:
            shape = {"type": "rect", "x0": band[0], "x1": band[1], "y0": at - 0.36, "y1": at + 0.36}
            figure.add_shape(**shape, fillcolor=REAL_BAND, line_width=0, layer="below", row=1, col=1)
    for column, name, symbol, colour, values in _marks(rows):
        size = 9 if name in ("P95", "real", "simulated", "KS") else 7
        figure.add_scatter(
            x=values,
            y=y,
            name=name,
            legendgroup=name,
            showlegend=column in (1, 3),
            mode="markers",
            marker={"symbol": symbol, "color": colour, "size": size, "line": {"width": 1.5, "color": colour}},
            row=1,
            col=column,
        )
    figure.add_bar(x=[None], y=[None], name="range of repeated real P95", marker_color=REAL_BAND, row=1, col=1)
    figure.add_vline(x=0, line={"color": INK, "width": 1}, row=1, col=1)
    titles = ("error, % (simulated - real)", "KS", "throughput, 1/s", "utilisation")
    for column, title in enumerate(titles, start=1):
        figure.update_xaxes(
            title_text=title, rangemode="normal" if column == 1 else "tozero", **axis(), row=1, col=column
        )
    figure.update_yaxes(range=[len(rows) - 0.4, -0.6], tickvals=y, showgrid=True, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(ticktext=_ticks(rows), row=1, col=1)
    return styled(figure, 130 + 26 * len(rows))


def service_time(curve: ServiceCurve) -> go.Figure:
    """The fitted mean by batch size with its 90 % interval, measured means, and the band of 90 % of single batches."""
    x = list(curve.batch_size)
    figure = go.Figure()
    figure.add_scatter(x=x, y=curve.high_ms, mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip")
    figure.add_scatter(
        x=x,
        y=curve.low_ms,
        mode="lines",
        line={"width": 0},
        fill="tonexty",
        fillcolor=REAL_BAND,
        name="90 % of batches",
    )
    bars = {"type": "data", "array": (NORMAL_95 * curve.mean_std_ms).tolist(), "thickness": 1, "width": 3}
    line = {"color": REAL, "width": 1}
    figure.add_scatter(x=x, y=curve.mean_ms, mode="lines", line=line, error_y=bars, name="mean, fitted (90 %)")
    marks = {"color": REAL, "size": 7, "symbol": "circle-open"}
    sizes = np.array(x)[curve.measured].tolist()
    measured_ms = curve.measured_ms[curve.measured]
    figure.add_scatter(x=sizes, y=measured_ms, mode="markers", marker=marks, name="mean, measured")
    figure.update_xaxes(title_text="batch size", **axis())
    figure.update_yaxes(title_text="service time, ms", rangemode="tozero", **axis())
    return styled(figure, 320)


def overhead(curves: OverheadCurves) -> go.Figure:
    """Quantiles of the per-request overhead against the rate of the service."""
    figure = go.Figure()
    widths = {"P50": 2.5, "P95": 1.5}
    for name, values in curves.quantiles_ms.items():
        line = {"color": REAL, "width": widths.get(name, 1), "dash": "dot" if name == "P99" else "solid"}
        figure.add_scatter(x=curves.rate_rps, y=values, mode="lines+markers", line=line, name=name)
    figure.update_xaxes(title_text="rate, 1/s", rangemode="tozero", **axis())
    figure.update_yaxes(title_text="overhead, ms", rangemode="tozero", **axis())
    return styled(figure, 320)


def _marks(rows: Sequence[ComparisonRow]) -> list[tuple[int, str, str, str, list[float | None]]]:
    """(column, name, symbol, colour, value of each row) of every kind of mark in `by_run`."""
    return [
        (1, "P50", "circle-open", SIMULATED, [row.p50_error_pct for row in rows]),
        (1, "P99", "x-thin", SIMULATED, [row.p99_error_pct for row in rows]),
        (1, "P95", "diamond", SIMULATED, [row.p95_error_pct for row in rows]),
        (2, "KS", "circle", SIMULATED, [row.ks for row in rows]),
        (3, "real", "circle-open", REAL, [row.throughput_real_rps for row in rows]),
        (3, "simulated", "line-ns", SIMULATED, [row.throughput_sim_rps for row in rows]),
        (4, "real", "circle-open", REAL, [row.utilisation for row in rows]),
        (4, "simulated", "line-ns", SIMULATED, [row.utilisation_sim for row in rows]),
    ]


def _ticks(rows: Sequence[ComparisonRow]) -> list[str]:
    labels = [html.escape(label) for label in run_labels(rows)]
    red = f'<span style="color:{INVALID}">{{}} NOT VALID</span>'
    return [label if row.valid else red.format(label) for label, row in zip(labels, rows, strict=True)]
