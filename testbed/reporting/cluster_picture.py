"""The picture of a simulated cluster run: replicas, traffic and latency of one model over each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from testbed.measurement.metric_log import MetricLog
from testbed.reporting.pictures import LOOK, plain_numbers
from testbed.reporting.png import save_png
from testbed.reporting.style import INK, MUTED, SIMULATED


def save_cluster(metrics: MetricLog, model: str, target_s: float, title: str, file: Path) -> None:
    """metrics: a cluster run's, source `deployment`, one sample an interval. target_s: of latency, drawn as a line."""

    def series(name: str) -> tuple[np.ndarray, np.ndarray]:
        rows = metrics.select("deployment", name, model=model)
        return rows["time_s"].to_numpy(), rows["value"].to_numpy()

    with rc_context(LOOK):
        figure = Figure(figsize=(7.5, 5.5), layout="constrained")
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[1.2, 1, 1.2])
        for name, label, style in (
            ("spec_replicas", "asked for", {"color": MUTED, "linestyle": "--"}),
            ("ready_replicas", "ready", {"color": SIMULATED}),
        ):
            time_s, values = series(name)
            top.step(time_s, values, where="pre", label=label, linewidth=1.2, **style)
        top.set_ylabel("replicas")
        top.set_ylim(bottom=0)
        top.set_title(title)
        top.legend(loc="upper right", ncols=2)
        time_s, arrived = series("arrived")
        middle.step(time_s, arrived / np.diff(time_s, prepend=0.0), where="pre", color=INK, linewidth=0.8)
        middle.set_ylabel("requests/s")
        middle.set_ylim(bottom=0)
        time_s, p95_s = series("latency_p95")
        bottom.plot(time_s, 1e3 * p95_s, color=SIMULATED, linewidth=1.0, label="P95 of each interval")
        bottom.axhline(1e3 * target_s, color=INK, linestyle="--", linewidth=0.8, label="target")
        bottom.set_yscale("log")
        plain_numbers(bottom.yaxis)
        bottom.set_ylabel("latency, ms")
        bottom.set_xlabel("seconds (simulated)")
        bottom.legend(loc="upper right", ncols=2)
        save_png(figure, file, dpi=150)
