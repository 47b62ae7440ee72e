"""The figure of a benchmark: what each policy holds at each share of misses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.benchmark import Front
from testbed.reporting.drawing import INK, LOOK, SYMBOLS, WIDTH

SHARES_PCT = (0, 1, 2, 5, 10, 20, 50, 100)  # marks of the axis
COLUMNS = 2


@rc_context(LOOK)
def fronts(by_policy: Mapping[str, Mapping[str, Sequence[Front]]], allowed: float, of_money: bool = False) -> Figure:
    """A panel a service: GPU-seconds (or money) against missed requests, a line through the settings of each search."""
    services = list(next(iter(by_policy.values())))
    rows = -(-len(services) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 3.6 * rows), layout="constrained")
    panels: Any = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes, service in zip(panels.flat, services, strict=False):
        for k, (policy, of) in enumerate(by_policy.items()):
            look = {"marker": SYMBOLS[k % len(SYMBOLS)], "color": f"C{k % 10}", "ms": 4, "lw": 1}
            for search, front in enumerate(of[service]):
                missed, cost = front.missed.mean(axis=-1), front.cost.mean(axis=-1)
                order = np.argsort(missed)
                label = policy if axes is panels.flat[0] and search == 0 else None
                axes.plot(100 * missed[order], 100 * cost[order], label=label, **look)
        axes.axvline(100 * allowed, color=INK, linestyle="--", linewidth=1)
        axes.set_xscale("symlog", linthresh=max(0.5, 100 * allowed))
        axes.set_xticks(SHARES_PCT, [f"{share:g}" for share in SHARES_PCT])
        axes.set(title=service, xlabel=f"requests over the target, % (logarithmic above {max(0.5, 100 * allowed):g})")
        axes.set(ylabel="money, % of all nodes" if of_money else "GPU-seconds, % of all replicas")
    for axes in panels.flat[len(services) :]:
        axes.set_axis_off()
    figure.legend(loc="outside lower left", ncols=4)
    return figure
