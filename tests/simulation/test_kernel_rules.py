"""Each story: a tiny world of milliseconds, and every batch that comes out of it."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.simulation.kernel import KernelResult, simulate_batches
from testbed.simulation.rules import BatchingRules, queue_notes
from workloads.catalog import DynamicBatching, ServiceConfig

MS = 1_000_000


def serve(arrival_ms: list[float], service_ms: list[float] | float, rules: BatchingRules, **options: object):
    """Run the kernel; service_ms: of batches of 1, 2, ..., or one time for all sizes."""
    table = service_ms if isinstance(service_ms, list) else [service_ms] * rules.max_batch_size
    arrival_ns = np.round(np.array(arrival_ms) * MS).astype(np.int64)
    return simulate_batches(arrival_ns, np.array([0.0, *table]) * MS, [1.0], rules, **options)


def batches(result: KernelResult) -> list[tuple[float, list[int]]]:
    """(start in ms, its requests) of each batch, in the order of start."""
    keys = zip(result.start_ns, result.replica, result.instance, strict=True)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for i, key in enumerate(keys):
        if result.status[i] == 0:
            groups.setdefault(tuple(map(int, key)), []).append(i)
    return [(key[0] / MS, members) for key, members in sorted(groups.items())]


def test_bulk_service_takes_all_that_waits_up_to_the_limit():
    result = serve([0, 1, 2, 3, 4, 5], 10, BatchingRules(max_batch_size=4))
    assert batches(result) == [(0, [0]), (10, [1, 2, 3, 4]), (20, [5])]


def test_preferred_sizes_split_six_waiting_into_four_and_two():
    result = serve([0, 1, 2, 3, 4, 5, 6], 10, BatchingRules(preferred_batch_sizes=(4, 8)))
    assert batches(result) == [(0, [0]), (10, [1, 2, 3, 4]), (20, [5, 6])]


def test_a_lone_request_waits_the_whole_delay():
    result = serve([0, 50, 100], 4, BatchingRules(max_queue_delay_ns=3 * MS))
    assert batches(result) == [(3, [0]), (53, [1]), (103, [2])]


def test_a_full_batch_does_not_wait_for_the_delay():
    result = serve([0, 1, 2, 3], 4, BatchingRules(max_batch_size=4, max_queue_delay_ns=50 * MS))
    assert batches(result) == [(3, [0, 1, 2, 3])]


def test_a_preferred_size_ends_the_wait():
    rules = BatchingRules(preferred_batch_sizes=(2,), max_queue_delay_ns=50 * MS)
    assert batches(serve([0, 1, 2], 4, rules)) == [(1, [0, 1]), (52, [2])]


def test_four_payloads_wait_for_two_busy_instances_and_only_the_newest_is_not_full():
    """B = 2: requests 2..8 make payloads of 2, 2, 2, 1; request 9 finds no place before an instance takes one."""
    rules = BatchingRules(max_batch_size=2, instances=2)
    result = serve([0, 0, 1, 2, 3, 4, 5, 6, 7], 10, rules)
    assert batches(result) == [(0, [0]), (0, [1]), (10, [2, 3]), (10, [4, 5]), (20, [6, 7]), (20, [8])]


def test_a_queue_full_of_payloads_makes_the_next_one_wait_in_the_request_queue():
    """n = 1, P = {1}: two payloads of 1 are queued, so the three that come later meet in the request queue.

    When a place is free they are taken over one by one, because 1 is the preferred size.
    """
    result = serve([0, 1, 2, 3, 4, 5], 10, BatchingRules(max_batch_size=4, preferred_batch_sizes=(1,)))
    assert [size for _, size in batches(result)] == [[0], [1], [2], [3], [4], [5]]


def test_an_arrival_that_does_not_reach_the_next_preferred_size_does_not_wake_the_batcher():
    """P = {4}, d = 5: at 20 request 1..3 were sent to the busy instance's queue; 4 comes too early to join them."""
    rules = BatchingRules(max_batch_size=8, preferred_batch_sizes=(4,), max_queue_delay_ns=5 * MS)
    result = serve([0, 6, 7, 13], 20, rules)
    assert batches(result) == [(5, [0]), (25, [1, 2]), (45, [3])]


