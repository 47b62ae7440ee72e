"""llm-d's SLO-aware autoscaler."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policies import LlmD
from testbed.errors import ConfigError
from tests.autoscaling.scene import Scene, play


def llm_d(**changes: Any) -> LlmD:
    built: LlmD = build_policy({"kind": "llm_d", "latency_target_s": 1.0, **changes}, 20, None)
    return built


class Late(Scene):
    """The number in flight is the mean latency in seconds: one request a second is answered. None wait."""

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        window = super().window(seconds, metrics_delay_s)
        if window is None:
            return None
        one = window.requests * 0 + seconds / len(window.pods)
        return replace(window, requests=one, queue_s=0 * one)


@pytest.mark.parametrize(
    ("replicas", "ready", "saturation", "wanted"),
    [
        (4, 4, 0.55, 4),  # between the thresholds, both included, nothing changes
        (4, 4, 0.40, 4),
        (4, 4, 0.56, 5),  # 4 + ceil(.07)
        (4, 4, 1.1, 8),
        (8, 4, 1.1, 8),  # half of them are ready: half of the demand
        (8, 6, 1.1, 12),
        (4, 0, 1.1, 8),  # none is ready: no credit to compute
        (8, 8, 0.2, 4),
        (8, 4, 0.2, 4),  # no credit on the way down
        (8, 8, 0.36, 8),  # floor(.8) = 0 fewer
        (8, 8, 0.35, 7),
        (3, 3, 0.0, 0),  # idle: the HPA's limit is the floor
    ],
)
def test_the_law(replicas: int, ready: int, saturation: float, wanted: int):
    assert llm_d().desired(replicas, ready, saturation) == wanted


def test_what_stands_in_for_the_p90():
    window = Scene(100.0, 2, lambda t: 3.0).window(60.0, 1.0)  # 3 in flight, 3 a second: 1 s each
    assert window is not None
    queueing = replace(window, queue_s=0.4 * window.requests)  # of it .4 s in the queue
    assert llm_d().saturation(queueing) == pytest.approx(0.6 + 0.4 * math.log(10))
    assert llm_d(tail=1, latency_target_s=2).saturation(queueing) == pytest.approx(0.5)
    stuck = replace(window, requests=0 * window.requests)
    assert llm_d().saturation(stuck) == math.inf
    assert llm_d().saturation(replace(stuck, in_flight=0 * stuck.in_flight)) == 0.0


def test_it_bursts_up_and_walks_down():
    """Ups: 30 s of stabilization, at most 4 or as many again a minute. Downs: one in two minutes, after 180 s."""
    policy = llm_d(rate_window_s=15.0, metrics_delay_s=0.0)
    changes = play(policy, lambda t: 1.9 if t < 200 else 0.1, 900, start=2, scene=Late)
    ups = [change for change in changes if change[0] < 200]
    assert ups == [(45, 6), (105, 12), (165, 20)]
    downs = [change for change in changes if change[0] > 200]
    assert downs == [(405, 19), (525, 18), (645, 17), (765, 16), (885, 15)]  # 180 s after the mean of 225 s


def test_a_spike_counts_no_more_than_the_clamp():
    """Saturation 50 for 15 s: a mean over 45 s of .45, .45 and 2, not of 50."""

    def spike(t: float) -> float:
        return 50.0 if 100 <= t < 115 else 0.45

    policy = llm_d(rate_window_s=15.0, metrics_delay_s=0.0, behavior={}, max_replicas=99)
    assert play(policy, spike, 110, start=10, scene=Late) == [(105, 18)]  # 10 + ceil(10 * (.967 / .55 - 1))


def test_replicas_that_start_are_not_asked_for_again():
    @dataclass
    class Starting(Late):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.pods = [replace(pod, ready=k < 4) for k, pod in enumerate(self.pods)]

    policy = llm_d(behavior={})
    assert policy.decide(Late(100.0, 4, lambda t: 1.1), None).replicas == 8
    held = policy.decide(Starting(100.0, 8, lambda t: 1.1), None)
    assert held.replicas == 8
    assert held.reason == "saturation 1.10, 4 of 8 ready, want 8: 8 -> 8"


def test_a_restart_holds_until_a_window_has_passed():
    policy = llm_d(metrics_delay_s=0.0)
    first = policy.decide(Late(500.0, 6, lambda t: 0.1), None)
    assert first.replicas == 6  # as the controller that has just begun
    assert policy.decide(Late(30.0, 6, lambda t: 2.0), None).reason == "no metrics yet"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latency_target_s": 0}, "latency_target_s must be above 0"),
        ({"scale_down": 0.6}, "must grow in this order"),
        ({"clamp": 0.5}, "must grow in this order"),
        ({"min_replicas": 21}, "give 1 to max_replicas, 20"),
        ({"scaleup": 1}, "did you mean 'scale_up'"),
    ],
)
def test_wrong_settings_are_one_clear_line(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        llm_d(**changes)
    assert "\n" not in str(caught.value)
