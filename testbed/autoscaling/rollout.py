"""A policy's run of a simulated cluster, and what came of it: one record for training, searches, judges, reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.simulated import PolicyRun
from testbed.measurement.latency_histogram import quantile_of
from testbed.measurement.misses import slo_violation_rate
from testbed.simulation.cluster.samples import Totals


@dataclass(frozen=True)
class Outcome:
    """Of one model, up to a moment or between two. histogram: int64[BINS], the answered requests.

    cost: of all the cluster's nodes, in its currency; None: they have no price.
    changes: how often the number of replicas was changed. replicas_changed: by how many replicas in all, up or down;
    what is asked for at the last moment counts from then on.
    """

    totals: Totals
    histogram: npt.NDArray[np.int64]
    gpu_seconds: float
    changes: int
    replicas_changed: int
    cost: float | None = None

    @property
    def slo_violation_rate(self) -> float | None:
        """Share of the decided requests that missed their deadline (measurement.misses); None: none is decided."""
        return slo_violation_rate(self.totals.missed, self.totals.decided)

    def latency_s(self, q: float) -> float | None:
        """The q-quantile of the answered requests; None: none was answered."""
        return quantile_of(self.histogram, q) if self.histogram.any() else None

    @property
    def mean_latency_s(self) -> float | None:
        """Of the answered requests; None: none was answered."""
        return self.totals.latency_s / self.totals.ok if self.totals.ok else None

    def since(self, before: Outcome) -> Outcome:
        """What has come since an earlier moment of the same run."""
        return Outcome(
            totals=Totals._make(late - early for late, early in zip(self.totals, before.totals, strict=True)),
            histogram=self.histogram - before.histogram,
            gpu_seconds=self.gpu_seconds - before.gpu_seconds,
            changes=self.changes - before.changes,
            replicas_changed=self.replicas_changed - before.replicas_changed,
            cost=None if self.cost is None or before.cost is None else self.cost - before.cost,
        )


def outcome_of(run: PolicyRun, model: str) -> Outcome:
    """So far."""
    steps, now_s = [step for step in run.steps if step.model == model], run.sim.now_s
    return Outcome(
        totals=run.sim.totals(model),
        histogram=run.sim.histogram(model),
        gpu_seconds=run.sim.gpu_seconds(model),
        changes=len(steps),
        replicas_changed=sum(abs(step.wanted - step.before) for step in steps if step.time_s < now_s),
        cost=run.sim.cost,
    )


def rollout(run: PolicyRun, model: str, until_s: float) -> Outcome:
    """Let the run go on until that second."""
    run.advance(until_s)
    return outcome_of(run, model)
