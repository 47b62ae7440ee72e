"""The picture of a plan: the latency percentile against the number of replicas, one line a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from testbed.reporting.pictures import LOOK, plain_numbers
from testbed.reporting.png import save_png
from testbed.reporting.style import INK


def save_plan(
    settings: Mapping[str, Sequence[tuple[int, float, float, float]]], target_ms: float, percentile: float, file: Path
) -> None:
    """settings: label -> (replicas, low, middle, high in ms), ascending in replicas."""
    with rc_context(LOOK):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for name, points in settings.items():
            replicas, low, middle, high = (list(column) for column in zip(*points, strict=True))
            below = [m - lo for m, lo in zip(middle, low, strict=True)]
            above = [hi - m for m, hi in zip(middle, high, strict=True)]
            axes.errorbar(replicas, middle, yerr=[below, above], marker="o", capsize=3, label=name)
        axes.axhline(target_ms, color=INK, linestyle="--", linewidth=1, label=f"target {target_ms:g} ms")
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
        axes.set_xlabel("replicas")
        axes.set_ylabel(f"P{percentile:g}, ms (simulated, 90 % intervals)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        save_png(figure, file, dpi=150)
