"""Figures of an experiment: replicas and latency of real and simulated runs over each other, and their costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from testbed.reporting.drawing import (
    INK,
    LOOK,
    MUTED,
    REAL,
    SIMULATED,
    SIMULATED_TEXT,
    SYMBOLS,
    WIDTH,
    FloatArray,
    draw_rate,
    log_axis,
    thinned,
)
from testbed.reporting.experiment import Experiment, ExperimentRun, PairOfRuns, asked_replicas, ready_replicas
from testbed.reporting.series import middles, quantiles_of_bins

BIN_S = 2.0
FEWEST = 8  # requests of a bin that gets a P95
COLUMNS = 5  # pairs in a line of `timelines`
Steps = tuple[FloatArray, FloatArray]


def asked_for(side: ExperimentRun) -> Steps:
    """Steps of the number of replicas that the scaler asked for."""
    return asked_replicas(side.run, side.decisions)


def ready(side: ExperimentRun) -> Steps:
    """Steps of the number of replicas that are ready."""
    assert side.run.metrics is not None
    return ready_replicas(side.run.metrics, side.run.manifest.duration_s)


def bins(side: ExperimentRun) -> FloatArray:
    """Edges of the bins of BIN_S, in seconds."""
    return np.arange(0, side.run.manifest.duration_s + BIN_S, BIN_S)


def p95_of_bins(side: ExperimentRun) -> Steps:
    """Middle of each bin, and the P95 in ms of the requests scheduled in it; NaN: too few answered."""
    return middles(bins(side)), quantiles_of_bins(side.run, bins(side), (0.95,), FEWEST)[0]


def offered(side: ExperimentRun) -> Steps:
    """Middle of each bin, and requests a second."""
    return middles(bins(side)), np.histogram(side.run.schedule.scheduled_s, bins(side))[0] / BIN_S


@rc_context(LOOK)
def over_time(pair: PairOfRuns, target_s: float) -> Figure:
    """Replicas asked for (dotted) and ready, offered rate, P95 of each bin: real runs and the simulated ones."""
    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    replicas, rate, latency = figure.subplots(3, 1, sharex=True, height_ratios=[0.4, 0.2, 0.4])
    for side, line, name in _sides(pair):
        replicas.step(*thinned(*ready(side)), where="post", label=f"{name}, ready", **line)
        dotted = line | {"linestyle": ":"}
        replicas.step(*thinned(*asked_for(side)), where="post", label=f"{name}, asked for", **dotted)
        latency.plot(*thinned(*p95_of_bins(side)), **line)
    replicas.set(ylabel="replicas", ylim=(0, None), xlim=(0, pair.real[0].run.manifest.duration_s))
    replicas.locator_params(axis="y", nbins=5, integer=True)
    labelled: set[tuple[str, str]] = set()  # of repeats, which lie close together, one
    for at_s, text, colour in _changes(pair):
        replicas.axvline(at_s, color=colour, linewidth=0.9, linestyle=":")
        if (text, colour) not in labelled:  # what was simulated is written on the other side: it is as late as a rule
            simulated = colour == SIMULATED
            at: dict[str, Any] = {"xytext": (-1, -2), "ha": "right"} if simulated else {"xytext": (3, -2)}
            at |= {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "rotation": 90, "va": "top"}
            replicas.annotate(text, (at_s, 1), color=SIMULATED_TEXT if simulated else colour, fontsize=8, **at)
        labelled.add((text, colour))
    draw_rate(rate, *offered(pair.real[0]), "mid")
    latency.axhline(1e3 * target_s, color=INK, linewidth=0.9, linestyle="--", label="target")
    latency.set(ylabel="P95, ms", xlabel="seconds")
    log_axis(latency, "y")
    handles = [*replicas.get_legend_handles_labels()[0], *latency.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper left", ncols=5)
    figure.align_ylabels()
    return figure


@rc_context(LOOK)
def costs(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> Figure:
    """Simulated over real costs, a panel each, a point a real run, with the line of equality. labels: cost -> title."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    policies = list(dict.fromkeys(str(row["policy"]) for row in rows))
    for axes, (name, label) in zip(figure.subplots(1, len(labels)), labels.items(), strict=True):
        known = [row for row in rows if row[f"{name}_real"] is not None and row[f"{name}_sim"] is not None]
        both = [row[f"{name}_{side}"] for row in known for side in ("real", "sim")]
        ends = [min(both, default=0.0), max(both, default=1.0)]
        axes.plot(ends, ends, color=MUTED, linestyle="--", linewidth=0.9, label="equal")
        for k, policy in enumerate(policies):
            points = [(row[f"{name}_real"], row[f"{name}_sim"]) for row in known if row["policy"] == policy]
            x, y = np.array(points, dtype=float).reshape(-1, 2).T
            axes.plot(x, y, SYMBOLS[k % len(SYMBOLS)], color=f"C{k}", markersize=6, alpha=0.8, label=policy)
        axes.set(title=label, xlabel="real", box_aspect=1)
        axes.locator_params(nbins=5)
    figure.axes[0].set_ylabel("simulated")
    figure.legend(handles=figure.axes[0].get_legend_handles_labels()[0], loc="outside lower left", ncols=6)
    return figure


