"""KEDA's ScaledObject as settings of the policy `keda`. ../scaled_object.py writes one.

A trigger's query is recognised where it is that of one of the testbed's metrics, with any selector and window; of
another one the user says which metric it is. What the policy cannot do is refused. Names and defaults: KEDA's
apis/keda/v1alpha1/scaledobject_types.go.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field

from testbed.autoscaling.formula import formula_of, in_other_units
from testbed.autoscaling.keda_metrics import CPU, FallbackBehavior, TargetType
from testbed.autoscaling.manifests.api import INT32, ApiObject, Whole, seconds_of
from testbed.autoscaling.manifests.hpa import BehaviorBody
from testbed.autoscaling.manifests.names import Names, likely
from testbed.autoscaling.metrics import METRICS, SERVICE_METRICS
from testbed.autoscaling.policies.keda import FORECAST
from testbed.config_file import build
from testbed.errors import ConfigError

PAUSED = "autoscaling.keda.sh/paused"
NOT_PAUSED = ("false", "f", "0")
SELECTOR, WINDOW = "<selector>", "<window>"
WHOLE = re.compile(r"[+-]?\d+")  # what strconv.ParseInt takes
DURATION = r"(\d[\w.]*)"
PREDICTED = re.compile(
    rf"predict_linear\(\((?P<query>.+)\)\[(?P<history>{DURATION[1:-1]}):[^\]]*\],(?P<ahead>\d+(?:\.\d+)?)\)"
)


class Trigger(ApiObject):
    """One trigger."""

    type: str
    name: str | None = None
    metric_type: Literal["AverageValue", "Value", "Utilization"] | None = None
    metadata: dict[str, Any]
    authentication_ref: Any = None
    use_cached_metrics: bool = False


class HpaConfig(ApiObject):
    """Of the HPA that KEDA makes."""

    name: str | None = None
    behavior: BehaviorBody | None = None


class ScalingModifiersBody(ApiObject):
    """One metric in place of those of the triggers."""

    formula: str = ""
    target: str = ""
    activation_target: str = ""
    metric_type: TargetType = "AverageValue"


class FallbackBody(ApiObject):
    """Where a metric is not known."""

    failure_threshold: int = Field(ge=0)
    replicas: int = Field(ge=0)
    behavior: FallbackBehavior = "static"


class Advanced(ApiObject):
    """Further settings."""

    restore_to_original_replica_count: bool = False  # when the object is deleted
    horizontal_pod_autoscaler_config: HpaConfig = HpaConfig()
    scaling_modifiers: ScalingModifiersBody = ScalingModifiersBody()


class Spec(ApiObject):
    """Of a ScaledObject."""

    scale_target_ref: dict[str, Any]
    polling_interval: int = Field(30, gt=0, le=INT32)
    cooldown_period: int = Field(300, ge=0, le=INT32)
    initial_cooldown_period: int = Field(0, ge=0, le=INT32)
    idle_replica_count: int | None = Field(None, ge=0)
    min_replica_count: int = Field(0, ge=0, le=INT32)
    max_replica_count: int = Field(100, ge=1, le=INT32)
    advanced: Advanced = Advanced()
    fallback: FallbackBody | None = None
    triggers: tuple[Trigger, ...] = Field(min_length=1)


class ScaledObject(Whole):
    """The object."""

    api_version: Literal["keda.sh/v1alpha1"]
    spec: Spec


class Recognised(NamedTuple):
    """What a query asks for: a metric of ours, over what window, and where it is forecast from how much, how far."""

    metric: str
    window_s: float | None
    history_s: float | None = None
    ahead_s: float | None = None


def keda_settings(body: dict[str, Any], where: str, names: Names) -> dict[str, Any]:
    """ConfigError in one line: what KEDA would refuse, or the policy cannot do."""
    whole = build(ScaledObject, body, where)
    spec = whole.spec
    for what, why in _not_modelled(whole):
        raise ConfigError(f"{where}: {what} is not modelled: {why}")
    if spec.idle_replica_count is not None and spec.idle_replica_count >= spec.min_replica_count:
        raise ConfigError(f"{where}: spec.idleReplicaCount {spec.idle_replica_count} must be below minReplicaCount")
    behavior = spec.advanced.horizontal_pod_autoscaler_config.behavior
    queries: list[Recognised] = []
    triggers = []
    factors: dict[str, float] = {}
    for place, trigger in enumerate(spec.triggers):
        settings, query, factor = _trigger(trigger, place, f"{where}: spec.triggers.{place}", names)
        triggers.append({**settings, **({"name": trigger.name} if trigger.name else {})})
        queries += [query] if query is not None else []
        if trigger.name and trigger.type != CPU:
            factors[trigger.name] = factor
    given = {
        "idle_replicas": spec.idle_replica_count,
        "fallback": None if spec.fallback is None else spec.fallback.model_dump(),
        "scaling_modifiers": _modifiers(spec, where, factors),
        "behavior": None if behavior is None else behavior.own(),
        "window_s": _same([query.window_s for query in queries], f"{where}: spec.triggers: the windows of its queries"),
        "forecast_window_s": next((query.history_s for query in queries if query.history_s is not None), None),
        "forecast_ahead_s": next((query.ahead_s for query in queries if query.ahead_s is not None), None),
    }
    return {
        "kind": "keda",
        "triggers": triggers,
        "min_replicas": spec.min_replica_count,
        "max_replicas": spec.max_replica_count,
        "polling_interval_s": float(spec.polling_interval),
        "cooldown_s": float(spec.cooldown_period),
        "initial_cooldown_s": float(spec.initial_cooldown_period),
        **{name: value for name, value in given.items() if value is not None},
    }


def _not_modelled(whole: ScaledObject) -> Iterator[tuple[str, str]]:
    spec, annotations = whole.spec, whole.metadata.get("annotations") or {}
    for name, value in annotations.items():
        if name.startswith(PAUSED) and (name != PAUSED or str(value).lower() not in NOT_PAUSED):
            yield f"metadata.annotations.{name}", "a paused object does not scale: take it off"
    if spec.idle_replica_count:
        yield f"spec.idleReplicaCount {spec.idle_replica_count}", "KEDA itself supports 0 alone: give 0"


def _modifiers(spec: Spec, where: str, factors: Mapping[str, float]) -> dict[str, Any] | None:
    """The formula is one of the testbed's metrics. factors: by the names of the triggers, of theirs over ours."""
    body, where = spec.advanced.scaling_modifiers, f"{where}: spec.advanced.scalingModifiers"
    if body == ScalingModifiersBody():
        return None
    if not body.formula or not body.target:
        raise ConfigError(f"{where}: KEDA needs both formula and target: give them")
    if spec.fallback is not None and WHOLE.fullmatch(body.target) is None:
        why = f"KEDA ignores a fallback unless the target is a whole number in digits (got '{body.target}')"
        raise ConfigError(f"{where}.target: {why}: give one, or take fallback off")
    try:
        formula_of(body.formula, factors)
    except ValueError as error:
        raise ConfigError(f"{where}.formula '{body.formula}': {error}") from None
    settings: dict[str, Any] = {
        "formula": in_other_units(body.formula, factors),
        "target": _number(body.target, f"{where}.target"),
        "metric_type": body.metric_type,
    }
    if body.activation_target:
        settings["activation_target"] = _number(body.activation_target, f"{where}.activationTarget")
    return settings


