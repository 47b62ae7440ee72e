"""A forecast of the arrivals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from testbed.autoscaling.forecast import slope_of
from testbed.autoscaling.observation import Observation, Window
from testbed.autoscaling.policy import Decision, Recommendations, kept, policy
from testbed.autoscaling.search import ServedService, Trial
from workloads.errors import KisError


class Demand(NamedTuple):
    """rate_rps: arrivals a second in the newest window, whose middle was middle_s ago; slope_rps_s: their increase a
    second, by a line through all windows. waiting: requests in the queues at its end."""

    rate_rps: float
    slope_rps_s: float
    waiting: float
    middle_s: float

    def expected_rps(self, provisioning_delay_s: float) -> float:
        """Arrivals a second in provisioning_delay_s from now, if they go on as they did; not below 0."""
        return max(0.0, self.rate_rps + self.slope_rps_s * (self.middle_s + provisioning_delay_s))


def demand_of(observation: Observation, window_s: float, windows: int, metrics_delay_s: float) -> Demand | None:
    """From so many windows, each as long, the newest metrics_delay_s old at least; None: there are no two of them yet.

    The oldest window says only what waited before the next.
    """
    newest_first: list[Window] = []
    for k in range(windows + 1):
        window = observation.window(window_s, metrics_delay_s + k * window_s)
        if window is None:
            break
        newest_first.append(window)
    if len(newest_first) < 2:
        return None
    waiting = [float(window.waiting.sum()) for window in newest_first]
    rates = [window.arrivals_rps(before) for window, before in zip(newest_first, waiting[1:], strict=False)]
    newest = newest_first[0]
    middle_s = observation.now_s - (newest.start_s + newest.end_s) / 2
    return Demand(rates[0], slope_of(np.array(rates[::-1])) / newest.seconds, waiting[0], middle_s)


class _PredictiveMemory(NamedTuple):
    wanted: Recommendations  # for the delay of scaling down


@policy("predictive")
@dataclass(frozen=True)
class Predictive:
    """Forecasts the arrivals to when a pod asked for now would serve, and has as many as they need then.

    Arrivals of each of the last `windows` windows: what was answered, and what the queues grew by. A line through them
    says what comes in provisioning_delay_s; never less than comes now. What waits is to be served within drain_s
    besides. Down only to the largest proposal of down_delay_s.
    """

    told: ClassVar[str] = (
        "requests a second that a replica serves within the target; start-up time; arrivals, from answers and queues"
    )

    replica_capacity_rps: float  # that one replica serves within the latency target
    provisioning_delay_s: float  # from asked for to serving, and what it takes to notice
    max_replicas: int
    min_replicas: int = 1
    window_s: float = 5.0
    windows: int = 6
    drain_s: float = 10.0
    down_delay_s: float = 60.0
    metrics_delay_s: float = 1.0
    period_s: float = 1.0
    name: str = "predictive"

    def __post_init__(self) -> None:
        for name in ("replica_capacity_rps", "window_s", "drain_s", "period_s"):
            if getattr(self, name) <= 0:
                raise KisError(f"policy predictive: {name} must be above 0, not {getattr(self, name):g}")
        if self.windows < 2:
            raise KisError(f"policy predictive: a line needs 2 windows, not {self.windows}")

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        delay_s = service.provisioning_delay_s
        return {
            "replica_capacity_rps": service.replica.target_rps * trial.suggest_float("capacity", 0.5, 1.2, log=True),
            "provisioning_delay_s": delay_s,
            "window_s": delay_s * trial.suggest_float("window", 0.1, 3.0, log=True),
            "windows": trial.suggest_int("windows", 2, 12),
            "drain_s": delay_s * trial.suggest_float("drain", 0.3, 10.0, log=True),
            "down_delay_s": delay_s * trial.suggest_float("down_delay", 0.0, 60.0),
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "metrics_delay_s": service.metrics_delay_s,
            "period_s": max(1.0, delay_s / 20),
        }

    def decide(self, observation: Observation, memory: _PredictiveMemory | None) -> Decision:
        """See Policy.

        Example: 40, 50, 60 requests/s in three windows of 5 s, 10 s ahead: 60 + 2 * 12.5 = 85 at the middle of a window
        that far away; one replica serves 30: 3 wanted.
        """
        memory = memory or _PredictiveMemory(())
        demand = demand_of(observation, self.window_s, self.windows, self.metrics_delay_s)
        if demand is None:
            return Decision(observation.spec_replicas, memory, "no metrics yet")
        to_come = max(demand.rate_rps, demand.expected_rps(self.provisioning_delay_s))
        wanted = math.ceil((to_come + demand.waiting / self.drain_s) / self.replica_capacity_rps - 1e-9)
        wanted = min(max(wanted, self.min_replicas), self.max_replicas)
        history = kept(memory.wanted, observation.now_s, self.down_delay_s, wanted)
        replicas = (
            wanted
            if wanted >= observation.spec_replicas
            else min(observation.spec_replicas, max(count for _, count in history))
        )
        reason = f"{demand.rate_rps:.0f}/s now, {to_come:.0f}/s to come, {demand.waiting:.0f} wait"
        return Decision(replicas, _PredictiveMemory(history), reason)
