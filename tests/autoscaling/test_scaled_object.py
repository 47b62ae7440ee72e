"""KEDA's settings as a ScaledObject."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.metrics import METRICS, PendingRequests, PodMetric, ReplicaCapacity
from testbed.autoscaling.policies import Keda
from testbed.autoscaling.scaled_object import scaled_object
from testbed.autoscaling.search import ServedService
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


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> str:
    """A metric without a query."""
    monkeypatch.setattr(PendingRequests, "query", PodMetric.query)
    return PendingRequests.name


def test_a_metric_that_prometheus_does_not_have_is_named(unasked: str) -> None:
    with pytest.raises(ConfigError, match=f"KEDA metric {unasked}: it has no Prometheus query"):
        spec_of(metric=unasked, threshold=70)


def test_a_search_offers_no_trigger_that_could_not_be_applied(unasked: str) -> None:
    service = ServedService(ReplicaCapacity(1, 4, 250.0, 220.0, 0.05), 6, 5.0, 1.0, 5.0)
    offered: list[list[str]] = []

    class Asked(optuna.trial.FixedTrial):
        def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
            offered.append([*choices])
            return choices[0]

        def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
            return low

        def suggest_int(self, name: str, low: int, high: int, **how: Any) -> int:
            return low

    Keda.suggested(Asked({}), service, {})
    assert set(METRICS.known()) - {unasked} <= set(offered[0])
    assert unasked not in {*offered[0], *offered[1]}


SERIES = {
    'nv_inference_request_success{namespace="n", model="m", pod="a"}': "0+100x10",
    'nv_inference_request_success{namespace="n", model="m", pod="b"}': "0+200x10",
    'nv_inference_request_success{namespace="n", model="other", pod="c"}': "0+700x10",
    'nv_inference_pending_request_count{namespace="n", model="m", pod="a"}': "3+0x10",
    'nv_inference_pending_request_count{namespace="n", model="m", pod="b"}': "4+0x10",
    'nv_inference_request_duration_us{namespace="n", model="m", pod="a"}': "0+20000000x10",
    'nv_inference_request_duration_us{namespace="n", model="m", pod="b"}': "0+5000000x10",
    'nv_inference_queue_duration_us{namespace="n", model="m", pod="a"}': "0+600000x10",
    'nv_inference_queue_duration_us{namespace="n", model="m", pod="b"}': "0+300000x10",
    'nv_gpu_utilization{namespace="n", pod="a", gpu_uuid="1"}': "0.5+0x10",
    'nv_gpu_utilization{namespace="n", pod="a", gpu_uuid="2"}': "0.7+0x10",
    'nv_gpu_utilization{namespace="n", pod="b", gpu_uuid="3"}': "0.9+0x10",
    'nv_gpu_utilization{namespace="n", pod="c", gpu_uuid="4"}': "0.1+0x10",
    'nv_gpu_utilization{namespace="elsewhere", pod="a", gpu_uuid="5"}': "0.1+0x10",
}
ASKED = {  # of pods a and b; the series above are scraped every 10 s
    "requests_per_second": 30,
    "pending_requests": 7,
    "in_flight_requests": 2.5,
    "queue_time_ms": 3,  # 900 ms in the queue, of 300 requests
    "gpu_utilisation_pct": 150,
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH")
def test_prometheus_answers_what_the_metrics_say(tmp_path: Path) -> None:
    assert ASKED.keys() == {name for name in METRICS.known() if METRICS.find(name).__module__ == PodMetric.__module__}
    selector = '{namespace="n", model="m"}'
    cases = [
        {"expr": METRICS.find(name).query(selector, "30s"), "eval_time": "1m"}
        | {"exp_samples": [{"labels": "{}", "value": value}]}
        for name, value in ASKED.items()
    ]
    series = [{"series": name, "values": values} for name, values in SERIES.items()]
    tests = [{"interval": "10s", "input_series": series, "promql_expr_test": cases}]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"tests": tests}))
    asked = ["promtool", "test", "rules", "test.yaml"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
