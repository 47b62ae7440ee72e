"""A HorizontalPodAutoscaler (autoscaling/v2, v2beta2, v1) as settings of `hpa`. ../hpa/manifest.py writes one.

What is left out is filled as the API server fills it (pkg/apis/autoscaling/v2/defaults.go), and what it refuses is
refused (pkg/apis/autoscaling/validation).
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel

from testbed.autoscaling.hpa.spec import OF_SERVICE, HpaSpec, MetricType
from testbed.autoscaling.manifests.api import INT32, ApiObject, Milli, PositiveMilli, Whole
from testbed.autoscaling.manifests.names import Names
from testbed.config_file import build
from testbed.errors import ConfigError

AMOUNT_OF = {"Utilization": "average_utilization", "AverageValue": "average_value", "Value": "value"}
TARGETS = {
    "Resource": ("Utilization", "AverageValue"),
    "ContainerResource": ("Utilization", "AverageValue"),
    "Pods": ("AverageValue",),
    "Object": ("Value", "AverageValue"),
    "External": ("Value", "AverageValue"),
}
OF_V2 = ("autoscaling.alpha.kubernetes.io/metrics", "autoscaling.alpha.kubernetes.io/behavior")
GIVE_V2 = "give autoscaling/v2, as kubectl get hpa -o yaml does"
ONLY_CONTAINER = "server"  # of a simulated pod


class Target(ApiObject):
    """Of a metric: one amount, of the target's type."""

    type: Literal["Utilization", "AverageValue", "Value"]
    average_utilization: int | None = Field(None, gt=0, le=INT32)
    average_value: PositiveMilli | None = None
    value: PositiveMilli | None = None

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        given = [name for name in AMOUNT_OF.values() if getattr(self, name) is not None]
        if given != [AMOUNT_OF[self.type]]:
            shown = ", ".join(map(to_camel, given)) or "none"
            raise ValueError(f"a target of type {self.type} has {to_camel(AMOUNT_OF[self.type])} alone (got {shown})")
        return self


class Resource(ApiObject):
    """Of all containers of a pod."""

    name: str
    target: Target


class ContainerResource(Resource):
    """Of one container of each pod."""

    container: str


class Identifier(ApiObject):
    """Of a metric. A simulated deployment has its own series alone, so nothing selects among them."""

    name: str
    selector: Any = None


class Described(ApiObject):
    """A metric that an adapter has: of pods, of an object, or from outside the cluster."""

    metric: Identifier
    target: Target
    described_object: Any = None


class Metric(ApiObject):
    """One entry of `metrics`."""

    type: MetricType
    resource: Resource | None = None
    container_resource: ContainerResource | None = None
    pods: Described | None = None
    object: Described | None = None
    external: Described | None = None

    @property
    def source(self) -> Any:
        """What is said of a metric of that type."""
        return getattr(self, self.source_name)

    @property
    def source_name(self) -> str:
        """Its key."""
        return {"ContainerResource": "container_resource"}.get(self.type, self.type.lower())

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        named = [name for name in type(self).model_fields if name != "type" and getattr(self, name) is not None]
        if named != [self.source_name]:
            shown = ", ".join(map(to_camel, named)) or "none"
            raise ValueError(f"a metric of type {self.type} has {to_camel(self.source_name)} alone (got {shown})")
        if self.source.target.type not in TARGETS[self.type]:
            allowed = " or ".join(TARGETS[self.type])
            raise ValueError(f"a {self.type} metric has a target of type {allowed}, not {self.source.target.type}")
        return self


class Limit(ApiObject):
    """A scaling policy."""

    type: Literal["Pods", "Percent"]
    value: int = Field(gt=0, le=INT32)
    period_seconds: int = Field(gt=0, le=1800)


class Rules(ApiObject):
    """Of one direction."""

    stabilization_window_seconds: int | None = Field(None, ge=0, le=3600)
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    policies: tuple[Limit, ...] | None = Field(None, min_length=1)
    tolerance: Milli | None = Field(None, ge=0)

    def own(self) -> dict[str, Any]:
        """What is given, in the testbed's words."""
        limits = [
            {"type": limit.type, "value": limit.value, "period_s": limit.period_seconds}
            for limit in self.policies or ()
        ]
        given = {
            "stabilization_window_s": self.stabilization_window_seconds,
            "select_policy": self.select_policy,
            "policies": limits or None,
            "tolerance": None if self.tolerance is None else self.tolerance / 1000,
        }
        return {name: value for name, value in given.items() if value is not None}


