"""NVIDIA Dynamo's planner: a floor from a prediction, and a correction by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policies import Dynamo
from testbed.errors import ConfigError
from tests.autoscaling.scene import Flowing, Scene, play


def dynamo(**changes: Any) -> Dynamo:
    settings = {"kind": "dynamo", "replica_capacity_rps": 100.0, "latency_target_s": 0.030, **changes}
    built: Dynamo = build_policy(settings, 20, None)
    return built


@dataclass
class Served(Flowing):
    """The scene's number is requests a second; a batch takes 10 ms. On each pod so many wait, and are in flight."""

    queued: float = 0.0
    flying: float = 0.0

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        window = super().window(seconds, metrics_delay_s)
        if window is None:
            return None
        one = np.ones(len(window.pods))
        return replace(window, waiting=self.queued * one, in_flight=self.flying * one, batches=100 * one, batch_s=one)


@dataclass
class Busy(Served):
    """More than the SLA allows waits on every worker."""

    queued: float = 50.0


def test_the_prediction_over_a_workers_capacity_is_the_floor():
    changes = play(dynamo(), lambda t: 350.0, 400, start=1, scene=Served)
    assert changes == [(190, 4)]  # an interval of 180 s and the metrics' age; then at the next look at the load


def test_without_the_load_the_prediction_is_followed_both_ways():
    def load(t: float) -> float:
        return 350.0 if t < 400 else 150.0

    changes = play(dynamo(load_scaling=False, predictor="constant"), load, 800, start=1, scene=Served)
    assert changes == [(185, 4), (540, 2)]  # from 360 to 540 s: 194 a second on average


@pytest.mark.parametrize(
    ("replicas", "queued", "flying", "change"),
    [
        (4, 2.1, 0.0, 1),  # 21 + 10 ms on every worker: above the SLA of 30 ms
        (4, 2.0, 0.0, 0),  # exactly the SLA
        (4, 1.25, 0.0, 0),  # with 3 workers 1.67 wait: 16.7 ms of .8 * 20 ms
        (4, 1.15, 0.0, -1),  # with 3 workers 1.53 wait: 15.3 ms
        (2, 0.9, 0.0, 0),  # with 1 worker all of it: 18 ms
        (1, 0.0, 0.0, 0),  # the last one stays
        (4, 0.0, 3.1, 1),  # 31 ms in flight
        (4, 0.0, 3.0, 0),
        (4, 0.0, 1.85, 0),  # with 3 workers 24.7 ms of .8 * 30 ms
        (4, 0.0, 1.75, -1),  # 23.3 ms
    ],
)
def test_the_load_corrects_by_one(replicas: int, queued: float, flying: float, change: int):
    decision = dynamo().decide(Served(20.0, replicas, lambda t: 10.0, queued, flying), None)
    assert decision.replicas == replicas + change


def test_it_adds_only_if_every_worker_is_late_and_removes_only_if_none_would_be():
    policy = dynamo()

    @dataclass
    class Uneven(Served):
        queues: tuple[float, ...] = ()

        def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
            window = super().window(seconds, metrics_delay_s)
            return None if window is None else replace(window, waiting=np.array(self.queues))

    one_is_free = Uneven(20.0, 3, lambda t: 10.0, queues=(9.0, 9.0, 0.0))
    assert policy.decide(one_is_free, None).replicas == 3
    all_are_late = Uneven(20.0, 3, lambda t: 10.0, queues=(9.0, 9.0, 3.0))
    assert policy.decide(all_are_late, None).replicas == 4


def test_an_sla_below_the_time_of_a_batch_never_lets_a_worker_go():
    assert dynamo(latency_target_s=0.009).decide(Served(20.0, 3, lambda t: 10.0), None).replicas == 4


def test_it_walks_up_and_down_between_the_floor_and_the_limit():
    up = play(dynamo(max_replicas=4), lambda t: 10.0, 60, start=1, scene=Busy)
    assert up == [(10, 2), (15, 3), (20, 4)]
    down = play(dynamo(), lambda t: 250.0, 220, start=5, scene=Served)
    assert down == [(10, 4), (15, 3), (20, 2), (25, 1), (190, 3)]


