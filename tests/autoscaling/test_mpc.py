"""Model predictive control: what the cheapest plan is under traffic that can be calculated by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.policies.mpc import Mpc, start_up_of
from testbed.errors import ConfigError
from tests.autoscaling.traffic import SERVICE, Answered, Middle, numbers_in, play, ready, seconds_of_a_decision

MPC = Mpc(replica_capacity_rps=30, provisioning_delay_s=9, max_replicas=16)


@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0.1, 400), margin=st.floats(-0.1, 0.6))
def test_constant_arrivals_have_what_they_need(rate: float, margin: float) -> None:
    asked = play(replace(MPC, margin=margin, late_at=1e-6), lambda _: rate, 120, start=5)
    assert set(list(asked.values())[-20:]) == {min(max(1, math.ceil((1 + margin) * rate / 30 - 1e-6)), 16)}


def test_a_season_is_served_from_its_beginning_and_let_go_between() -> None:
    asked = play(replace(MPC, miss_weight=100), lambda t: 200.0 if t % 100 > 70 else 20.0, 600)
    assert asked[560] == 7  # eleven seconds before the burst
    assert asked[540] < 7
    assert asked[532] == 1


def test_who_cares_less_has_fewer() -> None:
    asked = [
        play(replace(MPC, slo_penalty=penalty, max_replicas=6), lambda _: 100.0, 100, start=4)[100]
        for penalty in (0.001, 10)
    ]
    assert asked == [1, 4]


def test_a_short_pause_is_not_worth_a_start_up() -> None:
    def pause(t: float) -> float:
        return 20.0 if t % 60 > 48 else 200.0

    asked = play(replace(MPC, stop_s=20), pause, 400)
    assert min(list(asked.values())[150:]) == 7
    assert min(list(play(replace(MPC, stop_s=0, provisioning_delay_s=1, churn=0), pause, 400).values())[150:]) < 7


def test_the_start_up_is_measured() -> None:
    pods = [ready("a", 4.0, 7.0), ready("b", 0.0, 5.0), ready("c", 0.0, 4.0)]
    assert start_up_of(pods, None) == 4.0
    assert start_up_of([PodState("d", "Running", False, 0.0, 3.0)], 6.0) == 6.0
    bursts = [
        min(at for at, count in play(MPC, burst, 600, pods=[ready("a", 0.0, delay)]).items() if at > 540 and count > 6)
        for delay in (3.0, 19.0)
    ]
    assert bursts[0] - bursts[1] == pytest.approx(16.0, abs=2.0)


def burst(t: float) -> float:
    return 200.0 if t % 100 > 70 else 20.0


def test_pods_that_start_count_from_when_they_will_serve() -> None:
    starting = [ready("a", 0.0, 8.0), *(PodState(f"b{k}", "Pending", False, 0.0, None) for k in range(2))]
    seen = Answered(20.0, 3, lambda _: 80.0, pods=starting)
    serving = MPC._serving(seen, 8.0, 8)
    assert serving.tolist() == [1, 1, 1, 1, 3, 3, 3, 3]  # steps end at 21, 23, ...: from 28 on


@pytest.mark.parametrize("waiting", [0.0, 1e5])
def test_what_cannot_be_served_is_no_reason_to_have_fewer(waiting: float) -> None:
    memory, replicas = None, 3
    for k in range(1, 20):
        seen = Answered(
            2.0 * k, replicas, lambda _: 1000.0, waiting=waiting, pods=[ready(str(j), 0, 8) for j in range(3)]
        )
        replicas, memory, _ = MPC.decide(seen, memory)[:3]
    assert replicas == 16


def test_what_waits_until_a_pod_serves_is_drained_then() -> None:
    demand = MPC._with_backlog(np.full((1, 20), 100.0), 50.0, np.full(20, 2.0), 3)
    # 5 a second of the 50, and in three steps 40 a second more than two serve: 290, a tenth of it a second.
    assert demand[0, :9].tolist() == [105.0] * 3 + [129.0] * 5 + [100.0]


def test_while_all_are_late_anyway_those_there_still_serve() -> None:
    demand = np.array([[200.0] * 6 + [20.0] * 24])
    plan = replace(MPC, stop_s=0, churn=0)._plan(demand, np.full(30, 3.0), 3, 6)
    assert plan == [3] * 6 + [1]


def test_bursts_that_nothing_foretells_are_weighed() -> None:
    def bursts(t: float) -> float:
        return 120.0 if int(t / 20) in (3, 5, 8, 10, 13, 14) else 30.0

    careless, careful = (replace(MPC, forecast="now", miss_weight=weight) for weight in (3.0, 1000.0))
    assert play(careless, bursts, 400)[400] == 1
    assert play(careful, bursts, 400)[400] == 4


def test_without_metrics_or_numbers_nothing_changes() -> None:
    memory = None
    for k in range(1, 10):
        memory = MPC.decide(Answered(2.0 * k, 3, lambda t: 80.0), memory).memory
    assert MPC.decide(Answered(2.0, 7, lambda t: 80.0), None).replicas == 7
    decision = MPC.decide(Answered(20.0, 7, lambda t: math.nan), memory)
    assert (decision.replicas, decision.memory) == (7, memory)


def test_its_memory_is_a_few_hundred_numbers_and_a_decision_is_quick() -> None:
    rng, memory = np.random.default_rng(1), None
    rates = rng.uniform(50, 400, 2000)
    for k in range(1, 900):
        memory = MPC.decide(Answered(2.0 * k, 3, lambda t: rates[int(t)]), memory).memory
    assert numbers_in(memory) < 800
    assert seconds_of_a_decision(MPC, lambda t: rates[int(t)]) < 2e-3


def test_what_it_cannot_be_is_refused() -> None:
    for wrong in ({"replica_capacity_rps": 0}, {"margin": -1}, {"late_at": 0}, {"drain_s": 0}, {"min_replicas": 9}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            build_policy({"kind": "mpc", "replica_capacity_rps": 30, "provisioning_delay_s": 9} | wrong, 8, None)


def test_what_it_suggests_is_a_policy() -> None:
    mpc = build_policy({"kind": "mpc"} | Mpc.suggested(Middle(), SERVICE, {}), 6, None)
    assert isinstance(mpc, Mpc)
    assert mpc.miss_weight == pytest.approx(math.sqrt(1000))
    assert mpc.provisioning_delay_s == 4.0