class BehaviorBody(ApiObject):
    """Of an HPA, and of the one that KEDA makes."""

    scale_up: Rules | None = None
    scale_down: Rules | None = None

    def own(self) -> dict[str, Any]:
        """What is given, in the testbed's words; Behavior fills the rest as the API server does."""
        return {
            name: rules.own()
            for name, rules in (("scale_up", self.scale_up), ("scale_down", self.scale_down))
            if rules is not None
        }


CPU_80 = Metric.model_validate(
    {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
)


class Spec(ApiObject):
    """Of an HPA."""

    scale_target_ref: dict[str, Any]
    min_replicas: int = Field(1, ge=0, le=INT32)
    max_replicas: int = Field(ge=1, le=INT32)
    metrics: tuple[Metric, ...] = ()
    behavior: BehaviorBody | None = None


class HorizontalPodAutoscaler(Whole):
    """The object."""

    api_version: Literal["autoscaling/v2", "autoscaling/v2beta2"]  # which have the same fields
    spec: Spec


class SpecV1(ApiObject):
    """Of an HPA of autoscaling/v1, which scales on CPU alone."""

    scale_target_ref: dict[str, Any]
    min_replicas: int = Field(1, ge=0, le=INT32)
    max_replicas: int = Field(ge=1, le=INT32)
    target_cpu_utilization_percentage: int = Field(80, gt=0, le=INT32, alias="targetCPUUtilizationPercentage")

    def as_v2(self) -> dict[str, Any]:
        """The same in the words of autoscaling/v2."""
        cpu = {"type": "Utilization", "averageUtilization": self.target_cpu_utilization_percentage}
        return {
            "scaleTargetRef": self.scale_target_ref,
            "minReplicas": self.min_replicas,
            "maxReplicas": self.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}],
        }


class HorizontalPodAutoscalerV1(Whole):
    """The object of autoscaling/v1."""

    api_version: Literal["autoscaling/v1"]
    spec: SpecV1


def hpa_settings(body: dict[str, Any], where: str, names: Names) -> dict[str, Any]:
    """ConfigError in one line: what the API server would refuse, or the testbed has not."""
    version = body.get("apiVersion")
    if version == "autoscaling/v1":
        whole = build(HorizontalPodAutoscalerV1, body, where)
        lost = [name for name in whole.metadata.get("annotations") or {} if name.startswith(OF_V2)]
        if lost:
            raise ConfigError(f"{where}: metadata.annotations.{lost[0]} has what v1 has no field for: {GIVE_V2}")
        body = {**body, "apiVersion": "autoscaling/v2", "spec": whole.spec.as_v2()}
    elif version not in ("autoscaling/v2", "autoscaling/v2beta2"):
        raise ConfigError(f"{where}: apiVersion is {version}: {GIVE_V2}")
    spec = build(HorizontalPodAutoscaler, body, where).spec
    metrics = spec.metrics or (CPU_80,)
    own = {
        "min_replicas": spec.min_replicas,
        "max_replicas": spec.max_replicas,
        "metrics": [_metric(metric, f"{where}: spec.metrics.{place}", names) for place, metric in enumerate(metrics)],
    }
    if spec.behavior is not None:
        own["behavior"] = spec.behavior.own()
    checked = build(HpaSpec, own, f"{where}: spec")
    return {"kind": "hpa", "spec": checked.model_dump(mode="json", exclude_none=True)}


def _metric(metric: Metric, where: str, names: Names) -> dict[str, Any]:
    source, target = metric.source, metric.source.target
    amount = getattr(target, AMOUNT_OF[target.type])
    if metric.type in ("Resource", "ContainerResource"):
        if source.name != "cpu":
            raise ConfigError(f"{where}: resource {source.name}: not modelled: of resources the testbed has cpu")
        key = "target_utilization_pct" if target.type == "Utilization" else "target_average_value_m"
        # A simulated pod has one container: whatever theirs is called, it is that one.
        container = {"container": ONLY_CONTAINER} if metric.type == "ContainerResource" else {}
        return {"type": metric.type, "name": "cpu", **container, key: amount}
    ours = names.ours(source.metric.name, where, of_service=metric.type in OF_SERVICE)
    key = "target_value_m" if target.type == "Value" else "target_average_value_m"
    return {"type": metric.type, "name": ours.name, key: max(1, math.ceil(amount / ours.factor - 1e-9))}
