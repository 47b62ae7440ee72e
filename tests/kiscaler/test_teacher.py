"""The teacher knows the traffic, and tells what could be foreseen."""

from __future__ import annotations

import math
from typing import Any

import pytest

from loadgen.patterns import make_pattern
from testbed.kiscaler.env import replicas_of_teacher
from testbed.kiscaler.scenarios import Scenario, Scenarios
from testbed.kiscaler.train_config import Ranges
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile


def scenario(pattern: str, slo_penalty: float = 10.0, **parameters: Any) -> Scenario:
    """One replica serves 90 requests/s; eight at most; a pod takes 1.1 + 2 + 1 + 0 s or so."""
    config = cluster(gpus=8, max_batch_size=4, max_replicas=8, latency_target_s=0.1, pod={"container_start_s": 1.0})
    ranges = Ranges(service=(1, 1), load_s=(2, 2), metrics_delay_s=(1, 1), slo_penalty=(slo_penalty, slo_penalty))
    drawn = Scenarios(config, {GPU: flat_profile((0.02, 0.024, 0.028, 0.032))}, 90.0, ranges, step_s=2.0).draw(1)
    return Scenario(drawn.sim, drawn.model, drawn.scale, make_pattern(pattern, **parameters))


def test_what_rises_is_met_when_a_pod_asked_for_now_serves() -> None:
    one = scenario("ramp", low=90, peak=720, rise_s=63)  # ten requests/s more each second
    provisioning_delay_s = one.scale.provisioning_delay_s + one.scale.metrics_delay_s + 2 * one.scale.step_s
    assert replicas_of_teacher(one, 10.0) == math.ceil((90 + 10 * (10 + provisioning_delay_s - 0.5)) / 90)
    assert replicas_of_teacher(one, 1000.0) == 8


def test_a_burst_is_foreseen_once_it_has_come_back() -> None:
    one = scenario("bursty", base=80, spike=400, spike_s=10, every_s=100)
    assert replicas_of_teacher(one, 88.0) == 1  # the first: nobody could know
    assert replicas_of_teacher(one, 92.0) == 5
    assert replicas_of_teacher(one, 140.0) == 5  # kept, as it may come again at any time
    assert replicas_of_teacher(one, 172.0) == 1  # twice seen, from now on it is known
    assert replicas_of_teacher(one, 289.0) == 5


@pytest.mark.parametrize(("slo_penalty", "kept_s"), [(3.0, 60.0), (10.0, 200.0), (30.0, 400.0)])
def test_the_more_a_miss_costs_the_longer_a_peak_is_kept(slo_penalty: float, kept_s: float) -> None:
    one = scenario("trace", slo_penalty, rates=(80.0, 400.0, 80.0), interval_s=10.0)
    assert replicas_of_teacher(one, 19.0 + kept_s) == 5
    assert replicas_of_teacher(one, 21.0 + kept_s) == 1
