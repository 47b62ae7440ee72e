"""Figures of an experiment: replicas and latency of real and simulated runs over each other, and their costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from plotly.subplots import make_subplots

from testbed.reporting.cluster_figures import add_offered
from testbed.reporting.experiment import Experiment, PairOfRuns, Side, ready_replicas
from testbed.reporting.pictures import LOOK
from testbed.reporting.png import save_png
from testbed.reporting.style import INK, MUTED, REAL, SIMULATED, axis, short, styled

BIN_S = 2.0
FEWEST = 8  # requests of a bin that gets a P95
Steps = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def asked_for(side: Side) -> Steps:
    """Steps of the number of replicas that the scaler asked for."""
    duration_s, start = side.run.manifest.duration_s, side.run.manifest.service.replicas
    changes = [one for one in side.decisions if one["time_s"] <= duration_s]
    counts = [start, *(one["wanted"] for one in changes)]
    times = [0.0, *(one["time_s"] for one in changes), duration_s]
    return np.array(times), np.array([*counts, counts[-1]], dtype=float)


def p95_of_bins(side: Side) -> Steps:
    """Middle of each bin of BIN_S, and the P95 in ms of the requests scheduled in it; NaN: too few answered."""
    edges = np.arange(0, side.run.manifest.duration_s + BIN_S, BIN_S)
    place = np.digitize(side.run.requests.seconds("scheduled_ns"), edges) - 1
    latency_ms = 1e3 * side.run.requests.latency_s
    values = []
    for k in range(len(edges) - 1):
        mine = latency_ms[(place == k) & np.isfinite(latency_ms)]
        values.append(float(np.quantile(mine, 0.95)) if len(mine) >= FEWEST else np.nan)
    return (edges[:-1] + edges[1:]) / 2, np.array(values)


def offered(side: Side) -> Steps:
    """Middle of each bin of BIN_S, and requests a second."""
    edges = np.arange(0, side.run.manifest.duration_s + BIN_S, BIN_S)
    return (edges[:-1] + edges[1:]) / 2, np.histogram(side.run.schedule.scheduled_s, edges)[0] / BIN_S


def over_time(pair: PairOfRuns, target_s: float) -> go.Figure:
    """Replicas asked for (dashed) and ready, offered rate, P95 of each bin: real runs and the simulated ones."""
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, row_heights=[0.4, 0.2, 0.4], vertical_spacing=0.05)
    sides = [(side, REAL, f"real {k}") for k, side in enumerate(pair.real, start=1)]
    sides += [(side, SIMULATED, f"simulated {k}") for k, side in enumerate(pair.sim, start=1)]
    for side, colour, label in sides:
        assert side.run.metrics is not None
        ready = ready_replicas(side.run.metrics, side.run.manifest.duration_s)
        for (x, y), what, dash in ((asked_for(side), "asked for", "dot"), (ready, "ready", "solid")):
            line = {"color": colour, "width": 1.5, "dash": dash, "shape": "hv"}
            figure.add_scatter(x=short(x), y=short(y), name=f"{label}, {what}", mode="lines", line=line, row=1, col=1)
        x, y = p95_of_bins(side)
        line = {"color": colour, "width": 1.5}
        figure.add_scatter(
            x=short(x), y=short(y), name=f"{label}, P95", showlegend=False, mode="lines", line=line, row=3, col=1
        )
    labelled: set[tuple[str, str]] = set()  # of repeats, which lie close together, one
    for at_s, text, colour in _marks(pair):
        label = "" if (text, colour) in labelled else text
        labelled.add((text, colour))
        figure.add_vline(
            x=round(at_s, 1),
            line={"color": colour, "width": 1, "dash": "dot"},
            annotation={"text": label, "font": {"size": 10, "color": colour}, "textangle": -90},
            row=1,
            col=1,
        )
    add_offered(figure, *offered(pair.real[0]), "hvh")
    figure.add_hline(y=1e3 * target_s, line={"color": INK, "width": 1, "dash": "dash"}, row=3, col=1)
    figure.update_xaxes(**axis())
    figure.update_xaxes(title_text="seconds", row=3, col=1)
    figure.update_yaxes(title_text="replicas", rangemode="tozero", **axis(), row=1, col=1)
    figure.update_yaxes(title_text="offered, 1/s", rangemode="tozero", nticks=4, **axis(), row=2, col=1)
    figure.update_yaxes(title_text="P95, ms", type="log", **axis(), row=3, col=1)
    return styled(figure, 600)


def _marks(pair: PairOfRuns) -> list[tuple[float, str, str]]:
    """When the service changed, and when adaptations took over: seconds, what, colour."""
    marks = [(one["struck_s"], f"batches x {one['slow_down']:g}", INK) for side in pair.real for one in side.faults]
    for sides, colour in ((pair.real, REAL), (pair.sim, SIMULATED)):
        steps = [one for side in sides for one in side.adaptation]
        marks += [(one["time_s"], "promoted", colour) for one in steps if one["state"] == "PROMOTED"]
    return marks


def costs(rows: list[dict[str, object]], name: str, label: str) -> go.Figure:
    """Simulated over real cost, one point a real run, with the line of equality."""
    figure = go.Figure()
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    symbols = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon", "pentagon")
    both = [
        float(str(row[f"{name}_{side}"]))
        for row in rows
        for side in ("real", "sim")
        if row[f"{name}_{side}"] is not None
    ]
    low, high = (min(both), max(both)) if both else (0.0, 1.0)
    figure.add_scatter(x=[low, high], y=[low, high], mode="lines", line={"color": MUTED, "dash": "dash"}, name="equal")
    for k, policy in enumerate(policies):
        mine = [row for row in rows if row["policy"] == policy and row[f"{name}_real"] is not None]
        figure.add_scatter(
            x=[row[f"{name}_real"] for row in mine],
            y=[row[f"{name}_sim"] for row in mine],
            mode="markers",
            name=str(policy),
            text=[str(row["traffic"]) for row in mine],
            marker={"symbol": symbols[k % len(symbols)], "size": 9},
            hovertemplate="%{text}: real %{x}, simulated %{y}<extra></extra>",
        )
    figure.update_xaxes(title_text=f"{label}, real", **axis())
    figure.update_yaxes(title_text=f"{label}, simulated", **axis())
    return styled(figure, 380)


def save_timelines(experiment: Experiment, file: Path) -> None:
    """A picture with one panel a pair: ready replicas, real and simulated, over the offered rate."""
    traffics = list(dict.fromkeys(pair.traffic for pair in experiment.pairs))
    policies = list(dict.fromkeys(pair.policy for pair in experiment.pairs))
    with rc_context(LOOK):
        size = (2.9 * len(policies) + 0.6, 1.9 * len(traffics) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(traffics), len(policies), squeeze=False, sharex="row")
        for panel in panels.flat:
            panel.set_axis_off()
        for pair in experiment.pairs:
            panel = panels[traffics.index(pair.traffic), policies.index(pair.policy)]
            panel.set_axis_on()
            rate = panel.twinx()
            x, y = offered(pair.real[0])
            rate.fill_between(x, y, step="mid", color=MUTED, alpha=0.15, linewidth=0)
            rate.set_ylim(bottom=0)
            rate.tick_params(labelsize=6, colors=MUTED)
            rate.yaxis.set_major_locator(MaxNLocator(3))
            for sides, colour in ((pair.real, REAL), (pair.sim, SIMULATED)):
                for side in sides:
                    assert side.run.metrics is not None
                    x, y = ready_replicas(side.run.metrics, side.run.manifest.duration_s)
                    panel.step(x, y, where="post", color=colour, linewidth=1.1)
            for at_s, _, colour in _marks(pair):
                panel.axvline(at_s, color=colour, linewidth=0.9, linestyle=":")
            panel.set_ylim(bottom=0)
            panel.set_title(f"{pair.traffic}, {pair.policy}", fontsize=8)
        figure.supylabel("ready replicas", fontsize=8)
        dotted = "; dotted: batches slower, candidate promoted" if any(map(_marks, experiment.pairs)) else ""
        figure.supxlabel(f"seconds (real blue, simulated orange; grey: requests/s{dotted})", fontsize=8)
        save_png(figure, file, dpi=130)
