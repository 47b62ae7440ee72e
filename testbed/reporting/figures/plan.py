"""The figure of a plan: the latency percentile and what misses the target, against the number of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from testbed.reporting.drawing import INK, LOOK, SYMBOLS, WIDTH, log_axis
from testbed.reporting.plan import Setting

APART = 0.06  # of a replica: settings with the same number of replicas stand side by side


@rc_context(LOOK)
def plan(settings: Sequence[Setting], target_ms: float, percentile: float) -> Figure:
    """One line a setting, with its intervals; a ring about the recommended one."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    panels = latency, missed = figure.subplots(1, 2)
    for k, setting in enumerate(settings):
        replicas = np.array([option["service"]["replicas"] for option in setting.options], dtype=float)
        shift = APART * (k - (len(settings) - 1) / 2)
        drawn: dict[str, Any] = {"marker": SYMBOLS[k % len(SYMBOLS)], "ms": 5, "capsize": 3, "label": setting.name}
        for axes, name, scale in ((latency, "latency_ms", 1.0), (missed, "slo_violation_rate", 100.0)):
            rows = [[option[name][end] for end in ("low", "middle", "high")] for option in setting.options]
            values = scale * np.array(rows, dtype=float).T
            values[~np.isfinite(values)] = np.nan  # nothing was answered
            low, middle, high = values
            axes.errorbar(replicas + shift, middle, yerr=[middle - low, high - middle], color=f"C{k}", **drawn)
            at = replicas == setting.recommended
            axes.plot(replicas[at] + shift, middle[at], "o", ms=15, mew=1.8, fillstyle="none", color=INK)
    latency.axhline(target_ms, color=INK, linestyle="--", linewidth=1)
    log_axis(latency, "y")
    latency.set(title=f"P{percentile:g}, ms (dashed: the target of {target_ms:g} ms)")
    missed.set(title="requests over the target, %", ylim=(0, None))
    tried = [option["service"]["replicas"] for setting in settings for option in setting.options]
    for axes in panels:
        axes.set(xlabel="replicas", xlim=(min(tried) - 0.5, max(tried) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    handles, labels = latency.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2)
    return figure
