"""Knative Serving's autoscaler (KPA)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from testbed.autoscaling.observation import Observation, Window
from testbed.autoscaling.policy import Decision, Recommendations, kept, policy
from testbed.autoscaling.search import ServedService, Trial
from testbed.errors import ConfigError


class _KnativeMemory(NamedTuple):
    panic_until_s: float
    panic_replicas: int
    wanted: Recommendations  # for the scale-down delay


@policy("knative")
@dataclass(frozen=True)
class Knative:
    """Knative Serving's autoscaler (KPA) on concurrency; names and defaults of its config-autoscaler.

    Two means of concurrency, over the stable and over the panic window, each divided by the target (container
    concurrency x utilisation). At twice the capacity within the panic window it panics: it follows the short window
    and never goes down until a stable window has passed without that. Rates of change are limited. After its
    pkg/autoscaler/scaling/autoscaler.go. As there, one that begins with several ready pods begins in panic: it keeps
    them for a stable window. initial_scale: replicas that a run begins with.
    """

    told: ClassVar[str] = "requests in flight"

    container_concurrency: float
    max_replicas: int
    min_replicas: int = 1
    target_utilisation: float = 0.7
    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    scale_down_delay_s: float = 0.0
    metrics_delay_s: float = 1.0
    period_s: float = 2.0
    initial_scale: int | None = None
    name: str = "knative"

    def __post_init__(self) -> None:
        if self.min_replicas < 1:
            raise ConfigError(
                "policy knative: min_replicas 0 (Knative's own default) is not modelled, as its activator wakes who "
                'sleeps: give 1 or more (of a Service autoscaling.knative.dev/min-scale: "1")'
            )

    @classmethod
    def start_replicas(cls, settings: Mapping[str, Any]) -> int | None:
        """See testbed.autoscaling.policy."""
        return settings.get("initial_scale")

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        replica = service.replica
        stable_s = service.provisioning_delay_s * trial.suggest_float("stable_window", 1.0, 15.0, log=True)
        return {
            "container_concurrency": replica.instances
            * replica.batch
            * trial.suggest_float("concurrency", 0.2, 4.0, log=True),
            "target_utilisation": 1.0,  # a factor on the same number
            "stable_window_s": stable_s,
            "panic_window_s": stable_s * trial.suggest_float("panic_window", 0.05, 0.5, log=True),
            "panic_threshold": trial.suggest_float("panic_threshold", 1.1, 4.0, log=True),
            "scale_down_delay_s": service.provisioning_delay_s * trial.suggest_float("down_delay", 0.0, 60.0),
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "metrics_delay_s": service.metrics_delay_s,
            "period_s": max(2.0, service.provisioning_delay_s / 20),
        }

    def _begun(self, observation: Observation) -> _KnativeMemory:
        ready = sum(1 for pod in observation.pods if pod.ready and not pod.deleting)
        if ready < 2:
            return _KnativeMemory(-1.0, 0, ())
        return _KnativeMemory(observation.now_s + self.stable_window_s, ready, ())

    def decide(self, observation: Observation, memory: _KnativeMemory | None) -> Decision:
        """See Policy.

        Example: 3 ready pods, target 7 (10 x .7), 30 in flight: ceil(30 / 7) = 5; within the panic window 50 in flight
        want 8 of 3, more than twice: panic, 8.
        """
        memory = memory or self._begun(observation)
        stable = observation.window(self.stable_window_s, self.metrics_delay_s)
        panic = observation.window(self.panic_window_s, self.metrics_delay_s)
        if panic is None:
            return Decision(observation.spec_replicas, memory, "no metrics yet")
        stable = stable or panic
        ready = max(1, sum(1 for pod in observation.pods if pod.ready and not pod.deleting))
        target = self.container_concurrency * self.target_utilisation
        most, least = math.ceil(self.max_scale_up_rate * ready), math.floor(ready / self.max_scale_down_rate)

        def wanted_by(window: Window) -> int:
            return min(max(math.ceil(float(window.in_flight.sum()) / target), least), most)

        by_stable, by_panic = wanted_by(stable), wanted_by(panic)
        panic_until_s, panic_replicas = memory.panic_until_s, memory.panic_replicas
        if math.ceil(float(panic.in_flight.sum()) / target) / ready >= self.panic_threshold:
            panic_until_s = observation.now_s + self.stable_window_s
        panicking = observation.now_s < panic_until_s
        if panicking:
            panic_replicas = max(panic_replicas, by_panic, ready)
            wanted = panic_replicas
        else:
            panic_replicas, wanted = 0, by_stable
        history = kept(memory.wanted, observation.now_s, self.scale_down_delay_s, wanted)
        wanted = max(count for _, count in history)
        wanted = min(max(wanted, self.min_replicas), self.max_replicas)
        reason = f"concurrency {stable.in_flight.sum():.1f} stable, {panic.in_flight.sum():.1f} panic"
        return Decision(
            wanted, _KnativeMemory(panic_until_s, panic_replicas, history), f"{'panic: ' if panicking else ''}{reason}"
        )