@rc_context(LOOK)
def timelines(experiment: Experiment) -> Figure:
    """A panel a pair: ready replicas, real and simulated, over the offered rate. Each traffic begins a line."""
    policies = list(dict.fromkeys(pair.policy for pair in experiment.pairs))
    traffics = list(dict.fromkeys(pair.traffic for pair in experiment.pairs))
    columns = min(COLUMNS, len(policies))
    lines = -(-len(policies) // columns)  # of a traffic
    figure = Figure(figsize=(WIDTH, 1.9 * lines * len(traffics) + 0.6), layout="constrained")
    panels = figure.subplots(lines * len(traffics), columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for pair in experiment.pairs:
        row, column = divmod(policies.index(pair.policy), columns)
        panel = panels[lines * traffics.index(pair.traffic) + row, column]
        panel.set_axis_on()
        rate = panel.twinx()
        x, y = offered(pair.real[0])
        rate.fill_between(x, y, step="mid", color=MUTED, alpha=0.15, linewidth=0)
        rate.grid(visible=False)
        rate.set_ylim(bottom=0)
        rate.tick_params(labelsize=7, colors=MUTED)
        rate.locator_params(axis="y", nbins=3)
        for side, line, _ in _sides(pair):
            panel.step(*ready(side), where="post", **line)
        for at_s, _, colour in _changes(pair):
            panel.axvline(at_s, color=colour, linewidth=0.9, linestyle=":")
        panel.set_ylim(bottom=0)
        panel.locator_params(axis="y", nbins=5, integer=True)
        panel.set_title(f"{pair.traffic}, {pair.policy}", fontsize=8)
    handles = [Line2D([], [], label=name, **line) for _, line, name in _sides(experiment.pairs[0])]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    figure.supylabel("ready replicas", fontsize=9)
    dotted = "; dotted: batches slower, candidate promoted" if any(any(_changes(p)) for p in experiment.pairs) else ""
    figure.supxlabel(f"seconds (grey: requests/s{dotted})", fontsize=9)
    return figure


def _sides(pair: PairOfRuns) -> Iterator[tuple[ExperimentRun, dict[str, Any], str]]:
    """Each run with the look of its lines (the first runs are the widest) and its name."""
    for sides, colour, style, name in ((pair.real, REAL, "-", "real"), (pair.sim, SIMULATED, "--", "simulated")):
        for k, side in enumerate(sides, start=1):
            yield side, {"color": colour, "linestyle": style, "linewidth": 1.6 if k == 1 else 0.9}, f"{name} {k}"


def _changes(pair: PairOfRuns) -> Iterator[tuple[float, str, str]]:
    """When the service changed, and when adaptations took over: seconds, what, colour."""
    for side in pair.real:
        for fault in side.faults:
            yield fault["struck_s"], f"batches x {fault['slow_down']:g}", INK
    for side, line, _ in _sides(pair):
        for step in side.adaptation:
            if step["state"] == "PROMOTED":
                yield step["time_s"], "promoted", line["color"]
