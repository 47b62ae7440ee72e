"""KEDA's settings as a ScaledObject."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.policies import Keda
from testbed.autoscaling.scaled_object import scaled_object
from testbed.errors import ConfigError


def spec_of(**settings: Any) -> dict[str, Any]:
    policy = build_policy({"kind": "keda", "min_replicas": 1, **settings}, 8, None)
    assert isinstance(policy, Keda)
    body = scaled_object(policy, "triton", "serving", "bert")
    assert (body["kind"], body["metadata"]) == ("ScaledObject", {"name": "triton", "namespace": "serving"})
    spec: dict[str, Any] = body["spec"]
    return spec


def test_each_trigger_asks_prometheus_for_what_the_policy_sees() -> None:
    triggers = [{"metric": "pending_requests", "threshold": 4, "activation": 1}]
    triggers += [{"metric": "forecast_requests_per_second", "threshold": 52.5}]
    spec = spec_of(triggers=triggers, window_s=30, forecast_window_s=120, forecast_ahead_s=9)
    pending, forecast = (trigger["metadata"] for trigger in spec["triggers"])
    assert pending["query"] == 'sum(nv_inference_pending_request_count{namespace="serving", model="bert"})'
    assert (pending["threshold"], pending["activationThreshold"]) == ("4", "1")
    rate = 'sum(rate(nv_inference_request_success{namespace="serving", model="bert"}[30s]))'
    assert forecast["query"] == f"predict_linear(({rate})[120s:30s], 9)"
    assert forecast["threshold"] == "52.5"
    assert {trigger["metricType"] for trigger in spec["triggers"]} == {"AverageValue"}  # of each replica
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["pollingInterval"]) == (1, 8, 30)


def test_its_behaviour_is_its_hpas() -> None:
    down = {"stabilization_window_s": 90, "policies": [{"type": "Pods", "value": 2, "period_s": 15}]}
    spec = spec_of(metric="in_flight_requests", threshold=3, behavior={"scale_down": down})
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 90
    assert behavior["scaleDown"]["policies"] == [{"type": "Pods", "value": 2, "periodSeconds": 15}]


def test_a_metric_that_prometheus_does_not_have_is_named() -> None:
    with pytest.raises(ConfigError, match="KEDA metric gpu_utilisation_pct: it has no Prometheus query"):
        spec_of(metric="gpu_utilisation_pct", threshold=70)
