"""Figures of a cluster run: replicas, traffic and latency over each other; pods' lives; devices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from testbed.measurement.metric_log import MetricLog
from testbed.reporting.style import BAND, INK, MUTED, SIMULATED, axis, short, styled

SHOWN_PODS = 200  # that lived longest; more bars than pixels show nothing
STATES = {  # a pod's state -> its colour, from waiting to gone
    "pending": "#c9ced6",
    "starting": "#f3d9b1",
    "loading": "#e9b872",
    "ready": "#8fb8de",
    "serving": "#0b62a4",
    "draining": "#7d6b91",
    "backoff": "#a8071a",
}


def over_time(metrics: MetricLog, model: str, target_ms: float) -> go.Figure:
    """Replicas asked for, ready and pending; offered rate; P95 of each interval with the target."""
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, row_heights=[0.36, 0.24, 0.4], vertical_spacing=0.05)

    def series(name: str) -> tuple[np.ndarray, np.ndarray]:
        rows = metrics.select("deployment", name, model=model)
        return rows["time_s"].to_numpy(), rows["value"].to_numpy()

    for name, label, line in (
        ("spec_replicas", "asked for", {"color": MUTED, "width": 1.5, "dash": "dash"}),
        ("ready_replicas", "ready", {"color": SIMULATED, "width": 2}),
        ("pending_replicas", "pending", {"color": INK, "width": 1, "dash": "dot"}),
    ):
        time_s, values = series(name)
        figure.add_scatter(
            x=short(time_s), y=short(values), name=label, mode="lines", line={**line, "shape": "vh"}, row=1, col=1
        )
    time_s, arrived = series("arrived")
    rate = arrived / np.diff(time_s, prepend=0.0)
    add_offered(figure, time_s, rate, "vh")
    time_s, p95_s = series("latency_p95")
    figure.add_scatter(
        x=short(time_s), y=short(1e3 * p95_s), name="P95", line={"color": SIMULATED, "width": 1.5}, row=3, col=1
    )
    figure.add_hline(y=target_ms, line={"color": INK, "width": 1, "dash": "dash"}, row=3, col=1)
    figure.update_xaxes(**axis())
    figure.update_xaxes(title_text="seconds (simulated)", row=3, col=1)
    figure.update_yaxes(title_text="replicas", rangemode="tozero", **axis(), row=1, col=1)
    figure.update_yaxes(title_text="offered, 1/s", rangemode="tozero", nticks=4, **axis(), row=2, col=1)
    figure.update_yaxes(title_text="P95, ms", type="log", **axis(), row=3, col=1)
    return styled(figure, 560)


def add_offered(figure: go.Figure, time_s: np.ndarray, rate_rps: np.ndarray, shape: str, row: int = 2) -> None:
    """The offered rate in that row; shape: of its steps, as plotly calls them."""
    figure.add_scatter(
        x=short(time_s),
        y=short(rate_rps),
        showlegend=False,
        name="offered rate",
        mode="lines",
        line={"color": MUTED, "width": 1, "shape": shape},
        fill="tozeroy",
        fillcolor=BAND,
        row=row,
        col=1,
    )


def pods(metrics: MetricLog, model: str, end_s: float) -> go.Figure:
    """One bar a pod, coloured by its state."""
    figure = go.Figure()
    spans = pod_spans(metrics, model, end_s)
    names = list(dict.fromkeys(spans["pod"]))
    if len(names) > SHOWN_PODS:
        lived = spans.groupby("pod")["seconds"].sum().nlargest(SHOWN_PODS).index
        names = [name for name in names if name in set(lived)]
        spans = spans[spans["pod"].isin(names)]
    for state, colour in STATES.items():
        mine = spans[spans["state"] == state]
        figure.add_bar(
            y=mine["pod"].tolist(),
            x=short(mine["seconds"]),
            base=short(mine["start_s"]),
            orientation="h",
            name=state,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="%{y} " + state + " from %{base:.1f} s for %{x:.1f} s<extra></extra>",
        )
    figure.update_xaxes(title_text="seconds (simulated)", range=[0, end_s], **axis())
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], **axis())
    return styled(figure, 110 + 16 * max(3, len(names))).update_layout(barmode="overlay", bargap=0.3)


def pod_spans(metrics: MetricLog, model: str, end_s: float) -> pd.DataFrame:
    """pod, state, start_s, seconds: what each pod was, from when, and for how long; `gone` is no state to show."""
    rows = metrics.select("replica", "state", model=model).sort_values("time_s", kind="stable")
    spans = []
    for pod, mine in rows.groupby("replica", sort=False) if len(rows) else ():  # none: a model without a pod
        times = [*mine["time_s"], end_s]
        for k, state in enumerate(mine["state"]):
            if state != "gone" and times[k + 1] > times[k]:
                spans.append((pod, state, times[k], times[k + 1] - times[k]))
    return pd.DataFrame(spans, columns=["pod", "state", "start_s", "seconds"])


def devices(metrics: MetricLog) -> go.Figure:
    """Utilisation of each device over time; memory and power beneath, where they are known."""
    known = [
        (name, label, scale)
        for name, label, scale in (
            ("utilisation", "utilisation", 1.0),
            ("memory_used", "memory, GiB", 1 / 2**30),
            ("power", "power, W", 1.0),
        )
        if len(metrics.select("device", name))
    ]
    figure = make_subplots(
        rows=len(known),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.08,
        subplot_titles=[label for _, label, _ in known],
    )
    for row, (name, label, scale) in enumerate(known, start=1):
        table = metrics.select("device", name)
        table["where"] = table["node"] + " #" + table["device"]
        grid = table.pivot_table(index="where", columns="time_s", values="value", sort=False) * scale
        grid = grid.loc[list(dict.fromkeys(table["where"]))]
        length = 1 / len(known)
        figure.add_heatmap(
            x=short(grid.columns.to_numpy(dtype=float)),
            y=list(grid.index),
            z=[short(line) for line in grid.to_numpy()],
            colorscale="Blues",
            zmin=0,
            zmax=1 if name == "utilisation" else None,
            colorbar={"len": 0.9 * length, "y": 1 - (row - 0.5) * length, "thickness": 12},
            hovertemplate="%{y} at %{x} s: %{z} " + label.partition(", ")[2] + "<extra></extra>",
            row=row,
            col=1,
        )
    figure.update_yaxes(autorange="reversed", **axis())
    figure.update_xaxes(**axis())
    figure.update_xaxes(title_text="seconds (simulated)", row=len(known), col=1)
    lines = len(metrics.select("device", "utilisation")[["node", "device"]].drop_duplicates())
    return styled(figure, len(known) * (70 + 20 * min(lines, 40)) + 60)