def test_old_payloads_are_merged_when_an_instance_takes_the_first():
    """P = {2}, d = 1: two payloads of 2 wait longer than d and run as one batch of 4."""
    rules = BatchingRules(max_batch_size=4, preferred_batch_sizes=(2,), max_queue_delay_ns=MS)
    result = serve([0, 0, 1, 1, 2, 2], 10, rules)
    assert batches(result) == [(0, [0, 1]), (10, [2, 3, 4, 5])]


def test_inter_batch_gap_keeps_the_instance_but_not_the_answer():
    result = serve([0, 1], 4, BatchingRules(inter_batch_gap_ns=2 * MS))
    assert batches(result) == [(0, [0]), (6, [1])]
    assert result.end_ns.tolist() == [4 * MS, 10 * MS]


def test_the_batcher_wakes_late_from_its_timer_and_in_time_for_company():
    rules = BatchingRules(max_batch_size=2, max_queue_delay_ns=10 * MS, timer_slack_ns=MS)
    assert batches(serve([0, 20, 25], 1, rules)) == [(11, [0]), (25, [1, 2])]


def test_a_pause_of_its_own_is_added_to_the_inter_batch_gap():
    rules = BatchingRules(max_batch_size=1, inter_batch_gap_ns=2)
    result = simulate_batches([0, 0, 0], [0.0, 100.0], 1.0, rules, pause_ns=[10.0, 0.0, 0.0])
    assert result.start_ns.tolist() == [0, 112, 214]
    assert result.end_ns.tolist() == [100, 212, 314]


def test_without_batching_each_request_runs_alone_on_the_first_idle_instance():
    result = serve([0, 1, 2, 3], 10, BatchingRules(instances=2, dynamic=False))
    assert batches(result) == [(0, [0]), (1, [1]), (10, [2]), (11, [3])]
    assert result.instance.tolist() == [0, 1, 0, 1]
    assert result.batch_size.tolist() == [1, 1, 1, 1]


def test_a_batch_costs_service_times_noise_times_slow_plus_extra_of_its_first_request():
    rules = BatchingRules(max_batch_size=2)
    result = simulate_batches(
        [0, 1, 2], [0.0, 100.0, 150.0], [1.0, 2.0, 9.0], rules, slow=[1.0, 3.0], slow_step_ns=50, extra_ns=[5, 7, 9]
    )
    assert result.end_ns.tolist() == [105, 105 + 907, 105 + 907]


def test_round_robin_takes_turns_and_least_requests_avoids_the_busy_replica():
    rules = BatchingRules(max_batch_size=1)
    turns = serve([0, 1, 2, 3], 10, rules, replicas=2)
    assert turns.replica.tolist() == [0, 1, 0, 1]
    noise = [10, 0.2, 0.2, 0.2]  # request 0 keeps replica 0 busy for 100
    least = simulate_batches([0, 1, 4, 8], [0, 10], noise, rules, replicas=2, balancer="least_requests")
    assert least.replica.tolist() == [0, 1, 1, 1]


def test_an_explicit_assignment_overrides_the_balancer():
    result = serve([0, 0, 0], 10, BatchingRules(), replicas=3, assigned=[2, 2, 1])
    assert result.replica.tolist() == [2, 2, 1]


# Timeouts and limits. The times marked "real" are of tritonserver 2.51 with the same settings and arrivals.


def test_a_full_queue_refuses_at_once():
    """Real: the third and fourth waiting request were refused within 2 ms."""
    result = serve([0, 20, 30, 40, 50], 300, BatchingRules(max_queue_size=2))
    assert result.status.tolist() == [0, 0, 0, 2, 2]
    assert result.end_ns[3:].tolist() == [40 * MS, 50 * MS]
    assert result.instance[3:].tolist() == [-1, -1]


# Requests of several rows.


def test_rows_add_up_and_a_request_that_does_not_fit_begins_the_next_batch():
    result = serve([0, 1, 2, 3], [10, 20, 30, 40], BatchingRules(max_batch_size=4), rows=[1, 3, 2, 2])
    assert batches(result) == [(0, [0]), (10, [1]), (40, [2, 3])]
    assert result.batch_size.tolist() == [1, 3, 4, 4]
    assert result.position.tolist() == [0, 0, 0, 2]
    assert result.end_ns.tolist() == [10 * MS, 40 * MS, 80 * MS, 80 * MS]  # the time of a batch is of all its rows


