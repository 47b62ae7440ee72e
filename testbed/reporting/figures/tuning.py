"""The figures of a search for an autoscaler: what each trial missed and held, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.drawing import INK, LOOK, SYMBOLS, WIDTH

SHARES_PCT = (0, 1, 2, 5, 10, 20, 50, 100)  # marks of the axis


@rc_context(LOOK)
def trials(
    tables: Mapping[str, pd.DataFrame],
    fronts: Mapping[str, Sequence[tuple[float, float]]],
    compared: Mapping[str, tuple[float, float]],
    allowed: float,
    objective: str = "gpu_seconds",
    currency: str = "",
) -> Figure:
    """tables: by candidate, a row a trial, as trials.csv has it. fronts: share missed and what was spent by
    its finalists; compared: of the policies that were not searched. objective: a column of the tables."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    tried, best = figure.subplots(1, 2)
    for k, (name, table) in enumerate(tables.items()):
        look = {"marker": SYMBOLS[k % len(SYMBOLS)], "color": f"C{k}"}
        tried.plot(table[objective], 100 * table["slo_violation_rate"], ls="none", alpha=0.7, label=name, **look)
        front = sorted(fronts[name])
        best.plot([gpu for _, gpu in front], [100 * missed for missed, _ in front], lw=1.2, **look)
    for name, (missed, gpu_seconds) in compared.items():
        best.plot(gpu_seconds, 100 * missed, marker="o", ms=5, color=INK, ls="none")
        best.annotate(name, (gpu_seconds, 100 * missed), xytext=(5, 4), textcoords="offset points", fontsize=8)
    for axes in (tried, best):
        axes.axhline(100 * allowed, color=INK, linestyle="--", linewidth=1)
        axes.set_yscale("symlog", linthresh=max(1.0, 100 * allowed))
        axes.set_yticks(SHARES_PCT, [f"{share:g}" for share in SHARES_PCT])
        spent = "GPU-seconds" if objective == "gpu_seconds" else currency
        axes.set(xlabel=f"{spent} a run", ylabel=f"logarithmic above {max(1.0, 100 * allowed):g}")
        axes.set_ylim(0, max(1.0, 130 * allowed, 1.3 * axes.dataLim.y1))
    tried.set(title="all trials: requests over the target, % (dashed: allowed)", xlim=(0, None))
    best.set(title="finalists, on further runs")
    figure.legend(loc="outside lower left", ncols=5)
    return figure
