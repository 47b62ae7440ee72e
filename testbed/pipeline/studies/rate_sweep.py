"""One calibrated service at one constant rate after another: where does its latency leave the ground?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from pydantic import Field

from loadgen.patterns import Constant
from loadgen.schedule import poisson_schedule
from testbed.calibration.profile import ServiceProfile
from testbed.grid_study import Cell, GridStudy
from testbed.reporting.drawing import LOOK, MUTED, SIMULATED, WIDTH, log_axis
from testbed.simulation.simulator import simulate
from workloads.catalog import ServiceConfig


class RateSweep(GridStudy):
    """Every rate is simulated with each seed."""

    name: ClassVar[str] = "rate-sweep"
    title: ClassVar[str] = "one service at constant rates"
    note: ClassVar[str] = "SIMULATED: no request was sent."
    may_grow: ClassVar[tuple[str, ...]] = ("seeds",)

    profile: Path = Field(description="profile-<model>.json of a calibration")
    service: ServiceConfig = ServiceConfig()
    rates: tuple[float, ...] = Field(min_length=1, description="rates, requests/s")
    seeds: int = Field(3, ge=1, description="runs at each rate")
    duration_s: float = Field(60.0, gt=0, description="length of each run")

    def cells(self) -> Sequence[Cell]:
        """Seed by seed, so that each rate has been tried after a part of the time."""
        return [{"rate_rps": rate, "seed": seed} for seed in range(self.seeds) for rate in self.rates]

    def run(self, cell: Cell) -> Mapping[str, float | None]:
        """Of the answered requests."""
        profile, pattern = ServiceProfile.read(self.profile), Constant(rate=cell["rate_rps"])
        schedule = poisson_schedule(pattern, self.duration_s, cell["seed"], profile.model)
        requests = simulate(schedule, profile, self.service, cell["seed"]).requests
        answered = requests.latency_s[requests.ok]
        latency_ms = (1e3 * np.quantile(answered, (0.5, 0.95))).tolist() if len(answered) else (None, None)
        return {"requests": len(schedule), "p50_ms": latency_ms[0], "p95_ms": latency_ms[1]}

    def figures(self, rows: pd.DataFrame) -> Mapping[str, Callable[[], Figure]]:
        """Latency over the rate."""
        return {"Latency against the rate, each run": partial(_latencies, rows)}


@rc_context(LOOK)
def _latencies(rows: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    axes: Any = figure.subplots()
    for name, label, colour in (("p50_ms", "P50", MUTED), ("p95_ms", "P95", SIMULATED)):
        axes.plot(rows["rate_rps"], rows[name], "o", color=colour, label=label)
    axes.set(xlabel="requests/s", ylabel="latency, ms, simulated")
    log_axis(axes, "y")
    figure.legend(loc="outside upper right", ncols=2)
    return figure
