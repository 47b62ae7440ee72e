"""The plan of a study: bursts that visit every batch size, capacity, and patterns with a given peak."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.patterns import find_pattern
from testbed.pipeline.campaign import LONE_GAPS_S, lone_gaps_s
from testbed.pipeline.plan import (
    burst_schedule,
    capacity_schedule,
    lone_rate_rps,
    profiled_sizes,
    seed_of,
)
from testbed.simulation.kernel import simulate_batches
from testbed.simulation.load_curve import capacity_rps
from testbed.simulation.rules import BatchingRules
from workloads.catalog import DynamicBatching, ServiceConfig


@pytest.mark.parametrize(("delay_s", "lone_s"), [(0.0, 0.009), (0.02, 0.009), (0.005, 0.1)])
def test_two_of_five_requests_are_alone(delay_s: float, lone_s: float) -> None:
    """Counted in Poisson arrivals: nobody else is there on arrival, and nobody comes while the batch could grow."""
    rules = DynamicBatching(max_queue_delay_s=delay_s)
    rate = lone_rate_rps(ServiceConfig(max_batch_size=8, dynamic_batching=rules), lone_s)
    gaps_s = np.random.default_rng(7).exponential(1 / rate, 200_000)
    alone = (gaps_s[:-1] > delay_s + lone_s) & (gaps_s[1:] > delay_s)
    assert alone.mean() == pytest.approx(0.4, abs=0.005)


@pytest.mark.parametrize("instances", [1, 2, 3])
def test_bursts_make_every_batch_size_run_as_often_as_asked(instances: int) -> None:
    service = ServiceConfig(instances=instances, max_batch_size=8)
    schedule = burst_schedule("m", service, lone_s=0.006, repeats=5)
    times = np.concatenate([[0.0], 0.004 + 0.001 * np.arange(1, 9)]) * 1e9
    result = simulate_batches(schedule.scheduled_ns, times, 1.0, BatchingRules.of(service, 150_000))
    sizes = result.batch_size[result.position == 0]
    assert all((sizes == b).sum() >= 5 for b in range(2, 9))


def test_large_batches_are_sampled_at_multiples_of_8_and_behind_them() -> None:
    assert profiled_sizes(8) == list(range(1, 9))
    assert profiled_sizes(20) == [*range(1, 18), 20]
    assert profiled_sizes(64)[16:] == [17, 24, 25, 32, 33, 40, 41, 48, 49, 56, 57, 64]


@pytest.mark.parametrize("instances", [1, 2])
def test_a_capacity_run_is_of_full_batches_of_its_size_and_leaves_no_queue(instances: int) -> None:
    service = ServiceConfig(instances=instances, max_batch_size=8)
    schedule = capacity_schedule("m", service, size=8, batch_s=0.012, batches=100)
    times = np.concatenate([[0.0], 0.004 + 0.001 * np.arange(1, 9)]) * 1e9
    result = simulate_batches(schedule.scheduled_ns, times, 1.0, BatchingRules.of(service, 150_000))
    sizes = result.batch_size[result.position == 0]
    assert (sizes == 8).sum() == 100
    assert result.end_ns.max() / 1e9 < schedule.duration_s
    assert (result.end_ns - schedule.scheduled_ns).max() / 1e9 < 12 * 0.012


def test_bursts_of_a_large_service_are_as_far_apart_as_its_largest_batch_takes() -> None:
    service = ServiceConfig(max_batch_size=64)
    cautious = burst_schedule("m", service, lone_s=0.006, repeats=5)
    known = burst_schedule("m", service, lone_s=0.006, repeats=5, largest_s=0.012)
    assert known.duration_s < 0.2 * cautious.duration_s


def test_capacity_is_that_of_the_best_batch_size() -> None:
    mean_s = np.array([0.005, 0.006, 0.020])  # a batch of three is not worth it
    service = ServiceConfig(replicas=2, instances=3, max_batch_size=3)
    assert capacity_rps(service, mean_s) == pytest.approx(6 * 2 / 0.006)
    assert capacity_rps(service.model_copy(update={"dynamic_batching": None}), mean_s) == pytest.approx(6 / 0.005)


@given(
    name=st.sampled_from(["ramp", "periodic", "fluctuating", "bursty", "constant"]),
    peak=st.floats(1, 1e4),
    duration_s=st.floats(2, 1e3),
)
def test_held_out_patterns_max_step_their_peak_and_never_pass_it(name: str, peak: float, duration_s: float) -> None:
    pattern = find_pattern(name).fitted(peak, duration_s, seed=0)
    rates = pattern.rate_rps(np.linspace(0, duration_s, 4001))
    assert rates.max() <= peak * (1 + 1e-9)
    assert rates.max() >= (0.6 if name == "fluctuating" else 0.999) * peak
    assert rates.min() >= 0


def test_lone_requests_are_tried_no_closer_than_a_cpu_can_answer() -> None:
    assert lone_gaps_s("resnet50", "cpu") == LONE_GAPS_S[1:]
    assert lone_gaps_s("resnet50", "gpu") == lone_gaps_s("emulated", "emulated") == LONE_GAPS_S
    assert lone_gaps_s("theirs", "unknown") == lone_gaps_s("theirs", "cpu") == LONE_GAPS_S  # nothing is expected of it


def test_every_run_has_a_seed_of_its_own_and_keeps_it() -> None:
    assert seed_of(1, "a") == seed_of(1, "a")
    assert len({seed_of(base, name) for base in (1, 2) for name in ("a", "b", "c")}) == 6


def test_a_service_is_named_by_what_sets_it_apart() -> None:
    rules = DynamicBatching(max_queue_delay_s=0.002, preferred_batch_sizes=(4, 8))
    limited = DynamicBatching(default_timeout_s=0.1, max_queue_size=10)
    assert (
        ServiceConfig(balancer="least_requests", dynamic_batching=limited).label == "r1-n1-b8-lr-d0ms-reject100ms-q10"
    )
    assert ServiceConfig(instances=2, dynamic_batching=rules).label == "r1-n2-b8-d2ms-p4+8"
    assert ServiceConfig(replicas=4, dynamic_batching=None).label == "r4-n1-b8-nobatching"
