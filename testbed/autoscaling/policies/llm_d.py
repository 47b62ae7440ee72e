"""llm-d's autoscaler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from testbed.autoscaling.hpa.controller import ScaleTarget, sync
from testbed.autoscaling.hpa.proposal import MetricReadings
from testbed.autoscaling.hpa.spec import Behavior, ControllerFlags, HpaSpec, MetricSpec, ScalingPolicy, ScalingRules
from testbed.autoscaling.hpa.stabilization import History
from testbed.autoscaling.metrics import milli
from testbed.autoscaling.observation import Observation, Window
from testbed.autoscaling.policies.hpa import DEFAULT_FLAGS
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.search import ServedService, Trial
from testbed.errors import ConfigError

BEHAVIOR = Behavior(
    scale_up=ScalingRules(
        stabilization_window_s=30,
        policies=(
            ScalingPolicy(type="Percent", value=100, period_s=60),
            ScalingPolicy(type="Pods", value=4, period_s=60),
        ),
    ),
    scale_down=ScalingRules(stabilization_window_s=180, policies=(ScalingPolicy(type="Pods", value=1, period_s=120),)),
)
DESIRED = MetricSpec(type="External", name="desired_replicas", target_average_value_m=1000)


class _LlmDMemory(NamedTuple):
    saturations: tuple[tuple[float, float], ...]  # of the last smoothing_s: when, and what it was
    hpa: History


@policy("llm_d")
@dataclass(frozen=True)
class LlmD:
    """llm-d's SLO-aware autoscaler: P90 of latency over the SLO decides, through KEDA and an HPA.

    Saturation: P90 latency of rate_window_s over the target, at most `clamp`, mean over smoothing_s. Above scale_up it
    wants replicas in proportion to it, of which those that are ready count (the credit for replicas that still start);
    below scale_down as many as keep it there, without credit; between them nothing changes. The HPA takes that number
    as it is, with its tolerance, and limits the changes (behavior). Defaults of the guide's ScaledObject, other than
    the number of replicas; after llm-d/docs/architecture/advanced/autoscaling/slo-aware-keda.md. It has replaced
    llm-d's Workload Variant Autoscaler.

    Triton tells no percentiles, so there is no P90 here. In its place stands the mean latency of the window (requests
    in flight over answered ones a second, by Little's law) plus (tail - 1) times the mean time in the queue. That is
    the P90 if batch times are constant and queue times exponential (tail: ln 10). With requests in flight and none
    answered it is the clamp, without any it is 0. As published, the credit may also want fewer than there are, while
    many start and the saturation is little above scale_up: the HPA's window holds them.
    """

    told: ClassVar[str] = (
        "latency target; in place of P90 latency: mean latency (in flight / rate) and mean queue time; ready replicas"
    )

    latency_target_s: float
    max_replicas: int
    min_replicas: int = 1
    scale_up: float = 0.55
    scale_down: float = 0.40
    clamp: float = 2.0
    tail: float = math.log(10)
    rate_window_s: float = 60.0
    smoothing_s: float = 45.0
    behavior: Behavior = BEHAVIOR
    metrics_delay_s: float = 15.0
    flags: ControllerFlags = DEFAULT_FLAGS
    name: str = "llm-d"

    def __post_init__(self) -> None:
        if not self.latency_target_s > 0:
            raise ConfigError(f"policy llm_d: latency_target_s must be above 0, not {self.latency_target_s:g}")
        if not 0 < self.scale_down <= self.scale_up < self.clamp:
            raise ConfigError(
                f"policy llm_d: scale_down {self.scale_down:g}, scale_up {self.scale_up:g} and clamp {self.clamp:g} "
                "must grow in this order, from above 0"
            )
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ConfigError(
                f"policy llm_d: min_replicas is {self.min_replicas}: give 1 to max_replicas, {self.max_replicas}"
            )

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        delay_s = service.provisioning_delay_s
        scale_up = float(given.get("scale_up", trial.suggest_float("scale_up", 0.2, 1.5, log=True)))
        window_s = delay_s * trial.suggest_float("down_window", 0.0, 30.0)
        step_s = delay_s * trial.suggest_float("down_step", 0.5, 15.0, log=True)
        return {
            "latency_target_s": service.replica.latency_target_s,
            "scale_up": scale_up,
            "scale_down": scale_up * trial.suggest_float("scale_down", 0.3, 1.0),
            "rate_window_s": delay_s * trial.suggest_float("rate_window", 0.5, 10.0, log=True),
            "smoothing_s": delay_s * trial.suggest_float("smoothing", 0.1, 5.0, log=True),
            "behavior": {
                "scale_up": BEHAVIOR.scale_up.model_copy(
                    update={"stabilization_window_s": min(3600.0, delay_s * trial.suggest_float("up_window", 0.0, 3.0))}
                ).model_dump(),
                "scale_down": {
                    "stabilization_window_s": min(3600.0, window_s),
                    "policies": [{"type": "Pods", "value": 1, "period_s": min(1800.0, step_s)}],
                },
            },
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "metrics_delay_s": service.metrics_delay_s,
        }

    @property
    def period_s(self) -> float:
        """See Policy."""
        return self.flags.sync_period_s

    def decide(self, observation: Observation, memory: _LlmDMemory | None) -> Decision:
        """See Policy.

        Example: saturation 1.1 on 4 ready of 4 replicas: 4 + ceil(4 * (1.1 / .55 - 1)) = 8. While those 4 start (4 of
        8 are ready), 1.1 wants 8 + ceil(8 * (1.1 * .5 / .55 - 1)) = 8: no more. At .2: 8 - floor(8 * (1 - .2 / .4)) =
        4, of which the HPA takes one at a time.
        """
        memory = memory or _LlmDMemory((), History())
        now_s, current, pods = observation.now_s, observation.spec_replicas, observation.pods
        window = observation.window(self.rate_window_s, self.metrics_delay_s)
        if window is None or not window.pods:
            return Decision(current, memory, "no metrics yet")
        newest = min(self.clamp, self.saturation(window))
        samples = (*(old for old in memory.saturations if old[0] > now_s - self.smoothing_s), (now_s, newest))
        smooth = sum(value for _, value in samples) / len(samples)
        ready = sum(1 for pod in pods if pod.ready and not pod.deleting)
        desired = self.desired(current, ready, smooth)
        spec = HpaSpec(
            min_replicas=self.min_replicas, max_replicas=self.max_replicas, metrics=(DESIRED,), behavior=self.behavior
        )
        target = ScaleTarget(current, sum(1 for pod in pods if not pod.deleting), pods)
        readings = MetricReadings({}, {DESIRED.key: [milli(desired)]})
        answer = sync(spec, target, readings, memory.hpa, now_s, self.flags)
        wanted = current if answer.desired_replicas is None else answer.desired_replicas
        reason = f"saturation {smooth:.2f}, {ready} of {current} ready, want {desired}: {current} -> {wanted}"
        return Decision(wanted, _LlmDMemory(samples, answer.history), answer.error or reason)

    def saturation(self, window: Window) -> float:
        """Of one window: what stands in for P90 latency, over the target; inf: requests wait and none is answered."""
        answered, in_flight = float(window.requests.sum()), float(window.in_flight.sum())
        if answered <= 0:
            return math.inf if in_flight > 0 else 0.0
        queue_s = float(window.queue_s.sum()) / answered
        return (in_flight * window.seconds / answered + (self.tail - 1) * queue_s) / self.latency_target_s

    def desired(self, replicas: int, ready: int, saturation: float) -> int:
        """Replicas, before the HPA limits the change."""
        if saturation > self.scale_up:
            credit = ready / replicas if 0 < ready < replicas else 1.0
            return replicas + math.ceil(replicas * (saturation * credit / self.scale_up - 1) - 1e-9)
        if saturation < self.scale_down:
            return replicas - math.floor(replicas * (1 - saturation / self.scale_down) + 1e-9)
        return replicas
