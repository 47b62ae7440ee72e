"""An HpaSpec as the object that a cluster takes: autoscaling/v2, as a dictionary or YAML."""

from __future__ import annotations

from typing import Any

from testbed.autoscaling.hpa.spec import Behavior, HpaSpec, MetricSpec, ScalingRules
from testbed.autoscaling.metrics import METRICS


def hpa_object(spec: HpaSpec, name: str, namespace: str, deployment: str) -> dict[str, Any]:
    """The HorizontalPodAutoscaler of a deployment. External metrics are asked for with the label `deployment`."""
    body: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
        "minReplicas": spec.min_replicas,
        "maxReplicas": spec.max_replicas,
        "metrics": [_metric(metric, deployment) for metric in spec.metrics],
    }
    if spec.behavior is not None:
        body["behavior"] = behavior_body(spec.behavior)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": body,
    }


def behavior_body(behavior: Behavior) -> dict[str, Any]:
    """As the API has it."""
    return {"scaleUp": _rules(behavior.scale_up), "scaleDown": _rules(behavior.scale_down)}


def _metric(metric: MetricSpec, deployment: str) -> dict[str, Any]:
    target: dict[str, Any]
    if metric.target_utilization_pct is not None:
        target = {"type": "Utilization", "averageUtilization": metric.target_utilization_pct}
    elif metric.target_average_value_m is not None:
        target = {"type": "AverageValue", "averageValue": f"{metric.target_average_value_m}m"}
    else:
        target = {"type": "Value", "value": f"{metric.target_value_m}m"}
    if metric.type == "Resource":
        return {"type": "Resource", "resource": {"name": metric.name, "target": target}}
    if metric.type == "ContainerResource":
        of = {"name": metric.name, "container": metric.container, "target": target}
        return {"type": "ContainerResource", "containerResource": of}
    # An API has no places in Python: the adapter of a cluster offers a metric by its name.
    name = METRICS.find(metric.name).name if ":" in metric.name else metric.name
    if metric.type == "Pods":
        return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}
    if metric.type == "External":
        selector = {"matchLabels": {"deployment": deployment}}
        return {
            "type": "External",
            "external": {"metric": {"name": name, "selector": selector}, "target": target},
        }
    described = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment}
    return {
        "type": "Object",
        "object": {"describedObject": described, "metric": {"name": name}, "target": target},
    }


def _rules(rules: ScalingRules) -> dict[str, Any]:
    body: dict[str, Any] = {
        "selectPolicy": rules.select_policy,
        "policies": [
            {"type": policy.type, "value": policy.value, "periodSeconds": round(policy.period_s)}
            for policy in rules.policies
        ],
    }
    if rules.stabilization_window_s is not None:
        body["stabilizationWindowSeconds"] = round(rules.stabilization_window_s)
    if rules.tolerance is not None:
        body["tolerance"] = f"{round(1000 * rules.tolerance)}m"
    return body
