"""Which policies of an experiment are an HPA of the cluster's. Those on real pods are in tests/cluster."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.manifest import hpa_object
from testbed.errors import ClusterError, ConfigError
from testbed.pipeline import scalers
from testbed.pipeline.experiment import refuse_what_cannot_run
from testbed.pipeline.scalers import stock_spec
from tests.pipeline.test_experiment import config_of

KEDA = {"kind": "keda", "min_replicas": 2, "triggers": [{"metric": "in_flight_requests", "threshold": 4.5}]}


def spec_of(**settings: Any) -> Any:
    return stock_spec(build_policy(settings, 6, None))


def test_of_a_scaled_object_it_is_the_hpa_that_keda_makes() -> None:
    triggers = [*KEDA["triggers"], {"metric": "requests_per_second", "threshold": 60}]
    body = hpa_object(spec_of(**{**KEDA, "triggers": triggers}), "h", "default", "triton")["spec"]
    assert (body["minReplicas"], body["maxReplicas"]) == (2, 6)
    selector = {"matchLabels": {"deployment": "triton"}}
    assert [metric["external"] for metric in body["metrics"]] == [
        {"metric": {"name": name, "selector": selector}, "target": {"type": "AverageValue", "averageValue": value}}
        for name, value in (("in_flight_requests", "4500m"), ("requests_per_second", "60000m"))
    ]


def test_other_policies_are_no_hpa() -> None:
    assert spec_of(kind="hpa", metric="requests_per_second", target=50).max_replicas == 6
    assert spec_of(kind="fixed", replicas=2) is None
    assert spec_of(kind="knative", container_concurrency=4) is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("fallback", {"failure_threshold": 3, "replicas": 4}, "no HPA falls back"),
        ("scaling_modifiers", {"formula": "1", "target": 1}, "`kis adapter` has no formulas"),
    ],
)
def test_what_kedas_operator_does_beside_its_hpa_needs_the_controller(key: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: {said}: name the policy in real.by_controller"):
        spec_of(**KEDA, **{key: value})


class Api:
    """An API server that answers with the conditions of each look at the HPA, `type=status` each."""

    def __init__(self, *looks: str) -> None:
        self._looks = iter(looks)

    def read_namespaced_horizontal_pod_autoscaler(self, name: str, namespace: str, **how: Any) -> Any:
        conditions = [
            SimpleNamespace(type=kind, status=status, reason="R", message="m")
            for kind, status in (text.split("=") for text in next(self._looks).split())
        ]
        return SimpleNamespace(status=SimpleNamespace(conditions=conditions or None))


def test_an_hpa_looks_before_it_has_metrics_where_there_are_too_few_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its first look it scales to its fewest without metrics; it begins to read them a period later."""
    times = itertools.count(100.0)
    monkeypatch.setattr(scalers.time, "time", lambda: next(times))
    monkeypatch.setattr(scalers, "POLL_S", 0.0)
    api = Api("", "", "AbleToScale=True", "AbleToScale=True", "AbleToScale=True ScalingActive=True")
    assert scalers._first_look(api, "default") == 100.0
    assert next(times) == 101.0  # the clock was read once: when it had looked
    monkeypatch.setattr(scalers, "READY_S", 0.01)
    with pytest.raises(ClusterError, match=r"the HPA has no metrics after 0.01 s \(R: m\): is the adapter applied"):
        scalers._first_look(Api(*["ScalingActive=False"] * 100_000), "default")


def test_what_an_hpa_cannot_do_is_refused_before_the_runs_unless_the_controller_does_it(tmp_path: Path) -> None:
    forecast = {"metric": "forecast_requests_per_second", "threshold": 60}
    for changes, told in (
        ({"min_replicas": 0}, "no HPA scales to 0"),
        ({"idle_replicas": 0}, "no HPA scales to 0"),
        ({"triggers": [forecast]}, "`kis adapter` has no forecast_requests_per_second: name the policy in real"),
    ):
        policies = {"keda": {**KEDA, **changes}}
        with pytest.raises(ConfigError, match=told):
            refuse_what_cannot_run(config_of(tmp_path, policies=policies))
        real = {"deployment": "triton", "by_controller": ["keda"]}
        refuse_what_cannot_run(config_of(tmp_path, policies=policies, real=real))
    with pytest.raises(ValidationError, match=r"real.by_controller names 'other', there are keda"):
        config_of(tmp_path, policies={"keda": KEDA}, real={"deployment": "triton", "by_controller": ["other"]})
