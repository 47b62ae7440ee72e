"""Ray Serve's default autoscaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.search import ServedService, Trial


class _RayMemory(NamedTuple):
    direction: int
    since_s: float


@policy("ray_serve")
@dataclass(frozen=True)
class RayServe:
    """Ray Serve's default policy on ongoing requests a replica; names and defaults of its AutoscalingConfig.

    A change must be asked for, without turning, for upscale_delay_s or downscale_delay_s before it is followed. After
    serve/autoscaling_policy.py.
    """

    told: ClassVar[str] = "requests in flight"

    max_replicas: int
    min_replicas: int = 1
    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    look_back_period_s: float = 30.0
    metrics_delay_s: float = 1.0
    period_s: float = 0.1
    name: str = "ray_serve"

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        delay_s, replica = service.provisioning_delay_s, service.replica
        return {
            "target_ongoing_requests": replica.instances
            * replica.batch
            * trial.suggest_float("target", 0.2, 4.0, log=True),
            "look_back_period_s": delay_s * trial.suggest_float("look_back", 0.2, 10.0, log=True),
            "upscale_delay_s": delay_s * trial.suggest_float("up_delay", 0.0, 5.0),
            "downscale_delay_s": delay_s * trial.suggest_float("down_delay", 0.0, 60.0),
            "upscaling_factor": trial.suggest_float("up_factor", 0.3, 2.0, log=True),
            "downscaling_factor": trial.suggest_float("down_factor", 0.2, 1.0, log=True),
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "metrics_delay_s": service.metrics_delay_s,
            "period_s": max(1.0, delay_s / 20),  # Ray's own, 0.1 s, takes long to simulate
        }

    def decide(self, observation: Observation, memory: _RayMemory | None) -> Decision:
        """See Policy.

        Example: 2 replicas with 3 ongoing requests each and target 2: error ratio 1.5, so 3 are wanted.
        """
        memory = memory or _RayMemory(0, observation.now_s)
        window = observation.window(self.look_back_period_s, self.metrics_delay_s)
        if window is None:
            return Decision(observation.spec_replicas, memory, "no metrics yet")
        current = observation.spec_replicas
        total = float(window.in_flight.sum())
        if current == 0:
            wanted = 1 if total > 0 else 0
        else:
            error = total / current / self.target_ongoing_requests
            factor = self.upscaling_factor if error >= 1 else self.downscaling_factor
            wanted = math.ceil(current * (1 + (error - 1) * factor) - 1e-9)
        wanted = min(max(wanted, self.min_replicas), self.max_replicas)
        direction = (wanted > current) - (wanted < current)
        since_s = memory.since_s if direction == memory.direction else observation.now_s
        delay_s = self.upscale_delay_s if direction > 0 else self.downscale_delay_s
        reason = f"{total:.1f} ongoing requests want {wanted}"
        if direction == 0 or observation.now_s - since_s < delay_s:
            return Decision(current, _RayMemory(direction, since_s), reason)
        return Decision(wanted, _RayMemory(0, observation.now_s), reason)
