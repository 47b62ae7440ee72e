"""Why a run missed, in small made worlds: 100 requests in each interval of 5 s, policy looks every 15 s."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.post_mortem import Episode, Interval, post_mortem
from testbed.autoscaling.simulated import Look
from tests.autoscaling.scene import Scene

MOST = 8


def world(*parts: tuple[int, int, int, int], pending: int = 0) -> list[Interval]:
    """(intervals, missed in each, asked, ready) one after the other."""
    rows = [part[1:] for part in parts for _ in range(part[0])]
    return [
        Interval(5.0 * k, 5.0 * k + 5, 100, missed, asked, ready, pending)
        for k, (missed, asked, ready) in enumerate(rows)
    ]


def looks(until_s: float, replicas: int = 2, **what: Any) -> list[Look]:
    """Every 15 s, and nothing changes."""
    return [Look(time_s, replicas, replicas, "", **what) for time_s in range(15, int(until_s) + 1, 15)]


def only(intervals: list[Interval], seen: list[Look]) -> Episode:
    found = post_mortem(intervals, seen, MOST)
    assert len(found.episodes) == 1
    return found.episodes[0]


def test_pods_that_start_are_late() -> None:
    """Asked for at 60 s, as the misses begin; ready at 85 s."""
    seen = [*looks(45), Look(60, 2, 5, "", 2.5), *looks(0)]
    found = only(world((12, 0, 2, 2), (5, 60, 5, 2), (10, 0, 5, 5)), seen)
    assert found.cause == "starting"
    assert (found.start_s, found.end_s, found.missed, found.arrived) == (60, 85, 300, 500)
    assert (found.asked, found.ready, found.load) == (5, 2, 2.5)
    assert "3 of 5 pods were starting, asked for at second 60, 0 s after the first misses" in found.why
    assert [(one.before, one.wanted) for one in found.decisions] == [(2, 5)]


def test_pods_without_a_node_are_not_late() -> None:
    seen = [Look(45, 2, 5, "", 2.5)]
    assert only(world((12, 60, 5, 2), pending=3), seen).cause == "no room"


def test_pods_that_a_node_is_made_for_wait_for_it_and_others_have_no_room() -> None:
    """Of three pods that are not ready: what most of them wait for is the cause."""
    seen = [Look(0, 2, 5, "", 2.5)]

    def why(pending: int, coming: int | None) -> tuple[str, str]:
        intervals = [one._replace(coming=coming) for one in world((12, 60, 5, 2), pending=pending)]
        found = only(intervals, seen)
        return found.cause, found.why

    assert why(3, 2) == ("node", "waiting for a node: 2 of 5 pods were pending until a node of their group was ready")
    assert why(3, 1) == (
        "no room",
        "no room: 2 of 5 pods were pending, as every node group that fits was at its max_nodes",
    )
    assert why(1, 1)[0] == "starting"
    assert why(0, 0)[0] == "starting"
    assert why(3, None)[1] == "no room: 3 of 5 pods were pending, as no node had room for them"


def test_what_is_left_of_a_queue_misses_for_the_reason_for_which_it_had_grown() -> None:
    """Pods are late, all MOST are ready at 75 s, and the queue that had grown is worked off until 95 s."""
    seen = [*looks(45), Look(60, 2, MOST, "", 2.5)]
    played = world((12, 0, 2, 2), (3, 60, MOST, 2), (4, 90, MOST, MOST), (4, 0, MOST, MOST))
    assert only(played, seen).cause == "max"  # where nothing is known of the queue
    queue = dict(zip(range(12, 19), (50, 100, 150, 120, 80, 40, 5), strict=True))
    known = [one._replace(waiting=queue.get(k, 0)) for k, one in enumerate(played)]
    found = only(known, seen)
    assert (found.cause, found.waiting) == ("starting", 150)
    grows = [one._replace(waiting=10 * k) for k, one in enumerate(played)]
    assert only(grows, seen).cause == "max"


def test_pods_that_nobody_asked_for_were_lost() -> None:
    found = only(world((12, 0, 4, 4), (5, 60, 4, 3)), looks(80, 4, load=0.9))
    assert (found.cause, found.why[:9]) == ("lost", "lost pods")


def test_all_that_there_may_be() -> None:
    assert only(world((5, 60, MOST, MOST)), looks(30, MOST, load=3.0)).cause == "max"
    of_policy = only(world((5, 60, 5, 5)), looks(30, 5, load=3.0, held="max"))
    assert of_policy.why == "at the policy's max_replicas: all 5 pods were ready"


@pytest.mark.parametrize("held", ["tolerance", "stabilised", "limited", "missing", "budget"])
def test_what_the_policy_says_that_held_it(held: Any) -> None:
    found = only(world((5, 60, 4, 4)), looks(30, 4, load=1.08, held=held))
    assert found.cause == held
    assert ("1.08 of its target" in found.why) == (held == "tolerance")


def test_a_metric_that_lags_and_one_that_never_shows_it() -> None:
    world_of = world((6, 0, 2, 2), (3, 60, 2, 2), (6, 0, 4, 4))
    lagging = only(world_of, [*looks(30, load=0.6), Look(45, 2, 2, "", 0.7), Look(60, 2, 4, "", 2.0)])
    assert lagging.cause == "lagging"
    assert "over it only 30 s after the first misses" in lagging.why
    assert only(world_of, looks(300, load=0.7)).cause == "below"


def test_a_policy_without_a_metric_decides_late_or_not() -> None:
    world_of = world((6, 0, 2, 2), (3, 60, 2, 2), (6, 0, 4, 4))
    assert only(world_of, [*looks(45), Look(60, 2, 4, "")]).cause == "late"
    assert only(world_of, looks(300)).cause == "nothing asked"


def test_scaled_down_and_needed_again() -> None:
    """From 6 to 3 at 120 s; at 180 s requests miss, and 6 are asked for again."""
    played = world((24, 0, 6, 6), (12, 0, 3, 3), (2, 60, 3, 3), (4, 60, 6, 3), (6, 0, 6, 6))
    soon = [Look(120, 6, 3, "", 0.5), Look(190, 3, 6, "", 2.0)]
    assert only(played, soon).cause == "early"
    fewer = [Look(120, 5, 3, "", 0.5), Look(190, 3, 6, "", 2.0)]  # 5 had not been enough
    assert only(played, fewer).cause == "starting"
    played = world((24, 0, 6, 6), (72, 0, 3, 3), (4, 60, 6, 3), (6, 0, 6, 6))
    assert only(played, [Look(120, 6, 3, "", 0.5), Look(480, 3, 6, "", 2.0)]).cause == "starting"  # six minutes ago


def test_the_cause_with_most_misses_counts() -> None:
    seen = [Look(0, 4, 4, "", 1.05, "tolerance"), Look(16, 4, 6, "", 2.0)]
    played = world((3, 10, 4, 4), (3, 90, 6, 4))
    assert only(played, seen).cause == "starting"
    played = world((3, 90, 4, 4), (3, 10, 6, 4))
    assert only(played, seen).cause == "tolerance"


def test_the_worst_come_first_and_nothing_is_forgotten() -> None:
    gap = (7, 4, 2, 2)  # 4 of 100 are scattered, and 35 s end an episode
    parts = [(1, 10 * k, 2, 2) for k in range(1, 8)]
    found = post_mortem(world(*(one for part in parts for one in (part, gap))), looks(400), MOST)
    assert [one.missed for one in found.episodes] == [70, 60, 50, 40, 30]
    assert (found.others, found.scattered) == (20 + 10, 7 * 7 * 4)
    joined = post_mortem(world((1, 50, 2, 2), (6, 4, 2, 2), (1, 50, 2, 2)), looks(60), MOST)
    assert [one.missed for one in joined.episodes] == [100]


def test_where_nothing_missed_nothing_is_told() -> None:
    assert post_mortem(world((50, 0, 2, 2)), looks(250), MOST) == ((), 0, 0)


@pytest.mark.parametrize(
    ("policy", "in_flight", "load", "held"),
    [
        ({}, 16.8, 1.05, "tolerance"),
        ({}, 20.0, 1.25, None),
        ({}, 800.0, 50.0, "limited"),
        ({"max_replicas": 3}, 800.0, 50.0, "max"),
        ({"behavior": {"scale_up": {"stabilization_window_s": 60}}}, 32.0, 2.0, "stabilised"),
        ({"metrics_delay_s": 1000.0}, 32.0, None, "missing"),
        ({}, 4.0, 0.25, None),
    ],
)
def test_an_hpa_says_what_held_it(policy: dict[str, Any], in_flight: float, load: float | None, held: str) -> None:
    """2 replicas whose target is 8 each."""
    hpa = build_policy({"kind": "hpa", "metric": "pending_requests", "target": 8, **policy}, 50, None)
    begun = hpa.decide(Scene(85.0, 2, lambda t: 16.0), None)
    decision = hpa.decide(Scene(100.0, 2, lambda t: in_flight), begun.memory)
    assert (decision.load, decision.held) == (pytest.approx(load, rel=1e-3) if load else None, held)


def test_keda_says_it_too() -> None:
    keda = build_policy({"kind": "keda", "metric": "pending_requests", "threshold": 8, "min_replicas": 1}, 50, None)
    decision = keda.decide(Scene(100.0, 2, lambda t: 16.8), None)
    assert (decision.load, decision.held) == (pytest.approx(1.05, rel=1e-3), "tolerance")
