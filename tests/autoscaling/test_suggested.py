"""What policies offer to a search: settings that build, in units of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.metrics import METRICS, ReplicaCapacity
from testbed.autoscaling.policies import find_policy
from testbed.autoscaling.policies.keda import FORECAST
from testbed.autoscaling.search import ServedService
from testbed.errors import ConfigError
from tests.autoscaling.test_learned import export, follows_load

QUICK = ServedService(ReplicaCapacity(2, 8, 400.0, 300.0, 0.030), 8, 4.0, 1.0, 15.0)
SLOW = QUICK._replace(provisioning_delay_s=120.0)
KINDS = ("fixed", "knative", "keda", "ray_serve", "predictive", "llm_d", "dynamo", "learned")


@pytest.fixture
def trained(tmp_path: Path) -> str:
    return str(export(tmp_path, follows_load()))


def trials(kind: str, service: ServedService, given: dict[str, Any], n: int = 40) -> list[dict[str, Any]]:
    """The settings of each, those given in their place; all trials are of one study, so ranges stay as they are."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    suggested = find_policy(kind).suggested
    return [{"kind": kind, **suggested(study.ask(), service, given), **given} for _ in range(n)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", [QUICK, SLOW])
def test_every_trial_is_a_policy(kind: str, service: ServedService, trained: str):
    given = {"file": trained} if kind == "learned" else {}
    built = [build_policy(settings, service.max_replicas, None) for settings in trials(kind, service, given)]
    assert len(set(built)) >= min(8, service.max_replicas)
    assert isinstance(built[0].told, str)


@pytest.mark.parametrize("kind", KINDS)
def test_delays_are_multiples_of_the_start_up(kind: str, trained: str):
    """The same trial for a pod that starts in 4 s and in 120 s: what is a delay differs by 30, the rest is equal."""
    given = {"file": trained} if kind == "learned" else {}
    quick, slow = (trials(kind, service, given, 1)[0] for service in (QUICK, SLOW))
    for key in ("behavior", "period_s", "step_s"):  # the API's own limits; no period is shorter than a second or two
        quick.pop(key, None)
    for key, value in quick.items():
        if isinstance(value, float) and slow[key] != value:
            assert slow[key] == pytest.approx(30 * value), key
    changed = {key for key in quick if slow[key] != quick[key]}
    assert bool(changed) is (kind != "fixed")


def test_thresholds_of_keda_are_those_of_its_metrics():
    seen: set[tuple[str, ...]] = set()
    for settings in trials("keda", QUICK, {}, 200):
        assert settings["min_replicas"] >= 1
        seen.add(tuple(trigger["metric"] for trigger in settings["triggers"]))
        for trigger in settings["triggers"]:
            offered = "requests_per_second" if trigger["metric"] == FORECAST else trigger["metric"]
            low, high = METRICS.find(offered).targets(QUICK.replica)
            assert low <= trigger["threshold"] <= high
    assert {len(metrics) for metrics in seen} == {1, 2}
    assert {metric for metrics in seen for metric in metrics} >= {FORECAST, "queue_time_ms", "in_flight_requests"}


def test_what_is_given_of_keda_is_kept():
    one = {"metric": "in_flight_requests"}
    thresholds = {build_policy(settings, 8, None).triggers for settings in trials("keda", QUICK, one, 5)}
    assert len(thresholds) == 5
    both = {"triggers": [{"metric": "in_flight_requests", "threshold": 3.0}]}
    assert all(settings["triggers"] == both["triggers"] for settings in trials("keda", QUICK, both, 5))


def test_a_hold_between_llm_ds_thresholds_and_dynamos_two_clocks_are_in_order_whatever_is_given():
    for settings in trials("llm_d", QUICK, {"scale_up": 0.3}):
        assert settings["scale_down"] <= 0.3
    for settings in trials("dynamo", QUICK, {"throughput_interval_s": 7.0}):
        assert settings["load_interval_s"] <= 3.5


def test_a_learned_policy_is_searched_within_its_training(trained: str):
    for settings in trials("learned", QUICK, {"file": trained}):
        assert 3.0 <= settings["slo_penalty"] <= 30.0
        assert 0.7 * 300 <= settings["replica_capacity_rps"] <= 1.3 * 300
    with pytest.raises(ConfigError, match="give file"):
        trials("learned", QUICK, {})
