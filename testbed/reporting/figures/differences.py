"""The figure of an experiment's differences: of two policies under one traffic, simulated against real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.differences import COSTS
from testbed.reporting.drawing import LOOK, MUTED, SYMBOLS, WIDTH

TITLES = {"replica_seconds": "replica-seconds, %", "slo_violation_rate": "share over target, points"}


@rc_context(LOOK)
def differences(found: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel a cost, a point a kind of traffic and two policies, with its real interval; pale: that includes 0.

    found: of each two policies once. Where the sign is the same on both sides, a point is in the two quadrants along
    the line of equality.
    """
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    panels: Any = figure.subplots(1, len(COSTS), squeeze=False)
    for axes, cost in zip(panels.flat, COSTS, strict=True):
        axes.axhline(0, color=MUTED, linewidth=0.9)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        for k, two in enumerate(one for one in found if one["cost"] == cost):
            look = {"color": f"C{k % 10}", "marker": SYMBOLS[k % len(SYMBOLS)], "markersize": 5, "linewidth": 0.9}
            label: str | None = f"{two['first']} less {two['second']}"
            for kind in sorted(two["kinds"], key=lambda kind: not kind["decided"]):  # the label is of a bright one
                reach = np.array([[kind["real"] - kind["real_low"]], [kind["real_high"] - kind["real"]]])
                alpha = 1.0 if kind["decided"] else 0.3
                axes.errorbar([kind["real"]], [kind["sim"]], xerr=reach, alpha=alpha, label=label, **look)
                label = None
        ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
        axes.plot(ends, ends, color=MUTED, linestyle="--", linewidth=0.9)
        axes.set(title=TITLES[cost], xlabel="real", box_aspect=1)
    panels[0, 0].set_ylabel("simulated")
    figure.legend(handles=panels[0, 0].get_legend_handles_labels()[0], loc="outside lower left", ncols=3)
    return figure
