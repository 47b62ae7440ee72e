"""Each platform's autoscaler, told as stories."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from testbed.autoscaling.build import build_policy, start_replicas
from testbed.autoscaling.hpa.spec import HpaSpec, MetricSpec
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policies import Fixed, Hpa, Knative, Oracle, Predictive, RayServe
from testbed.autoscaling.policy import policy
from testbed.errors import ConfigError
from tests.autoscaling.scene import Flowing, Scene, play, size_at
from workloads.errors import KisError


def test_fixed_stays():
    assert play(Fixed(3), lambda t: 100.0, 300, start=3) == []


def test_knative_holds_seventy_percent_of_the_concurrency():
    changes = play(Knative(container_concurrency=10, max_replicas=50), lambda t: 30.0, 200, start=5)
    assert size_at(changes, 200, 5) == 5  # 30 / 7 = 4.3


def test_knative_panics_at_twice_its_capacity_and_calms_down_a_stable_window_later():
    def spike(t: float) -> float:
        return 100.0 if 100 <= t < 110 else 20.0

    changes = play(Knative(container_concurrency=10, max_replicas=50), spike, 300, start=3)
    up = next(at for at, count in changes if count > 5)
    assert 101 <= up <= 107  # within the panic window, long before the stable one would say so
    assert max(count for _, count in changes) == 15  # 100 / 7
    down = next(at for at, count in changes if count < 15 and at > up + 10)
    assert down >= up + 58  # no way down for a stable window after the panic
    assert size_at(changes, 300, 3) == 3


def test_knative_goes_down_by_at_most_half_at_a_time():
    changes = play(Knative(container_concurrency=10, max_replicas=50), lambda t: 1.0, 200, start=16)
    assert [count for _, count in changes] == [8, 4, 2, 1]


def test_a_forecast_is_there_before_the_load_and_lets_go_after_its_delay():
    """The scene's requests a second are those in flight: 1 a second more each second, then none."""
    policy = Predictive(replica_capacity_rps=30, provisioning_delay_s=10, max_replicas=10, down_delay_s=40)

    def ramp(t: float) -> float:
        return min(t, 150.0) if t < 300 else 0.0

    changes = play(policy, ramp, 500, scene=Flowing)
    ups = [at for at, count in changes if count > 1 and at < 200]
    assert [count for at, count in changes if at < 190] == [2, 3, 4, 5, 6]  # the line runs past the end of the ramp
    assert ups[:4] == pytest.approx([20, 50, 80, 110], abs=2.0)  # ten seconds before 30, 60, 90, 120
    at, count = changes[-1]
    assert count == 1
    assert 340 <= at <= 350


def test_a_forecast_counts_what_waits_as_arrived():
    """A full replica answers no more than it can: the queue tells the rest."""

    @dataclass
    class Saturated(Scene):
        def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
            end_s = self.now_s - metrics_delay_s
            if end_s < seconds:
                return None
            one = np.ones(1)
            waiting = one * 20.0 * end_s  # 50 come, 30 are answered
            return Window(end_s - seconds, end_s, ("pod-0",), 30 * seconds * one, one, waiting, one, one, one)

    policy = Predictive(replica_capacity_rps=30, provisioning_delay_s=0, max_replicas=50, drain_s=10)
    decision = policy.decide(Saturated(41.0, 1, lambda t: 0.0), None)
    assert decision.replicas == 5  # (50 + 800 / 10) / 30
    assert "50/s now" in decision.reason


def test_ray_serve_waits_for_its_delays():
    policy = RayServe(
        max_replicas=20, target_ongoing_requests=2.0, upscale_delay_s=30, downscale_delay_s=60, period_s=1.0
    )
    changes = play(policy, lambda t: 12.0 if t < 200 else 2.0, 400, start=2)
    at, count = changes[0]
    assert count == 6
    assert 60 <= at <= 64  # a look-back of 30 s, then a delay of 30 s
    assert changes[-1][1] == 1
    assert changes[-1][0] > 260


