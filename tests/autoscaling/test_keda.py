"""KEDA's ScaledObject: several triggers, two clocks, sleep, and a forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.forecast import line_at
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policies import Keda
from testbed.autoscaling.policies.keda import FORECAST
from tests.autoscaling.scene import Flowing, Scene, play, size_at

QUEUE, IN_FLIGHT = "pending_requests", "in_flight_requests"


def keda(*triggers: tuple[str, float], **changes: Any) -> Keda:
    listed = [{"metric": metric, "threshold": threshold} for metric, threshold in triggers]
    built: Keda = build_policy({"kind": "keda", "triggers": listed, **changes}, 10, None)
    return built


def test_it_wakes_from_zero_and_goes_back_after_the_cooldown():
    policy = keda((IN_FLIGHT, 5.0), cooldown_s=60.0)
    changes = play(policy, lambda t: 12.0 if 100 <= t < 200 else 0.0, 900, start=0)
    assert changes[0] == (135, 1)  # the first poll (15 s and every 30 s) whose window (105 to 120 s) has requests
    assert changes[1] == (150, 3)  # the HPA at its next sync: 12 / 5
    assert changes[-1] == (315, 0)  # active at the poll of 225 s, the last one with requests in its window


def test_the_largest_proposal_of_several_triggers_wins():
    """In the scene as many wait as are in flight."""
    one = keda((IN_FLIGHT, 5.0)).decide(Scene(100.0, 2, lambda t: 12.0), None)
    both = keda((IN_FLIGHT, 5.0), (QUEUE, 3.0)).decide(Scene(100.0, 2, lambda t: 12.0), None)
    other = keda((QUEUE, 3.0), (IN_FLIGHT, 5.0)).decide(Scene(100.0, 2, lambda t: 12.0), None)
    assert (one.replicas, both.replicas, other.replicas) == (3, 4, 4)
    assert both.reason == "in_flight_requests 12, threshold 5, pending_requests 12, threshold 3: 2 -> 4"


def test_one_metric_is_a_list_of_one():
    short = build_policy({"kind": "keda", "metric": QUEUE, "threshold": 3, "activation": 1}, 10, None)
    trigger = {"metric": QUEUE, "threshold": 3, "activation": 1}
    assert short == build_policy({"kind": "keda", "triggers": [trigger]}, 10, None)
    assert short.triggers[0].activation == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give metric and threshold .* or triggers"),
        ({"metric": QUEUE}, "give metric and threshold"),
        ({"triggers": []}, "at least one trigger"),
        ({"triggers": [{"metric": QUEUE, "threshold": 0}]}, "triggers.0.threshold: Input should be greater than 0"),
        ({"triggers": [{"metric": QUEUE, "threshold": 1, "activate": 0}]}, "triggers.0.activate"),
        ({"triggers": [{"metric": QUEUE, "threshold": 1}] * 2}, "two triggers on pending_requests"),
        ({"triggers": [{"metric": QUEUE, "threshold": 1}], "metric": QUEUE}, "triggers have their own metric"),
        ({"metric": "qps", "threshold": 1}, f"known are .*{FORECAST}"),
        ({"metric": QUEUE, "threshold": 1, "idle_replicas": 0}, "idle_replicas must be below min_replicas"),
        ({"metric": QUEUE, "threshold": 1, "idle_replicas": 1, "min_replicas": 2}, "idle_replicas"),
        ({"metric": QUEUE, "threshold": 1, "min_replicas": 11}, "min_replicas 11 is above max_replicas 10"),
        ({"metric": QUEUE, "threshold": 1, "polling_interval_s": 0}, "polling_interval_s must be above 0"),
    ],
)
def test_a_wrong_scaled_object_is_one_clear_line(settings: dict[str, Any], said: str):
    with pytest.raises(Exception, match=said) as caught:
        build_policy({"kind": "keda", **settings}, 10, None)
    assert "\n" not in str(caught.value)


def test_activation_waits_for_the_poll_and_needs_more_than_its_threshold():
    def load(t: float) -> float:
        return 12.0 if t >= 100 else 0.0

    slow = keda((IN_FLIGHT, 5.0), polling_interval_s=120.0)
    assert play(slow, load, 400, start=0)[0] == (135, 1)  # polls at 15, 135, ... s
    assert play(keda((IN_FLIGHT, 5.0), polling_interval_s=45.0), load, 400, start=0)[0] == (150, 1)
    trigger = {"metric": IN_FLIGHT, "threshold": 5.0, "activation": 12.0}
    assert play(build_policy({"kind": "keda", "triggers": [trigger]}, 10, None), load, 400, start=0) == []


def test_a_poll_that_is_faster_than_the_hpa_leaves_its_syncs_as_they_are():
    policy = keda((IN_FLIGHT, 5.0), polling_interval_s=5.0, flags={"sync_period_s": 20.0})
    assert policy.period_s == 5.0
    changes = play(policy, lambda t: 12.0 if t >= 100 else 0.0, 300, start=0)
    assert changes == [(115, 1), (125, 2), (145, 3)]  # a poll at 115 s; syncs at 5, 25, ... s


def test_it_idles_below_its_smallest_number():
    policy = keda((IN_FLIGHT, 5.0), min_replicas=2, idle_replicas=0, cooldown_s=60.0)
    changes = play(policy, lambda t: 4.0 if 100 <= t < 200 else 0.0, 400, start=2)
    assert changes == [(45, 0), (135, 2), (315, 0)]  # never active: only initial_cooldown_s keeps it
    patient = keda((IN_FLIGHT, 5.0), min_replicas=2, idle_replicas=0, initial_cooldown_s=100.0)
    assert play(patient, lambda t: 0.0, 400, start=2) == [(135, 0)]


def test_a_metric_that_is_not_known_puts_nothing_to_sleep():
    @dataclass
    class Blind(Scene):
        def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
            return super().window(seconds, metrics_delay_s) if self.now_s < 200 else None

    policy = keda((IN_FLIGHT, 5.0), cooldown_s=60.0)
    assert play(policy, lambda t: 4.0, 900, start=1, scene=Blind) == []


def test_behavior_limits_the_hpa():
    slow = {"scale_up": {"policies": [{"type": "Pods", "value": 1, "period_s": 60}]}}
    changes = play(keda((IN_FLIGHT, 5.0), behavior=slow), lambda t: 20.0, 200, start=1)
    assert changes == [(30, 2), (90, 3), (150, 4)]


def test_a_restart_scales_down_only_after_a_whole_window():
    policy = keda((IN_FLIGHT, 5.0), min_replicas=1, flags={"downscale_stabilization_s": 100.0})
    at_once = policy.decide(Scene(500.0, 4, lambda t: 5.0), None)
    assert at_once.replicas == 4
    soon = policy.decide(Scene(590.0, 4, lambda t: 5.0), at_once.memory)
    assert soon.replicas == 4
    assert policy.decide(Scene(605.0, 4, lambda t: 5.0), soon.memory).replicas == 1


def test_a_line_goes_on():
    assert line_at([(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)], 50.0) == pytest.approx(60.0)
    assert line_at([(0.0, 0.0), (10.0, 6.0), (30.0, 6.0)], 20.0) == pytest.approx(36 / 7)  # unequal steps
    assert line_at([(0.0, 10.0), (10.0, 0.0)], 30.0) == 0.0


def test_a_forecast_is_there_before_the_load():
    """The scene's requests a second are those in flight: one a second more each second, from 100 s to 300 s."""

    def ramp(t: float) -> float:
        return min(max(0.0, t - 100), 200.0)

    settings: dict[str, Any] = {"min_replicas": 1, "metrics_delay_s": 1.0, "window_s": 10.0, "flags": {"tolerance": 0}}
    late = play(keda(("requests_per_second", 50.0), **settings), ramp, 320, scene=Flowing)
    early = play(
        keda((FORECAST, 50.0), forecast_window_s=60.0, forecast_ahead_s=40.0, **settings), ramp, 320, scene=Flowing
    )
    for t in (225, 255, 285):
        assert size_at(late, t, 1) == -(-(t - 106) // 50)  # as of the middle of the window
        assert size_at(early, t, 1) == -(-(t - 101 - 5 + 41) // 50)  # the line through such values, 41 s later


def test_a_forecast_needs_two_values():
    policy = keda((FORECAST, 5.0), min_replicas=1)
    first = policy.decide(Flowing(100.0, 3, lambda t: 50.0), None)
    assert first.replicas == 3
    assert "no metrics returned" in first.reason
    assert policy.decide(Flowing(115.0, 3, lambda t: 50.0), first.memory).replicas > 3
