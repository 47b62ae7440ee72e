"""The figure of a search for an HPA: what each trial missed and held, and how the best came about."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from testbed.reporting.drawing import INK, LOOK, MUTED, SIMULATED, SYMBOLS, WIDTH, log_axis

SHARES_PCT = (0, 1, 2, 5, 10, 20, 50, 100)  # marks of the axis


@rc_context(LOOK)
def trials(table: pd.DataFrame, allowed: float) -> Figure:
    """table: a row a trial, as trials.csv has it. A ring about the trial with the lowest cost."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    outcomes, costs = figure.subplots(1, 2)
    missed_pct = 100 * table["slo_violation_rate"]
    for k, (metric, of_metric) in enumerate(table.groupby("metric", sort=True)):
        drawn = {"marker": SYMBOLS[k % len(SYMBOLS)], "color": f"C{k}", "linestyle": "none", "alpha": 0.8}
        outcomes.plot(of_metric["gpu_seconds"], missed_pct[of_metric.index], label=str(metric), **drawn)
        costs.plot(of_metric.index + 1, of_metric["cost"], markersize=4, **drawn)
    best = int(table["cost"].to_numpy().argmin())
    ring = {"marker": "o", "ms": 14, "mew": 1.8, "fillstyle": "none", "color": INK, "linestyle": "none"}
    outcomes.plot(table["gpu_seconds"].iloc[best], missed_pct.iloc[best], **ring)
    outcomes.axhline(100 * allowed, color=INK, linestyle="--", linewidth=1)
    linear = max(1.0, 100 * allowed)
    outcomes.set_yscale("symlog", linthresh=linear)
    outcomes.set_yticks(SHARES_PCT, [f"{share:g}" for share in SHARES_PCT])
    outcomes.set(title="requests over the target, % (dashed: allowed)", xlabel="GPU-seconds a run")
    outcomes.set(ylabel=f"logarithmic above {linear:g}")
    outcomes.set(xlim=(0, None), ylim=(0, max(1.0, 1.3 * missed_pct.max(), 130 * allowed)))
    order = np.arange(1, len(table) + 1)
    costs.step(order, np.minimum.accumulate(table["cost"]), where="post", color=SIMULATED, lw=1.8, label="best so far")
    costs.axhline(table["cost"].iloc[best], color=MUTED, linewidth=0.8, linestyle=":")
    log_axis(costs, "y")
    costs.set(title="cost of a trial", xlabel="trial")
    costs.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    handles = [*outcomes.get_legend_handles_labels()[0], *costs.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower left", ncols=5)
    return figure