def test_preferred_sizes_are_of_rows():
    rules = BatchingRules(preferred_batch_sizes=(4,), max_queue_delay_ns=50 * MS)
    assert batches(serve([0, 1, 2], 4, rules, rows=[2, 2, 1])) == [(1, [0, 1]), (52, [2])]
    assert batches(serve([0, 1, 2], 4, rules, rows=[3, 3, 1])) == [(1, [0]), (5, [1, 2])]


def test_a_queue_limit_counts_requests_and_not_rows():
    result = serve([0, 1, 2, 3], 10, BatchingRules(max_batch_size=8, max_queue_size=2), rows=[8, 3, 3, 3])
    assert result.status.tolist() == [0, 0, 0, 2]
    assert result.batch_size.tolist() == [8, 6, 6, 0]


def test_without_batching_a_request_takes_the_time_of_its_rows():
    result = serve([0, 0], [10, 20, 30, 40], BatchingRules(max_batch_size=4, dynamic=False), rows=[3, 1])
    assert result.end_ns.tolist() == [30 * MS, 40 * MS]


@pytest.mark.parametrize("rows", [0, 5])
def test_rows_that_no_server_takes_are_refused(rows):
    with pytest.raises(ValueError, match=r"rows must be 1..max_batch_size \(4\)"):
        serve([0], 10, BatchingRules(max_batch_size=4), rows=[rows])


LIMITED = BatchingRules(max_batch_size=4, max_queue_size=2)


def test_behind_a_missed_end_a_full_queue_refuses_everything_until_the_batcher_looks_by_itself():
    """Real: with the queue full, batches of 10 ms are 0.49 s apart as often as not, and all between is refused."""
    result = serve([0, 1, 2, 3, 20, 300, 511, 515], 10, LIMITED, missed=[1])
    assert batches(result) == [(0, [0]), (510, [1, 2]), (1020, [6, 7])]
    assert result.status.tolist() == [0, 0, 0, 2, 2, 2, 0, 0]
    assert result.end_ns[5] == 300 * MS


def test_a_request_that_joins_the_queue_ends_the_wait_of_a_missed_end():
    result = serve([0, 1, 20], 10, LIMITED, missed=[1])
    assert batches(result) == [(0, [0]), (20, [1, 2])]
    assert batches(serve([0, 1, 20], 10, LIMITED, missed=[0])) == [(0, [0]), (10, [1]), (20, [2])]


def test_another_idle_instance_takes_what_a_missed_end_leaves():
    """Instance 0 is idle unseen from 10 on; the end of the batch on instance 1, at 11, is missed too but finds it."""
    rules = BatchingRules(max_batch_size=4, instances=2, max_queue_size=2)
    result = serve([0, 1, 2], 10, rules, missed=[1])
    assert batches(result) == [(0, [0]), (1, [1]), (11, [2])]
    assert result.instance.tolist() == [0, 1, 0]


def test_where_payloads_are_prefetched_no_end_is_missed():
    assert batches(serve([0, 1, 2], 10, BatchingRules(max_batch_size=4), missed=[1])) == [(0, [0]), (10, [1, 2])]


def test_a_timeout_turns_prefetching_off():
    """P = {4}, d = 5: prefetched, 1 and 2 leave the request queue before 3 comes; without, all wait until 25."""
    rules = {"preferred_batch_sizes": (4,), "max_queue_delay_ns": 5 * MS}
    arrivals = [0, 6, 7, 13]
    assert batches(serve(arrivals, 20, BatchingRules(**rules)))[1:] == [(25, [1, 2]), (45, [3])]
    patient = BatchingRules(**rules, default_timeout_ns=10_000 * MS)
    assert batches(serve(arrivals, 20, patient))[1:] == [(25, [1, 2, 3])]
    for policy in ({"max_queue_size": 100}, {"allow_timeout_override": True}):
        limited = BatchingRules(**rules, **policy)
        assert batches(serve(arrivals, 20, limited))[1:] == [(25, [1, 2, 3])]


def test_behind_a_long_batch_expired_requests_are_refused_every_half_second():
    """Real: refused 1.003 s after the batch began, though expired at .15 and .16; the last one ran at 1.3 s."""
    rules = BatchingRules(default_timeout_ns=100 * MS)
    result = serve([0, 50, 60, 1250], 1300, rules)
    assert result.status.tolist() == [0, 1, 1, 0]
    assert result.end_ns[1:3].tolist() == [1000 * MS, 1000 * MS]
    assert result.start_ns[3] == 1300 * MS


