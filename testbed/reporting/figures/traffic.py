"""The figure of a trace: its rate over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.drawing import INK, LOOK, WIDTH, draw_rate

UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "hours"), (0.0, 1.0, "seconds"))


@rc_context(LOOK)
def rate_over_time(facts: Mapping[str, Any]) -> Figure:
    """Counts in intervals of one length, and the mean (dashed)."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    interval_s = facts["series"]["interval_s"]
    rates = np.array(facts["series"]["counts"], dtype=np.float64) / interval_s
    scale, unit = next((scale, unit) for least, scale, unit in UNITS if facts["duration_s"] >= least)
    borders = np.arange(len(rates) + 1) * interval_s / scale
    draw_rate(axes, borders, np.append(rates, rates[-1:]), "post")
    axes.axhline(facts["rate_rps"], color=INK, linestyle="--", linewidth=1)
    axes.set(title=f"requests/s in intervals of {interval_s:.3g} s (dashed: the mean)", ylabel="requests/s")
    axes.set(xlabel=f"{unit} since the recording's start", xlim=(0, facts["duration_s"] / scale))
    return figure
