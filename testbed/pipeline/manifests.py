"""A policy as what a cluster takes: an object of its API, or a configuration of `kis controller`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.manifest import hpa_object
from testbed.autoscaling.policies import Hpa, Keda
from testbed.autoscaling.scaled_object import has_queries, scaled_object
from testbed.autoscaling.search import ServedService
from testbed.pipeline.tune_config import TuneConfig


def manifest_of(settings: Mapping[str, Any], service: ServedService, config: TuneConfig) -> tuple[str, dict[str, Any]]:
    """What to do with the object, and the object."""
    policy = build_policy(dict(settings), service.max_replicas, lambda time_s: 0.0)
    if isinstance(policy, Hpa):
        return "kubectl apply -f THIS", hpa_object(policy.spec, config.deployment, config.namespace, config.deployment)
    if isinstance(policy, Keda) and has_queries(policy):
        return "kubectl apply -f THIS", scaled_object(policy, config.deployment, config.namespace, config.model)
    body = {
        "namespace": config.namespace,
        "deployment": config.deployment,
        "model": config.model,
        "policy": dict(settings),
        "limits": {"min_replicas": int(settings.get("min_replicas", 1)), "max_replicas": service.max_replicas},
    }
    return "kis controller THIS", body
