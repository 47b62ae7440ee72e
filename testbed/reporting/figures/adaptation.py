"""The figure of an adaptation: what clients missed and what was held, with it and without, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.drawing import INK, INVALID, LOOK, MUTED, SIMULATED, WIDTH, FloatArray, thinned

SMOOTHED_S = 30.0  # over which shares are taken: of single intervals they are too ragged to read
APART = 0.015  # of the run: numbers of steps that are nearer would lie on each other
LINES = (("adapted", SIMULATED, "-", 1.8), ("not adapted", INK, "--", 1.1))


@rc_context(LOOK)
def over_time(runs: Mapping[str, pd.DataFrame], drift_s: float, steps: Sequence[Mapping[str, Any]]) -> Figure:
    """runs: rows of adapted.csv and plain.csv. steps: of the adaptation, numbered in the figure as in its table."""
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    panels = rate, missed, replicas = figure.subplots(3, 1, sharex=True, height_ratios=[0.6, 1.2, 1.0])
    for (name, colour, style, width), table in zip(LINES, runs.values(), strict=True):
        time_s = table["time_s"].to_numpy(dtype=float)
        drawn: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": width}
        missed.plot(*thinned(time_s, missed_pct(table)), label=name, **drawn)
        replicas.step(*thinned(time_s, table["replicas"].to_numpy(dtype=float)), where="pre", **drawn)
    first = next(iter(runs.values()))
    time_s = first["time_s"].to_numpy(dtype=float)
    decided_rps = first["decided"].to_numpy(dtype=float) / np.diff(time_s, prepend=0.0)
    rate.step(*thinned(time_s, decided_rps), where="pre", color=MUTED, linewidth=0.9)
    rate.set(title="requests/s that ended", ylim=(0, None))
    missed.set(title="requests over the target, %", ylim=(0, None))
    replicas.set(title="replicas", xlabel="seconds (simulated)", ylim=(0, None), xlim=(0, time_s[-1]))
    for axes in panels:
        axes.axvline(drift_s, color=INVALID, linewidth=1.2, label="the service changes" if axes is missed else None)
        for step in steps:
            axes.axvline(step["time_s"], color=MUTED, linewidth=0.8, linestyle=":")
        axes.locator_params(axis="y", nbins=5, integer=axes is replicas)
    top = rate.get_xaxis_transform()
    for at_s, numbers in numbered([step["time_s"] for step in steps], float(time_s[-1])).items():
        rate.text(at_s, 1.02, numbers, transform=top, ha="center", va="bottom", fontsize=8)
    handles = missed.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


def numbered(times_s: Sequence[float], end_s: float) -> dict[float, str]:
    """Where the numbers of steps stand, from 1 on; those that are too near each other stand together: `2, 3`."""
    together: list[tuple[float, list[str]]] = []
    for number, time_s in enumerate(times_s, start=1):
        if together and time_s - together[-1][0] < APART * end_s:
            together[-1][1].append(str(number))
        else:
            together.append((time_s, [str(number)]))
    return {time_s: ", ".join(numbers) for time_s, numbers in together}


def missed_pct(table: pd.DataFrame) -> FloatArray:
    """Share of the requests of the last SMOOTHED_S that missed; NaN: none ended in them."""
    time_s = table["time_s"].to_numpy(dtype=float)
    totals = {name: np.append(0, np.cumsum(table[name].to_numpy())) for name in ("missed", "decided")}
    since = np.searchsorted(time_s, time_s - SMOOTHED_S + 1e-9)
    passed = {name: total[1:] - total[since] for name, total in totals.items()}
    decided = passed["decided"].astype(float)
    return np.asarray(np.divide(100.0 * passed["missed"], decided, out=np.full(len(table), np.nan), where=decided > 0))
