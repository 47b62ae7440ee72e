"""The figure of a plan: the latency percentile against the number of replicas, one line a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.reporting.drawing import INK, LOOK, log_axis


@rc_context(LOOK)
def plan(
    settings: Mapping[str, Sequence[tuple[int, float, float, float]]], target_ms: float, percentile: float
) -> Figure:
    """settings: label -> (replicas, low, middle, high in ms), ascending in replicas."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, points in settings.items():
        replicas, low, middle, high = np.array(points).T
        axes.errorbar(replicas, middle, yerr=[middle - low, high - middle], marker="o", capsize=3, label=name)
    axes.axhline(target_ms, color=INK, linestyle="--", linewidth=1, label=f"target {target_ms:g} ms")
    log_axis(axes, "y")
    axes.set(xlabel="replicas", ylabel=f"P{percentile:g}, ms (simulated, 90 % intervals)")
    axes.locator_params(axis="x", nbins=10, integer=True)
    figure.legend(loc="outside upper left", ncols=3)
    return figure
