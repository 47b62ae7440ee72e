"""An HpaSpec as the object that the API takes. tests/cluster has the API server's own opinion."""

from __future__ import annotations

import pytest

from testbed.autoscaling.hpa.manifest import hpa_object
from testbed.autoscaling.hpa.spec import Behavior, HpaSpec, MetricSpec, ScalingPolicy, ScalingRules


def of(metric: MetricSpec) -> dict[str, object]:
    spec = HpaSpec(max_replicas=5, metrics=(metric,))
    found: dict[str, object] = hpa_object(spec, "h", "ns", "triton")["spec"]["metrics"][0]
    return found


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (
            MetricSpec(type="Resource", name="cpu", target_utilization_pct=60),
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
            },
        ),
        (
            MetricSpec(type="ContainerResource", name="cpu", container="triton", target_average_value_m=500),
            {
                "type": "ContainerResource",
                "containerResource": {
                    "name": "cpu",
                    "container": "triton",
                    "target": {"type": "AverageValue", "averageValue": "500m"},
                },
            },
        ),
        (
            MetricSpec(type="Pods", name="queue_time_ms", target_average_value_m=2500),
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": "queue_time_ms"},
                    "target": {"type": "AverageValue", "averageValue": "2500m"},
                },
            },
        ),
        (
            MetricSpec(type="External", name="queue_time_ms", target_value_m=2500),
            {
                "type": "External",
                "external": {
                    "metric": {"name": "queue_time_ms", "selector": {"matchLabels": {"deployment": "triton"}}},
                    "target": {"type": "Value", "value": "2500m"},
                },
            },
        ),
    ],
    ids=lambda value: value.type if isinstance(value, MetricSpec) else "",
)
def test_each_kind_of_metric(metric: MetricSpec, expected: dict[str, object]) -> None:
    assert of(metric) == expected


def test_bounds_target_and_behaviour() -> None:
    down = ScalingRules(
        stabilization_window_s=0,
        select_policy="Min",
        policies=(ScalingPolicy(type="Percent", value=50, period_s=30),),
        tolerance=0.05,
    )
    metric = MetricSpec(type="Pods", name="queue_time_ms", target_average_value_m=5000)
    spec = HpaSpec(min_replicas=2, max_replicas=7, metrics=(metric,), behavior=Behavior(scale_down=down))
    made = hpa_object(spec, "h", "ns", "triton")
    assert made["metadata"] == {"name": "h", "namespace": "ns"}
    assert made["spec"]["scaleTargetRef"]["name"] == "triton"
    assert (made["spec"]["minReplicas"], made["spec"]["maxReplicas"]) == (2, 7)
    assert made["spec"]["behavior"]["scaleDown"] == {
        "selectPolicy": "Min",
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 30}],
        "stabilizationWindowSeconds": 0,
        "tolerance": "50m",
    }
    assert made["spec"]["behavior"]["scaleUp"]["policies"][0] == {"type": "Pods", "value": 4, "periodSeconds": 15}


def test_without_behaviour_the_api_has_its_own() -> None:
    spec = HpaSpec(max_replicas=5, metrics=(MetricSpec(type="Pods", name="queue_time_ms", target_average_value_m=1),))
    assert "behavior" not in hpa_object(spec, "h", "ns", "triton")["spec"]
