"""KEDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from testbed.autoscaling.hpa.spec import ControllerFlags, HpaSpec, MetricSpec
from testbed.autoscaling.hpa.stabilization import History
from testbed.autoscaling.metrics import METRICS, SERVICE_METRICS, did_you_mean, is_metric, milli, of_all
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policies.hpa import DEFAULT_FLAGS, Hpa
from testbed.autoscaling.policy import Decision, policy
from testbed.errors import ConfigError


class _KedaMemory(NamedTuple):
    active_s: float  # when the trigger was last active
    hpa: History | None


@policy("keda")
@dataclass(frozen=True)
class Keda:
    """KEDA: an HPA on an external metric from 1 up, and 0 <-> 1 by activation and cooldown (its ScaledObject).

    A metric of all pods has no value without pods: at 0 it takes one of the service itself (arrivals_per_second) to
    wake the deployment. What is sent to it until a pod serves fails, unless the client tries again: KEDA's HTTP add-on,
    which would hold it back, is not modelled.
    """

    metric: str
    threshold: float  # of the metric for each replica
    max_replicas: int
    min_replicas: int = 0
    activation: float = 0.0
    cooldown_s: float = 300.0
    metrics_delay_s: float = 15.0
    window_s: float = 15.0
    flags: ControllerFlags = DEFAULT_FLAGS
    name: str = "keda"

    def __post_init__(self) -> None:
        if not is_metric(self.metric):
            known = ", ".join([*METRICS.known(), *SERVICE_METRICS])
            raise ConfigError(f"KEDA metric {self.metric}: {did_you_mean(self.metric)}known are {known}")

    @property
    def period_s(self) -> float:
        """See Policy."""
        return self.flags.sync_period_s

    def decide(self, observation: Observation, memory: _KedaMemory | None) -> Decision:
        """See Policy."""
        memory = memory or _KedaMemory(observation.now_s, None)
        window = observation.window(self.window_s, self.metrics_delay_s)
        total = None if window is None else of_all(self.metric, window)
        active_s = observation.now_s if total is not None and total > self.activation else memory.active_s
        if observation.spec_replicas == 0:
            up = total is not None and total > self.activation
            return Decision(max(1, self.min_replicas) if up else 0, _KedaMemory(active_s, None), "activation")
        if self.min_replicas == 0 and observation.now_s - active_s >= self.cooldown_s:
            return Decision(0, _KedaMemory(active_s, None), "cooldown is over")
        spec = HpaSpec(
            min_replicas=max(1, self.min_replicas),
            max_replicas=self.max_replicas,
            metrics=(MetricSpec(type="External", name=self.metric, target_average_value_m=milli(self.threshold)),),
        )
        inner = Hpa(spec, self.flags, self.window_s, self.metrics_delay_s)
        decided = inner.decide(observation, memory.hpa)
        return Decision(decided.replicas, _KedaMemory(active_s, decided.memory), decided.reason)
