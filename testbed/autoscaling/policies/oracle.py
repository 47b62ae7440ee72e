"""A bound: it knows what nobody knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.search import ServedService, Trial


@policy("oracle")
@dataclass(frozen=True)
class Oracle:
    """Knows the arrivals to come: as many replicas as the busiest moment of the next start-up time needs.

    rate_rps: the true rate at a second; replica_capacity_rps: what one replica holds within the target;
    provisioning_delay_s: start-up.
    """

    knows_the_future: ClassVar[bool] = True
    told: ClassVar[str] = "the rate to come, what one replica serves"
    rate_rps: Callable[[float], float]
    replica_capacity_rps: float
    provisioning_delay_s: float
    max_replicas: int
    min_replicas: int = 1
    period_s: float = 1.0
    name: str = "oracle"

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search: a bound at the same share of misses as the others."""
        return {
            "replica_capacity_rps": service.replica.target_rps * trial.suggest_float("capacity", 0.6, 1.2),
            "provisioning_delay_s": service.provisioning_delay_s * trial.suggest_float("ahead", 1.0, 2.0),
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
        }

    @classmethod
    def first_tried(cls, service: ServedService) -> list[dict[str, Any]]:
        """See testbed.autoscaling.search."""
        return [{"capacity": capacity, "ahead": 1.1, "min_replicas": 1} for capacity in (0.8, 0.9, 1.0)]

    def decide(self, observation: Observation, memory: Any) -> Decision:
        """See Policy."""
        steps = max(1, math.ceil(self.provisioning_delay_s / self.period_s)) + 1
        peak = max(self.rate_rps(observation.now_s + k * self.period_s) for k in range(steps))
        wanted = math.ceil(peak / self.replica_capacity_rps)
        return Decision(min(max(wanted, self.min_replicas), self.max_replicas), None, f"{peak:.0f}/s to come")