def test_a_timeout_shorter_than_the_delay_refuses_instead_of_sending():
    result = serve([0], 1, BatchingRules(max_queue_delay_ns=500 * MS, default_timeout_ns=100 * MS))
    assert result.status.tolist() == [1]
    assert result.end_ns[0] == 100 * MS + 1


def test_after_a_refusal_the_batcher_sleeps_through_arrivals_below_the_preferred_size():
    """Real: three requests at 0, 30, 60 ms were refused at 495 ms, half a second after the previous refusal."""
    rules = BatchingRules(max_queue_delay_ns=500 * MS, default_timeout_ns=100 * MS)
    result = serve([0, 110, 140, 170], 1, rules)
    assert result.status.tolist() == [1, 1, 1, 1]
    assert result.end_ns[1:].tolist() == [600 * MS + 1] * 3


def test_delayed_requests_go_behind_those_in_time():
    """Real, with batches of 100 ms: eight ran at 300 ms, and the request that had expired in the batch after them."""
    rules = BatchingRules(default_timeout_ns=100 * MS, timeout_action="DELAY")
    result = serve([0, 20, 251, *range(260, 269)], [300.0, *[60.0] * 7], rules)
    assert result.status.tolist() == [0] * 12
    assert batches(result) == [(0, [0]), (300, [2, 3, 4, 5, 6, 7, 8, 9]), (360, [1, 10, 11])]
    assert result.position[[10, 11, 1]].tolist() == [0, 1, 2]


# What the rules are made from, and what is refused.


def test_rules_of_a_service_are_in_whole_microseconds():
    dynamic = DynamicBatching(
        preferred_batch_sizes=(4, 2), max_queue_delay_s=0.0030004, default_timeout_s=0.1, timeout_action="DELAY"
    )
    rules = BatchingRules.of(ServiceConfig(instances=2, dynamic_batching=dynamic), inter_batch_gap_ns=150_000)
    assert rules == BatchingRules(
        instances=2,
        preferred_batch_sizes=(4, 2),
        max_queue_delay_ns=3_000_000,
        default_timeout_ns=100_000_000,
        timeout_action="DELAY",
        inter_batch_gap_ns=150_000,
    )
    assert rules.preferred == (2, 4)
    assert not BatchingRules.of(ServiceConfig(dynamic_batching=None), inter_batch_gap_ns=0).dynamic


def test_a_queue_policy_is_told_of_once_and_no_policy_not_at_all():
    assert queue_notes([None, DynamicBatching(max_queue_delay_s=0.01, preferred_batch_sizes=(4,))]) == []
    (timeout,) = queue_notes([DynamicBatching(default_timeout_s=0.1)] * 2)
    assert "waits for the next request" in timeout
    override = queue_notes([DynamicBatching(allow_timeout_override=True)])
    assert "no simulated or replayed request sets a queue timeout" in override[1]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([5, 3], [0, 1], [1]), {}, "ascending"),
        (([-1], [0, 1], [1]), {}, "ascending"),
        (([1, 2], [0, 1, 2], [1]), {}, "service_ns must have 2 values"),
        (([1, 2], [0, np.nan], [1]), {}, "service_ns has a value that is not finite"),
        (([1, 2, 3], [0, 1], [1, 1]), {}, "noise must have 1 or 3 values"),
        (([1, 2], [0, 1], [1]), {"replicas": 2, "assigned": [0, 2]}, "replica 0..1"),
        (([1, 2], [0, 1], [1]), {"slow_step_ns": 0}, "slow_step_ns"),
        (([1, 2], [0, 1], [1]), {"replicas": 0}, "replicas"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        simulate_batches(*arguments, BatchingRules(max_batch_size=1), **options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_batch_size": 4, "preferred_batch_sizes": (8,)}, "preferred batch size 8"),
        ({"instances": 0}, "instances"),
        ({"inter_batch_gap_ns": -1}, "inter_batch_gap_ns"),
    ],
)
def test_rules_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        BatchingRules(**fields)


def test_no_requests_no_rows():
    assert all(len(column) == 0 for column in simulate_batches([], [0, 1], [1], BatchingRules(max_batch_size=1)))
