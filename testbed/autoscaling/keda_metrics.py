"""What KEDA makes of the metrics of a ScaledObject: whether it is active, and what it answers its HPA.

After pkg/scaling/scale_handler.go, pkg/scaling/modifiers/formula.go and pkg/fallback/fallback.go of KEDA 2.20.2, and
the checks of its apis/keda/v1alpha1/scaledobject_webhook.go.

A metric fails while nobody answers who has answered before. A query without a result fails where its trigger does not
ignore that; where it does, KEDA takes it for 0. Here it is not known then, and nothing is scaled down.

fallback: failures in a row are counted at each poll and each time that the HPA asks, which it does not do at 0
replicas, nor outside its bounds. Above the threshold the fallback answers the HPA, and the trigger is active.

scaling_modifiers: one metric takes the place of those of all triggers but cpu. It has no value while one of them has
none, also of a trigger that the formula does not name. While one of them falls back, it falls back. With the behavior
scalingModifiers the formula has nil of such a trigger instead (`first ?? second`), and falls back if it comes to nil.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import Field

from testbed.autoscaling.formula import Formula, NilError, formula_of, in_milli
from testbed.autoscaling.hpa.spec import MetricSpec
from testbed.autoscaling.metrics import milli
from testbed.config import Strict
from testbed.errors import ConfigError

CPU = "cpu"  # a Resource metric of KEDA's HPA, in per cent of the request; it neither wakes nor keeps awake
COMPOSITE = "composite-metric"  # KEDA's name of what a formula makes of the triggers' metrics
TargetType = Literal["AverageValue", "Value"]  # of each replica, or of all: then the HPA multiplies the ready pods
FallbackBehavior = Literal[
    "static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower", "scalingModifiers"
]


class KedaTrigger(Strict):
    """One trigger of a ScaledObject."""

    metric: str = Field(description="metric of all pods, of the service, forecast_requests_per_second, or cpu")
    threshold: float = Field(gt=0, description="of the metric for each replica; of cpu: per cent of the request")
    activation: float = Field(0.0, description="the trigger is active above it")
    name: str | None = Field(None, description="name of the trigger, for a formula")
    metric_type: TargetType = Field("AverageValue", description="threshold for each replica, or (Value) for all")
    ignore_null_values: bool = Field(True, description="is a query without a result no failure?")


class Fallback(Strict):
    """Where a metric fails."""

    failure_threshold: int = Field(ge=0, description="failures in a row that are borne; the next one falls back")
    replicas: int = Field(ge=0, description="size to fall back to")
    behavior: FallbackBehavior = Field("static", description="when the current size takes the place of `replicas`")

    def size(self, current: int) -> int:
        """That the HPA is to want; of scalingModifiers where the formula comes to nil."""
        if self.behavior == "currentReplicas":
            return current
        if self.behavior == "currentReplicasIfHigher":
            return max(current, self.replicas)
        return min(current, self.replicas) if self.behavior == "currentReplicasIfLower" else self.replicas

    def answer_m(self, metric: MetricSpec, current: int, ready: int) -> int | None:
        """In thousandths; None: the HPA multiplies a Value with the ready pods, so without one there is no answer.

        Example: a target of 5 for each of 6 replicas is 30 of them all; as a Value with 3 pods ready it is 10.
        """
        if metric.target_average_value_m is not None:
            return metric.target_average_value_m * self.size(current)
        assert metric.target_value_m is not None
        return int(metric.target_value_m * (self.size(current) / ready)) if ready else None


class ScalingModifiers(Strict):
    """One metric in place of those of the triggers."""

    formula: str = Field(description="formula of names of triggers (testbed/autoscaling/formula.py)")
    target: float = Field(ge=0.001, description="target of the formula's value")
    activation_target: float = Field(0.0, description="the ScaledObject is active above it")
    metric_type: TargetType = Field("AverageValue", description="target for each replica, or (Value) for all")


class Told(NamedTuple):
    """Of the triggers but cpu, by metric. failed: why it is not known is that nobody answers, or has no result."""

    values: Mapping[str, float | None]
    failed: frozenset[str] = frozenset()


class State(NamedTuple):
    """What a poll finds. active: names of metrics; failed, unknown: is there one that neither is nor falls back?"""

    active: list[str]
    failed: bool
    unknown: bool


@dataclass(frozen=True)
class KedaMetrics:
    """Of one ScaledObject. failures: of each metric in a row. current: size of the deployment; ready: of its pods."""

    triggers: tuple[KedaTrigger, ...]
    fallback: Fallback | None
    modifiers: ScalingModifiers | None

    def check(self) -> None:
        """ConfigError in one line: what KEDA refuses, or would not do."""
        names = [trigger.name for trigger in self.triggers if trigger.name is not None]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"policy keda: two triggers are named {twice}: give each its own name")
        given = {"fallback": self.fallback, "scaling_modifiers": self.modifiers}
        for key, value in given.items():
            if value is not None and all(trigger.metric == CPU for trigger in self.triggers):
                raise ConfigError(f"policy keda: {key} is of triggers other than cpu: give one, or take {key} off")
        if self.modifiers is None:
            if self.fallback is not None and self.fallback.behavior == "scalingModifiers":
                raise ConfigError(
                    "policy keda: fallback.behavior scalingModifiers needs a formula: give one, or static"
                )
            return
        try:
            _ = self.formula
        except ValueError as error:
            raise ConfigError(f"policy keda: formula '{self.modifiers.formula}': {error}") from None
        if self.fallback is not None and self.modifiers.target % 1:
            raise ConfigError(
                f"policy keda: KEDA ignores a fallback unless the target of scaling_modifiers is a whole number "
                f"(got {self.modifiers.target:g}): give one, or take fallback off"
            )

    @property
    def formula(self) -> Formula | None:
        """None: without scaling_modifiers. ValueError: what is wrong with it."""
        if self.modifiers is None:
            return None
        names = [trigger.name for trigger in self.triggers if trigger.name is not None and trigger.metric != CPU]
        return formula_of(self.modifiers.formula, names)

    @property
    def specs(self) -> tuple[MetricSpec, ...]:
        """Of the HPA."""
        specs = [
            MetricSpec(type="Resource", name=CPU, target_utilization_pct=round(trigger.threshold))
            if trigger.metric == CPU
            else _external(trigger.metric, trigger.metric_type, milli(trigger.threshold))
            for trigger in self.triggers
            if self.modifiers is None or trigger.metric == CPU
        ]
        if self.modifiers is not None:
            specs.append(_external(COMPOSITE, self.modifiers.metric_type, in_milli(self.modifiers.target)))
        return tuple(specs)

    def told(self, values: Mapping[str, float | None], *, lost: bool) -> Told:
        """lost: does nobody answer who has answered before?"""
        strict = {trigger.metric for trigger in self.triggers if not trigger.ignore_null_values}
        return Told(values, frozenset(name for name in values if values[name] is None and (lost or name in strict)))

    def counted(self, told: Told, failures: Mapping[str, int]) -> dict[str, int]:
        """The failures, when somebody has asked once more."""
        return {metric: failures.get(metric, 0) + 1 for metric in told.failed}

    def state(self, told: Told, failures: Mapping[str, int], current: int, ready: int) -> State:
        """At a poll."""
        fallen = self.fallen(failures, ready)
        failed = bool(told.failed.difference(fallen, self._nil(failures)))
        unknown = any(value is None and name not in told.failed for name, value in told.values.items())
        if self.modifiers is not None:
            value_m = None if failed else self.answers_m(told, failures, current, ready).get(COMPOSITE)
            above = value_m is not None and value_m / 1000 > self.modifiers.activation_target
            return State([COMPOSITE] if above else [], failed, unknown)
        active = [
            trigger.metric
            for trigger, value in ((trigger, told.values.get(trigger.metric)) for trigger in self.triggers)
            if trigger.metric in fallen or (value is not None and value > trigger.activation)
        ]
        return State(active, failed, unknown)

    def answers_m(self, told: Told, failures: Mapping[str, int], current: int, ready: int) -> dict[str, int]:
        """By the HPA's external metrics, in thousandths; one that is not there is an error."""
        fallen = self.fallen(failures, ready)
        answers: dict[str, int | None] = {}
        for spec in self.specs:
            if spec.name == CPU:
                continue
            if self.fallback is not None and (spec.name in fallen or (spec.name == COMPOSITE and fallen)):
                answers[spec.name] = self.fallback.answer_m(spec, current, ready)
            elif spec.name == COMPOSITE:
                answers[spec.name] = self._composite_m(told.values, self._nil(failures))
            else:
                value = told.values[spec.name]
                answers[spec.name] = None if value is None else milli(value)
        return {name: answer for name, answer in answers.items() if answer is not None}

    def fallen(self, failures: Mapping[str, int], ready: int) -> Sequence[str]:
        """Metrics that fall back. Without a ready pod there is no answer of a Value, so that it goes on to fail."""
        if self.fallback is None or self.fallback.behavior == "scalingModifiers":
            return ()
        types = {trigger.metric: (self.modifiers or trigger).metric_type for trigger in self.triggers}
        return [name for name in self._over(failures) if ready or types[name] != "Value"]

    def _over(self, failures: Mapping[str, int]) -> Sequence[str]:
        """Metrics with more failures than the fallback bears."""
        least = math.inf if self.fallback is None else self.fallback.failure_threshold
        return [name for name, count in failures.items() if count > least]

    def _nil(self, failures: Mapping[str, int]) -> Sequence[str]:
        """Metrics that are nil in the formula."""
        routed = self.fallback is not None and self.fallback.behavior == "scalingModifiers"
        return self._over(failures) if routed else ()

    def _composite_m(self, values: Mapping[str, float | None], nil: Sequence[str]) -> int | None:
        """What the formula makes of the values; None: one of them is not known and not nil, or it has no result."""
        assert self.formula is not None
        assert self.modifiers is not None
        if any(value is None and metric not in nil for metric, value in values.items()):
            return None
        named = {trigger.name: values.get(trigger.metric) for trigger in self.triggers if trigger.name is not None}
        rounded = {name: None if value is None else round(value, 3) for name, value in named.items()}
        try:
            value = self.formula.value(rounded)
        except NilError:
            return None
        if value is None:
            assert self.fallback is not None
            value = self.fallback.replicas * self.modifiers.target
        return in_milli(value)


def _external(name: str, metric_type: TargetType, target_m: int) -> MetricSpec:
    if metric_type == "Value":
        return MetricSpec(type="External", name=name, target_value_m=target_m)
    return MetricSpec(type="External", name=name, target_average_value_m=target_m)
