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
from testbed.autoscaling.policies.keda import FORECAST
from tests.autoscaling.scene import Flowing, Scene, play

IN_FLIGHT, NEVER_KNOWN = "in_flight_requests", "arrivals_per_second"  # nobody in the scene counts what is sent
AT_ONCE = {"scale_down": {"stabilization_window_s": 0}}


def keda(*metrics: str, **changes: Any) -> Keda:
    """Of NEVER_KNOWN, it is a failure that the query has no result."""
    metrics = metrics or (IN_FLIGHT,)
    triggers = [{"metric": name, "threshold": 5.0, "ignore_null_values": name != NEVER_KNOWN} for name in metrics]
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
    """Polls at 15 s and every 30 s, syncs every 15 s. Failures: a poll and a sync at 105 s, a sync at 120 s, a poll at
    135 s. That is the fourth, and the sync of 135 s falls back. That of 255 s knows again.

    The scale-down waits until the recommendation of 240 s is older than 60 s.
    """
    policy = keda(fallback={"failure_threshold": 3, "replicas": 6}, flags={"downscale_stabilization_s": 60})
    assert play(policy, load(12.0), 600, scene=blind(100, 250)) == [(30, 3), (135, 6), (315, 3)]
    assert play(keda(), load(12.0), 600, scene=blind(100, 250)) == [(30, 3)]


def test_polls_count_and_syncs() -> None:
    """Polls every 5 s, syncs at 105 and 125 s: the fourth failure is the poll of 110 s."""
    policy = keda(
        fallback={"failure_threshold": 3, "replicas": 6}, polling_interval_s=5.0, flags={"sync_period_s": 20.0}
    )
    assert play(policy, load(12.0), 240, scene=blind(100, 999))[-1] == (125, 6)
    patient = keda(
        fallback={"failure_threshold": 8, "replicas": 6}, polling_interval_s=5.0, flags={"sync_period_s": 20.0}
    )
    assert play(patient, load(12.0), 240, scene=blind(100, 999))[-1] == (145, 6)  # the ninth: the poll of 130 s


def test_a_success_sets_the_count_back() -> None:
    """Three failures at 105 and 120 s, a success, and three again at 150 and 165 s: never four."""

    class Twice(Scene):
        def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
            fails = 100 <= self.now_s < 130 or 140 <= self.now_s < 170
            return None if fails else super().window(seconds, metrics_delay_s)

    assert play(keda(fallback={"failure_threshold": 3, "replicas": 9}), load(12.0), 400, scene=Twice) == [(30, 3)]


def test_what_nobody_has_answered_yet_has_not_failed() -> None:
    """As long as there is no window at all, nothing was lost; a strict trigger fails without a result."""
    fallback = {"failure_threshold": 0, "replicas": 6}
    assert play(keda(fallback=fallback), load(12.0), 300, scene=blind(0, 999)) == []
    assert play(keda(NEVER_KNOWN, fallback=fallback), load(12.0), 300, scene=blind(0, 999))[0] == (15, 4)


def test_no_result_keeps_the_size_and_is_no_failure() -> None:
    fallback = {"failure_threshold": 0, "replicas": 0}
    triggers = [{"metric": NEVER_KNOWN, "threshold": 5.0}]
    assert play(keda(triggers=triggers, min_replicas=0, fallback=fallback), load(0.0), 900, start=2) == []


def test_a_forecast_fails_with_the_metric_that_it_is_made_of() -> None:
    policy = keda(FORECAST, fallback={"failure_threshold": 0, "replicas": 6})
    memory = policy.decide(Flowing(100.0, 3, load(15.0)), None).memory
    known = policy.decide(Flowing(115.0, 3, load(15.0)), memory)
    assert known.replicas == 3
    lost = policy.decide(blind(0, 999)(130.0, 3, load(15.0)), known.memory)
    assert (lost.replicas, lost.reason) == (6, "forecast_requests_per_second falls back, threshold 5: 3 -> 6")


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
    policy = keda(NEVER_KNOWN, fallback=fallback.model_dump(), behavior=AT_ONCE)
    for current, wanted in ((4, at_4), (8, at_8)):
        assert policy.decide(Scene(500.0, current, load(5.0)), None).replicas == wanted


