"""A policy's run of a simulated cluster, and what came of it: one record for searches, judges, reports, Python."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.simulated import PolicyRun
from testbed.measurement.latency_histogram import quantile_of
from testbed.simulation.cluster.samples import Totals


@dataclass(frozen=True)
class Outcome:
    """Of one model, up to a moment. histogram: int64[BINS], the answered requests; changes: of the replicas' number."""

    totals: Totals
    histogram: npt.NDArray[np.int64]
    gpu_seconds: float
    changes: int

    @property
    def slo_violation_rate(self) -> float | None:
        """Share of the decided requests that missed their deadline (measurement.misses); None: none is decided."""
        return self.totals.missed_share

    def latency_s(self, q: float) -> float | None:
        """The q-quantile of the answered requests; None: none was answered."""
        return quantile_of(self.histogram, q) if self.histogram.any() else None

    @property
    def mean_latency_s(self) -> float | None:
        """Of the answered requests; None: none was answered."""
        return self.totals.latency_s / self.totals.ok if self.totals.ok else None


def outcome_of(run: PolicyRun, model: str) -> Outcome:
    """So far."""
    return Outcome(
        totals=run.sim.totals(model),
        histogram=run.sim.histogram(model),
        gpu_seconds=run.sim.gpu_seconds(model),
        changes=sum(step.model == model for step in run.steps),
    )


def rollout(run: PolicyRun, model: str, until_s: float) -> Outcome:
    """Let the run go on until that second."""
    run.advance(until_s)
    return outcome_of(run, model)