def test_hpa_on_a_pod_metric_follows_it_with_its_age():
    policy = build_policy({"kind": "hpa", "metric": "in_flight_requests", "target": 4.0}, 20, None)
    changes = play(policy, lambda t: 8.0 if t < 100 else 24.0, 300, start=2)
    assert changes[0][0] >= 115  # window and age
    assert size_at(changes, 300, 2) == 6


def test_hpa_on_cpu_divides_by_what_pods_request():
    """Each request in flight costs .1 core, a pod requests one core: 24 of them at a target of 40 % want 6 pods."""
    cpu = MetricSpec(type="Resource", name="cpu", target_utilization_pct=40)
    policy = Hpa(HpaSpec(max_replicas=20, metrics=(cpu,)))
    changes = play(policy, lambda t: 8.0 if t < 400 else 24.0, 900, start=2)
    assert size_at(changes, 399, 2) == 2
    assert size_at(changes, 900, 2) == 6


def test_an_hpa_on_a_metric_that_nobody_offers_is_refused():
    spec = HpaSpec(max_replicas=3, metrics=(MetricSpec(type="Pods", name="qps", target_average_value_m=1),))
    with pytest.raises(KisError, match="the testbed offers"):
        Hpa(spec)


def test_the_oracle_scales_before_the_load_comes():
    policy = Oracle(
        lambda t: 100.0 if t >= 60 else 10.0, replica_capacity_rps=25.0, provisioning_delay_s=20.0, max_replicas=9
    )
    changes = play(policy, lambda t: 0.0, 100, start=1)
    assert changes == [(40.0, 4)]


PINNED = """
from dataclasses import dataclass

from testbed.autoscaling.policy import Decision


@dataclass(frozen=True)
class PerRate:
    rps: float
    max_replicas: int
    name: str = "per-rate"
    period_s: float = 5.0

    def decide(self, seen, memory):
        return Decision(min(self.max_replicas, seen.spec_replicas + 1), None, "one more")
"""


def test_a_policy_of_ones_own_is_one_file_and_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(PINNED)
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"kind": "mine:PerRate", "rps": 5}
    built = build_policy(settings, 7, None)
    assert (built.name, built.period_s, built.rps, built.max_replicas) == ("per-rate", 5.0, 5.0, 7)
    assert start_replicas(settings, 3) == 3
    with pytest.raises(ConfigError, match=r"policy mine:PerRate: unknown key 'rpss': did you mean 'rps'"):
        build_policy({**settings, "rpss": 1}, 7, None)
    for kind, said in (
        ("mine:Decision", "is none: give a dataclass"),
        ("mine:Nothing", "is none: give a dataclass"),
        ("no_such_module:Policy", "No module named 'no_such_module'"),
        ("predictiv", "did you mean 'predictive'"),
        (None, "kind is None"),
    ):
        with pytest.raises(ConfigError, match=said):
            build_policy({"kind": kind}, 7, None)
    sys.modules.pop("mine", None)


def test_two_policies_of_one_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="policy 'fixed' is there twice"):
        policy("fixed")(Oracle)


def test_an_hpa_says_what_its_metric_was_and_its_target():
    policy = build_policy({"kind": "hpa", "metric": "in_flight_requests", "target": 5.0}, 10, None)
    up = policy.decide(Scene(100.0, 2, lambda t: 16.0), None)
    assert up.reason == "in_flight_requests 8 a pod, target 5: 2 -> 4"
    limited = policy.decide(Scene(100.0, 2, lambda t: 24.0), None)
    assert limited.reason == "in_flight_requests 12 a pod, target 5: 2 -> 4 (ScaleUpLimit)"
    stays = policy.decide(Scene(115.0, 4, lambda t: 8.0), up.memory)
    assert stays.reason == "in_flight_requests 2 a pod, target 5: 4 -> 4 (ScaleDownStabilized)"