def test_another_trigger_may_want_more_and_the_fallback_lets_it_scale_down() -> None:
    fallback = {"failure_threshold": 0, "replicas": 4}
    policy = keda(IN_FLIGHT, NEVER_KNOWN, fallback=fallback, behavior=AT_ONCE)
    assert policy.decide(Scene(500.0, 5, load(40.0)), None).replicas == 8
    down = policy.decide(Scene(500.0, 6, load(5.0)), None)
    assert down.replicas == 4
    assert (down.load, down.held) == (None, None)  # what was not measured is no load
    assert policy.decide(Scene(500.0, 4, load(5.0)), None).held == "missing"
    assert down.reason == ("in_flight_requests 5, threshold 5, arrivals_per_second falls back, threshold 5: 6 -> 4")
    assert keda(IN_FLIGHT, NEVER_KNOWN, behavior=AT_ONCE).decide(Scene(500.0, 6, load(5.0)), None).replicas == 6


def test_a_value_is_of_the_pods_that_are_ready() -> None:
    """A target of 10, 6 replicas wanted and 3 of 4 ready: 10 * 6 / 3 = 20, twice the target, so 3 * 2 pods."""
    trigger = {"metric": NEVER_KNOWN, "threshold": 10.0, "metric_type": "Value", "ignore_null_values": False}
    policy = keda(triggers=[trigger], fallback={"failure_threshold": 0, "replicas": 6})
    scene = Scene(500.0, 4, load(5.0))
    scene.pods[0] = replace(scene.pods[0], ready=False)
    assert policy.decide(scene, None).replicas == 6
    metric = policy.spec.metrics[0]
    assert [Fallback(failure_threshold=0, replicas=6).answer_m(metric, 4, ready) for ready in (3, 0)] == [20_000, None]
    scene.pods[:] = [replace(pod, ready=False) for pod in scene.pods]
    assert "no metrics returned" in policy.decide(scene, None).reason
    asleep = keda(triggers=[trigger], fallback={"failure_threshold": 0, "replicas": 6}, min_replicas=0)
    assert play(asleep, load(0.0), 200, start=0) == []


def test_it_wakes_at_the_poll_and_the_hpa_goes_on() -> None:
    """Asleep, the polls of 45, 75, 105 and 135 s fail; the fourth is active. The HPA doubles, or goes up to 4."""
    policy = keda(min_replicas=0, fallback={"failure_threshold": 3, "replicas": 6})
    assert play(policy, load(0.0), 300, start=0, scene=blind(40, 9999)) == [(135, 1), (150, 4), (165, 6)]


def test_a_failure_keeps_awake_unless_the_fallback_is_to_zero() -> None:
    """Active at the poll of 195 s, the last one that knows; 60 s later it may sleep: at the poll of 285 s."""

    def changes(replicas: int) -> list[tuple[float, int]]:
        fallback = {"failure_threshold": 20, "replicas": replicas}
        policy = keda(min_replicas=0, cooldown_s=60.0, fallback=fallback)
        return play(policy, load(12.0), 400, scene=blind(200, 9999))

    assert changes(2) == [(30, 3)]
    assert changes(0) == [(30, 3), (285, 0)]


def test_beside_a_failing_trigger_an_active_one_does_not_begin_the_cooldown_anew() -> None:
    """It was never noted as active, so it sleeps at the poll of 255 s, the first without a request in its window."""
    policy = keda(IN_FLIGHT, NEVER_KNOWN, min_replicas=0, fallback={"failure_threshold": 99, "replicas": 0})
    changes = play(policy, lambda t: 4.0 if t < 200 else 0.0, 400)
    assert changes == [(255, 0)]
    alone = keda(IN_FLIGHT, min_replicas=0, fallback={"failure_threshold": 99, "replicas": 0})
    assert play(alone, lambda t: 4.0 if t < 200 else 0.0, 400) == []


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ({"failure_threshold": 3}, "fallback.replicas is missing"),
        ({"failure_threshold": -1, "replicas": 1}, "failure_threshold: Input should be greater than or equal to 0"),
        ({"failure_threshold": 3, "replicas": 1, "behavior": "none"}, "behavior: Input should be 'static'"),
    ],
)
def test_a_wrong_fallback_is_one_clear_line(fallback: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        keda(fallback=fallback)
    assert "\n" not in str(caught.value)


def test_cpu_has_none() -> None:
    with pytest.raises(Exception, match="fallback is of triggers other than cpu: give one, or take fallback off"):
        keda("cpu", fallback={"failure_threshold": 3, "replicas": 6})
