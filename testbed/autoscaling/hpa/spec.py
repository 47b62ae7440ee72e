"""What a HorizontalPodAutoscaler asks for (autoscaling/v2), and the flags of the controller that runs it.

Amounts are integers in milli-units ("m": 1000 is 1.0), as the controller computes with them; times are seconds.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from testbed.config import Strict

MetricType = Literal["Resource", "ContainerResource", "Pods", "Object", "External"]
OF_SERVICE = ("Object", "External")  # types of metrics that one value for all pods answers


class ScalingPolicy(Strict):
    """At most `value` pods, or percent of the pods, within period_s."""

    type: Literal["Pods", "Percent"] = Field(description="unit of the value")
    value: int = Field(gt=0, description="largest change within the period")
    period_s: float = Field(gt=0, le=1800, description="period of the policy")


class ScalingRules(Strict):
    """How fast to scale in one direction."""

    stabilization_window_s: float | None = Field(None, ge=0, le=3600, description="none: 0 up, the flag's down")
    select_policy: Literal["Max", "Min", "Disabled"] = Field("Max", description="which of the policies applies")
    policies: tuple[ScalingPolicy, ...] = Field(min_length=1, description="limits on the rate of change")
    tolerance: float | None = Field(None, ge=0, description="none: the controller's flag; Kubernetes >= 1.33")


DEFAULT_SCALE_UP = ScalingRules(
    stabilization_window_s=0,
    policies=(
        ScalingPolicy(type="Pods", value=4, period_s=15),
        ScalingPolicy(type="Percent", value=100, period_s=15),
    ),
)
DEFAULT_SCALE_DOWN = ScalingRules(policies=(ScalingPolicy(type="Percent", value=100, period_s=15),))


class Behavior(Strict):
    """The API's defaults where a direction, or a field of it, is left out."""

    scale_up: ScalingRules = DEFAULT_SCALE_UP
    scale_down: ScalingRules = DEFAULT_SCALE_DOWN

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        defaults = {"scale_up": DEFAULT_SCALE_UP, "scale_down": DEFAULT_SCALE_DOWN}
        given = {name: data[name] for name in defaults if isinstance(data.get(name), dict)}
        return {**data, **{name: {"policies": defaults[name].policies, **rules} for name, rules in given.items()}}


class MetricSpec(Strict):
    """One metric and its target. Exactly one of the three targets is given."""

    type: MetricType = Field(description="type of the metric, as in the API")
    name: str = Field(description="name of the resource or metric, e.g. cpu, queue_time")
    container: str | None = Field(None, description="container of a ContainerResource")
    target_utilization_pct: int | None = Field(None, gt=0, description="target, percent of the request")
    target_average_value_m: int | None = Field(None, gt=0, description="target per pod, milli-units")
    target_value_m: int | None = Field(None, gt=0, description="target, milli-units")

    @property
    def key(self) -> str:
        """Names the reading that answers it, e.g. Resource/cpu."""
        return "/".join(part for part in (self.type, self.name, self.container) if part)

    @model_validator(mode="after")
    def _targets_fit(self) -> Self:
        allowed = {
            "Resource": ("target_utilization_pct", "target_average_value_m"),
            "ContainerResource": ("target_utilization_pct", "target_average_value_m"),
            "Pods": ("target_average_value_m",),
            "Object": ("target_value_m", "target_average_value_m"),
            "External": ("target_value_m", "target_average_value_m"),
        }[self.type]
        targets = ("target_utilization_pct", "target_average_value_m", "target_value_m")
        given = [name for name in targets if getattr(self, name) is not None]
        if len(given) != 1 or given[0] not in allowed:
            raise ValueError(
                f"a {self.type} metric has exactly one target, {' or '.join(allowed)}: got {given or 'none'}"
            )
        if (self.container is not None) != (self.type == "ContainerResource"):
            raise ValueError("a ContainerResource metric names its container, and no other type has one")
        return self


class HpaSpec(Strict):
    """The object that a user writes. min_replicas 0 needs an Object or External metric, as in the API."""

    min_replicas: int = Field(1, ge=0, description="smallest number of replicas")
    max_replicas: int = Field(ge=1, description="largest number of replicas")
    metrics: tuple[MetricSpec, ...] = Field((), description="metrics; the largest proposal applies")
    behavior: Behavior | None = Field(None, description="none: the rules from before behavior existed")

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        if self.min_replicas == 0 and self.metrics and not any(m.type in OF_SERVICE for m in self.metrics):
            raise ValueError("min_replicas 0 needs an Object or External metric: others have no value without pods")
        return self


class ControllerFlags(Strict):
    """kube-controller-manager's --horizontal-pod-autoscaler-* flags with its defaults, and what changed by version."""

    sync_period_s: float = Field(15.0, gt=0, description="time between two decisions")
    tolerance: float = Field(0.1, ge=0, description="relative deviation from the target that changes nothing")
    downscale_stabilization_s: float = Field(
        300.0, ge=0, description="scale down to the largest proposal within this time"
    )
    cpu_initialization_period_s: float = Field(
        300.0, ge=0, description="age of a pod below which its CPU may be ignored"
    )
    initial_readiness_delay_s: float = Field(
        30.0, ge=0, description="age of a pod within which its first readiness counts"
    )
    kubernetes_minor: int = Field(
        34, ge=23, description="minor version 1.x; from 33 on the tolerance is compared differently"
    )
    scale_up_limit_factor: int = Field(2, ge=1, description="without behavior; a constant of the controller")
    scale_up_limit_minimum: int = Field(4, ge=1, description="without behavior; a constant of the controller")
