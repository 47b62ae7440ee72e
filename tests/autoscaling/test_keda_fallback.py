"""KEDA's fallback: when it begins, which size it makes the HPA want, and what it does not do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.keda_metrics import Fallback
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policies import Keda
from tests.autoscaling.scene import Scene, play

IN_FLIGHT, NEVER_KNOWN = "in_flight_requests", "arrivals_per_second"  # nobody in the scene counts what is sent
AT_ONCE = {"scale_down": {"stabilization_window_s": 0}}


def keda(*metrics: str, **changes: Any) -> Keda:
    triggers = [{"metric": metric, "threshold": 5.0} for metric in metrics or (IN_FLIGHT,)]
    built: Keda = build_policy({"kind": "keda", "triggers": triggers, "min_replicas": 1, **changes}, 10, None)
    return built


def blind(since_s: float, until_s: float) -> type[Scene]:
    """Prometheus does not answer from then on, until then."""

    class Blind(Scene):
        def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
            return None if since_s <= self.now_s < until_s else super().window(seconds, metrics_delay_s)

    return Blind


def load(requests: float) -> Callable[[float], float]:
    return lambda t: requests


def test_it_falls_back_at_the_failure_after_the_threshold_and_ends_with_it() -> None:
    """Syncs every 15 s. Those of 105, 120 and 135 s fail and hold; the fourth falls back. That of 255 s knows again.

    The scale-down waits until the recommendation of 240 s is older than 60 s.
    """
    policy = keda(fallback={"failure_threshold": 3, "replicas": 6}, flags={"downscale_stabilization_s": 60})
    assert play(policy, load(12.0), 600, scene=blind(100, 250)) == [(30, 3), (150, 6), (315, 3)]
    assert play(keda(), load(12.0), 600, scene=blind(100, 250)) == [(30, 3)]


def test_it_counts_what_the_hpa_asks_and_not_the_polls() -> None:
    """Polls every 5 s; syncs at 105, 125, 145 and 165 s."""
    policy = keda(
        fallback={"failure_threshold": 3, "replicas": 6}, polling_interval_s=5.0, flags={"sync_period_s": 20.0}
    )
    assert play(policy, load(12.0), 240, scene=blind(100, 999))[-1] == (165, 6)


def test_a_success_sets_the_count_back() -> None:
    """Two failures at 105 and 120 s, one success, and two again: never three."""

    class Twice(Scene):
        def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
            fails = 100 <= self.now_s < 130 or 140 <= self.now_s < 170
            return None if fails else super().window(seconds, metrics_delay_s)

    assert play(keda(fallback={"failure_threshold": 2, "replicas": 9}), load(12.0), 400, scene=Twice) == [(30, 3)]


@pytest.mark.parametrize(
    ("behavior", "at_4", "at_8"),
    [
        ("static", 6, 6),
        ("currentReplicas", 4, 8),
        ("currentReplicasIfHigher", 6, 8),
        ("currentReplicasIfLower", 4, 6),
    ],
)
def test_the_behaviour_chooses_between_its_size_and_the_current_one(behavior: Any, at_4: int, at_8: int) -> None:
    fallback = Fallback(failure_threshold=0, replicas=6, behavior=behavior)
    assert (fallback.size(4), fallback.size(8)) == (at_4, at_8)
    policy = keda(fallback=fallback.model_dump(), behavior=AT_ONCE)
    for current, wanted in ((4, at_4), (8, at_8)):
        assert policy.decide(blind(0, 999)(500.0, current, load(5.0)), None).replicas == wanted


def test_another_trigger_may_want_more_and_the_fallback_lets_it_scale_down() -> None:
    fallback = {"failure_threshold": 0, "replicas": 4}
    policy = keda(IN_FLIGHT, NEVER_KNOWN, fallback=fallback, behavior=AT_ONCE)
    assert policy.decide(Scene(500.0, 5, load(40.0)), None).replicas == 8
    down = policy.decide(Scene(500.0, 6, load(5.0)), None)
    assert down.replicas == 4
    assert (down.load, down.held) == (None, None)  # what was not measured is no load
    assert policy.decide(Scene(500.0, 4, load(5.0)), None).held == "missing"
    assert down.reason == (
        "in_flight_requests 5, threshold 5, arrivals_per_second not known (1 times: fallback), threshold 5: 6 -> 4"
    )
    assert keda(IN_FLIGHT, NEVER_KNOWN, behavior=AT_ONCE).decide(Scene(500.0, 6, load(5.0)), None).replicas == 6


def test_a_value_is_of_the_pods_that_are_ready() -> None:
    """A target of 10, 6 replicas wanted and 3 of 4 ready: 10 * 6 / 3 = 20, twice the target, so 3 * 2 pods."""
    trigger = {"metric": IN_FLIGHT, "threshold": 10.0, "metric_type": "Value"}
    policy = keda(triggers=[trigger], fallback={"failure_threshold": 0, "replicas": 6})
    scene = blind(0, 999)(500.0, 4, load(5.0))
    scene.pods[0] = replace(scene.pods[0], ready=False)
    assert policy.decide(scene, None).replicas == 6
    metric = policy.spec.metrics[0]
    assert [Fallback(failure_threshold=0, replicas=6).answer_m(metric, 4, ready) for ready in (3, 0)] == [20_000, None]
    scene.pods[:] = [replace(pod, ready=False) for pod in scene.pods]
    assert "no metrics returned" in policy.decide(scene, None).reason


def test_it_wakes_nobody() -> None:
    policy = keda(min_replicas=0, fallback={"failure_threshold": 0, "replicas": 6})
    assert play(policy, load(12.0), 600, start=0, scene=blind(0, 9999)) == []


def test_an_error_keeps_awake_unless_the_fallback_is_to_zero() -> None:
    """Active at the poll of 195 s, the last one that knows; 60 s later it may sleep: at the poll of 285 s. With a
    fallback to 0 the HPA goes to its minimum first."""

    def changes(replicas: int) -> list[tuple[float, int]]:
        fallback = {"failure_threshold": 3, "replicas": replicas}
        policy = keda(min_replicas=0, cooldown_s=60.0, fallback=fallback, behavior=AT_ONCE)
        return play(policy, load(12.0), 900, scene=blind(200, 9999))

    assert changes(2) == [(30, 3), (255, 2)]
    assert changes(0) == [(30, 3), (255, 1), (285, 0)]


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ({"failure_threshold": 3}, "fallback.replicas is missing"),
        ({"failure_threshold": -1, "replicas": 1}, "failure_threshold: Input should be greater than or equal to 0"),
        ({"failure_threshold": 3, "replicas": 1, "behavior": "scalingModifiers"}, "behavior: Input should be 'static'"),
    ],
)
def test_a_wrong_fallback_is_one_clear_line(fallback: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        keda(fallback=fallback)
    assert "\n" not in str(caught.value)


def test_cpu_has_none() -> None:
    with pytest.raises(Exception, match="fallback is of triggers other than cpu: give one, or take fallback off"):
        keda("cpu", fallback={"failure_threshold": 3, "replicas": 6})