def test_it_only_looks_on_while_workers_start_or_have_no_metrics():
    @dataclass
    class Starting(Busy):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.pods[-1] = replace(self.pods[-1], ready=False)

    @dataclass
    class Unscraped(Busy):
        def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
            window = super().window(seconds, metrics_delay_s)
            return None if window is None else replace(window, pods=window.pods[1:])

    @dataclass
    class Untold(Busy):
        def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
            window = super().window(seconds, metrics_delay_s)
            return None if window is None else replace(window, batches=None, batch_s=None)

    starting = dynamo().decide(Starting(20.0, 3, lambda t: 10.0), None)
    assert (starting.replicas, starting.reason) == (3, "2 of 3 workers are ready: observed only")
    for scene in (Unscraped, Untold):
        blind = dynamo().decide(scene(20.0, 3, lambda t: 10.0), None)
        assert (blind.replicas, blind.reason) == (3, "not all workers have metrics yet")
    busy = dynamo().decide(Busy(20.0, 3, lambda t: 10.0), None)
    assert busy.replicas == 4
    assert dynamo().decide(Untold(25.0, 3, lambda t: 10.0), busy.memory).replicas == 4  # as long as the last ones took


def floors(policy: Dynamo, load: Callable[[float], float], until_s: float) -> list[int]:
    """The floor after each throughput interval."""
    memory, found, now_s = None, [], policy.load_interval_s
    while now_s <= until_s:
        before = memory
        _, memory, _ = policy.decide(Served(now_s, 1, load), memory)[:3]
        if before is not None and memory.next_throughput_s != before.next_throughput_s:
            found.append(memory.floor)
        now_s += policy.load_interval_s
    return found


def test_predictors_say_the_last_until_five_intervals_are_known():
    intervals: dict[str, Any] = {"throughput_interval_s": 20.0, "metrics_delay_s": 0.0}

    def ramp(t: float) -> float:
        return 5.0 * t  # an interval's mean: 50, 150, 250, ...

    constant = floors(dynamo(predictor="constant", **intervals), ramp, 160)
    assert constant == [1, 2, 3, 4, 5, 6, 7, 8]
    assert floors(dynamo(predictor="trend", **intervals), ramp, 160) == [1, 2, 3, 4, 6, 7, 8, 9]


def test_a_season_is_seen_before_it_comes():
    def wave(t: float) -> float:
        return 900.0 if (t - 1e-6) % 200 >= 150 else 100.0  # the last 50 of 200 s

    intervals: dict[str, Any] = {"throughput_interval_s": 10.0, "metrics_delay_s": 0.0}
    seasonal = floors(dynamo(predictor="season", **intervals), wave, 750)
    constant = floors(dynamo(predictor="constant", **intervals), wave, 750)
    assert (constant[-1], seasonal[-1]) == (1, 9)  # from 750 s on


def test_what_the_queues_grow_by_has_arrived_too():
    """250 a second are answered; from 20 s on 100 a second more wait on the one worker."""

    @dataclass
    class Growing(Served):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.queued = 100.0 * max(0.0, self.now_s - 20.0)

    policy = dynamo(throughput_interval_s=20.0, metrics_delay_s=0.0)
    first = policy.decide(Growing(5.0, 1, lambda t: 250.0), None)
    second = policy.decide(Growing(20.0, 1, lambda t: 250.0), first.memory)
    third = policy.decide(Growing(40.0, 1, lambda t: 250.0), second.memory)
    fourth = policy.decide(Growing(60.0, 1, lambda t: 250.0), third.memory)
    assert fourth.memory.rates == pytest.approx((250, 350, 350))
    assert (second.memory.floor, fourth.memory.floor) == (3, 4)


def test_what_comes_before_the_first_request_is_no_traffic():
    intervals: dict[str, Any] = {"throughput_interval_s": 20.0, "metrics_delay_s": 0.0}
    policy = dynamo(**intervals)
    memory, now_s = None, 5.0
    while now_s <= 200:
        _, memory, _ = policy.decide(Served(now_s, 1, lambda t: 200.0 if t > 160 else 0.0), memory)[:3]
        now_s += 5.0
    assert len(memory.rates) == 2


def test_a_restart_keeps_the_workers_until_it_has_predicted():
    again = dynamo().decide(Scene(500.0, 7, lambda t: 0.0), None)
    assert again.replicas == 7
    assert again.memory.next_throughput_s == 675.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"load_interval_s": 180}, "must be below throughput_interval_s"),
        ({"replica_capacity_rps": 0}, "replica_capacity_rps must be above 0"),
        ({"min_replicas": 0}, "give 1 to max_replicas, 20"),
        ({"predictor": "prophet"}, "predictor: Input should be 'constant', 'trend' or 'season'"),
        ({"load_scale": 1}, "did you mean 'load_scaling'"),
    ],
)
def test_wrong_settings_are_one_clear_line(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        dynamo(**changes)
    assert "\n" not in str(caught.value)
