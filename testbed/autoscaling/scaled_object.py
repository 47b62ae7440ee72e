"""KEDA's settings as the object that a cluster takes: a ScaledObject whose triggers ask a Prometheus that scrapes the
pods' Triton.

The queries are those of the metrics (`PodMetric.query`). rate() needs two scrapes in its window: Prometheus has to
scrape at least twice in window_s.
"""

from __future__ import annotations

from typing import Any

from testbed.autoscaling.hpa.manifest import behavior_body
from testbed.autoscaling.keda_metrics import CPU, KedaTrigger, ScalingModifiers
from testbed.autoscaling.metrics import METRICS, SERVICE_METRICS
from testbed.autoscaling.policies.keda import FORECAST, Keda
from testbed.errors import ConfigError

PROMETHEUS = "http://prometheus.monitoring.svc:9090"  # where the documentation installs it; to be changed by the user


def scaled_object(policy: Keda, deployment: str, namespace: str, model: str) -> dict[str, Any]:
    """ConfigError: a metric has no query."""
    spec: dict[str, Any] = {
        "scaleTargetRef": {"name": deployment},
        "pollingInterval": round(policy.polling_interval_s),
        "cooldownPeriod": round(policy.cooldown_s),
        "minReplicaCount": policy.min_replicas,
        "maxReplicaCount": policy.max_replicas,
        "triggers": [_trigger(policy, trigger, namespace, model) for trigger in policy.triggers],
    }
    if policy.initial_cooldown_s:
        spec["initialCooldownPeriod"] = round(policy.initial_cooldown_s)
    if policy.idle_replicas is not None:
        spec["idleReplicaCount"] = policy.idle_replicas
    if policy.fallback is not None:
        spec["fallback"] = {
            "failureThreshold": policy.fallback.failure_threshold,
            "replicas": policy.fallback.replicas,
            "behavior": policy.fallback.behavior,
        }
    advanced: dict[str, Any] = {}
    if policy.behavior is not None:
        advanced["horizontalPodAutoscalerConfig"] = {"behavior": behavior_body(policy.behavior)}
    if policy.scaling_modifiers is not None:
        advanced["scalingModifiers"] = _modifiers(policy.scaling_modifiers)
    if advanced:
        spec["advanced"] = advanced
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": deployment, "namespace": namespace},
        "spec": spec,
    }


def has_queries(policy: Keda) -> bool:
    """Can a Prometheus be asked for all its metrics? It cannot for those of a service as a whole."""
    return all(trigger.metric == CPU or _query(trigger.metric, "", "1m") is not None for trigger in policy.triggers)


def _query(metric: str, selector: str, window: str) -> str | None:
    if metric in SERVICE_METRICS:
        return None
    return METRICS.find("requests_per_second" if metric == FORECAST else metric).query(selector, window)


def _modifiers(modifiers: ScalingModifiers) -> dict[str, str]:
    body = {"formula": modifiers.formula, "target": _text(modifiers.target), "metricType": modifiers.metric_type}
    return body | ({"activationTarget": _text(modifiers.activation_target)} if modifiers.activation_target else {})


def _text(value: float) -> str:
    """Without an exponent, of whole numbers: KEDA reads no other with a fallback."""
    return f"{value:.0f}" if value.is_integer() else repr(value)


def _trigger(policy: Keda, trigger: KedaTrigger, namespace: str, model: str) -> dict[str, Any]:
    name = {} if trigger.name is None else {"name": trigger.name}
    if trigger.metric == CPU:
        return {
            "type": "cpu",
            **name,
            "metricType": "Utilization",
            "metadata": {"value": f"{round(trigger.threshold)}"},
        }
    selector, window = f'{{namespace="{namespace}", model="{model}"}}', f"{round(policy.window_s)}s"
    query = _query(trigger.metric, selector, window)
    if query is None:
        raise ConfigError(f"KEDA metric {trigger.metric}: it has no Prometheus query: give its class a `query`")
    if trigger.metric == FORECAST:
        history = f"{round(policy.forecast_window_s)}s:{window}"
        query = f"predict_linear(({query})[{history}], {round(policy.forecast_ahead_s)})"
    metadata = {"serverAddress": PROMETHEUS, "query": query, "threshold": f"{trigger.threshold:.6g}"}
    if trigger.activation:
        metadata["activationThreshold"] = f"{trigger.activation:.6g}"
    if not trigger.ignore_null_values:
        metadata["ignoreNullValues"] = "false"
    return {"type": "prometheus", **name, "metricType": trigger.metric_type, "metadata": metadata}