def _trigger(trigger: Trigger, place: int, where: str, names: Names) -> tuple[dict[str, Any], Recognised | None, float]:
    """Its settings, what its query was recognised as, and how many times ours its metric is."""
    if trigger.type == CPU:
        return _cpu(trigger, where), None, 1.0
    if trigger.type != "prometheus":
        what = f"a trigger of type {trigger.type} is not modelled: prometheus and cpu are"
        raise ConfigError(f"{where}: {what}: take it off to simulate the rest")
    if trigger.metric_type == "Utilization":
        raise ConfigError(f"{where}: metricType Utilization is of cpu and memory: give AverageValue or Value")
    query = " ".join(str(trigger.metadata.get("query") or "").split())
    theirs = trigger.name or str(trigger.metadata.get("metricName") or f"trigger-{place}")
    known = None if theirs in names.said else recognised(query)
    if known is not None:
        metric, factor = known.metric, 1.0
    elif theirs in names.said or not query:
        metric, factor = names.ours(theirs, where, of_service=True)
    else:
        ours = likely(query, of_service=True)
        raise ConfigError(
            f"{where}: its query is not one of the testbed's ({query}): say which metric it is, --metric "
            f"'{theirs}={ours}', or in a configuration metrics: {{{theirs}: {ours}}}; "
            f"known are {', '.join([*METRICS.known(), *SERVICE_METRICS])}, and in another unit e.g. '1000 * {ours}'"
        )
    settings: dict[str, Any] = {"metric": metric, "threshold": _of_metadata(trigger, "threshold", where) / factor}
    if trigger.metadata.get("activationThreshold") is not None:
        settings["activation"] = _of_metadata(trigger, "activationThreshold", where) / factor
    if trigger.metric_type is not None:
        settings["metric_type"] = trigger.metric_type
    ignores = str(trigger.metadata.get("ignoreNullValues", "true"))
    if ignores.lower() not in ("true", "false"):
        raise ConfigError(f"{where}: metadata.ignoreNullValues is true or false (got '{ignores}')")
    settings["ignore_null_values"] = ignores.lower() == "true"
    return settings, known, factor


