"""Which policies of an experiment are an HPA of the cluster's. Those on real pods are in tests/cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.manifest import hpa_object
from testbed.errors import ConfigError
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