def _cpu(trigger: Trigger, where: str) -> dict[str, Any]:
    if (trigger.metric_type or trigger.metadata.get("type")) != "Utilization":
        raise ConfigError(f"{where}: of a cpu trigger metricType Utilization is modelled, and no other: give it")
    return {"metric": CPU, "threshold": _of_metadata(trigger, "value", where)}


def _of_metadata(trigger: Trigger, key: str, where: str) -> float:
    if key not in trigger.metadata:
        raise ConfigError(f"{where}: metadata.{key} is missing")
    return _number(trigger.metadata[key], f"{where}: metadata.{key}")


def _number(said: Any, where: str) -> float:
    try:
        value = float(said)
        if not math.isfinite(value):
            raise ValueError
        return value
    except (TypeError, ValueError):
        raise ConfigError(f"{where} is no number (got {said!r})") from None


def recognised(query: str) -> Recognised | None:
    """One of ours, whatever its selector, window and spaces; None: it is none.

    Example: sum(rate(nv_inference_request_success{model="bert"}[30s])) is requests_per_second over 30 s.
    """
    bare = re.sub(r"\s+", "", query)
    predicted = PREDICTED.fullmatch(bare)
    if predicted is None:
        return _of_a_metric(bare)
    inner = _of_a_metric(predicted["query"])
    if inner is None or inner.metric != "requests_per_second":
        return None
    return Recognised(FORECAST, inner.window_s, _seconds(predicted["history"]), float(predicted["ahead"]))


def _of_a_metric(bare: str) -> Recognised | None:
    for name in METRICS.known():
        asked = METRICS.find(name).query(SELECTOR, WINDOW)
        match = None if asked is None else _pattern(asked).fullmatch(bare)
        if match is not None:
            windows = {_seconds(window) for window in match.groups() if window is not None}
            return Recognised(name, windows.pop() if len(windows) == 1 else None) if len(windows) < 2 else None
    return None


def _pattern(query: str) -> re.Pattern[str]:
    text = re.escape(re.sub(r"\s+", "", query))
    text = text.replace(re.escape(SELECTOR), r"(?:\{[^}]*\})?")
    return re.compile(text.replace(re.escape(WINDOW), DURATION))


def _seconds(duration: str) -> float | None:
    try:
        return seconds_of(duration)
    except ValueError:
        return None


def _same(values: list[float | None], what: str) -> float | None:
    """The only one of the known values; ConfigError if they differ."""
    known = sorted({value for value in values if value is not None})
    if len(known) > 1:
        shown = ", ".join(f"{value:g} s" for value in known)
        raise ConfigError(f"{what} differ ({shown}): the policy has one window: give them the same")
    return known[0] if known else None
