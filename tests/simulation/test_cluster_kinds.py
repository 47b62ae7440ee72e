"""One Deployment for each GPU kind: where its pods go, which of them end, and what they hold."""

from __future__ import annotations

import numpy as np
import pytest

from loadgen.schedule import Schedule
from testbed.simulation.cluster.kisim import KISim
from tests.oracles.two_kinds import start, two_kinds


def kinds_of(sim: KISim) -> list[tuple[str | None, str | None]]:
    """(asked for, found) of each pod that is wanted."""
    return [(pod.kind, None if pod.node is None else sim.nodes[pod.node].kind) for pod in sim.wanted("m")]


def test_a_pod_of_a_kind_waits_for_a_node_of_it():
    sim = start(
        two_kinds(fast=1, slow=4, replicas_of_kind={"fast": 1}, pod={"load_s": 1.0, "node_lost_s": 1, "eviction_s": 1})
    )
    sim.advance(1)
    sim.lose_node("fast-0")
    sim.advance(10)
    assert kinds_of(sim) == [("fast", None)]
    assert sim.wanted("m")[0].reason == (
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector or are not ready."
    )


def test_without_a_kind_all_of_the_models_replicas_are_counted():
    sim = start(two_kinds(replicas_of_kind={"fast": 1, "slow": 2}))
    sim.scale("m", 4)
    sim.advance(10)
    assert [asked for asked, _ in kinds_of(sim)] == ["fast", "slow", "slow", None]
    sim.scale("m", 0)
    assert sim.wanted("m") == []


def test_a_pod_of_a_lost_node_is_replaced_by_one_of_its_kind():
    config = two_kinds(replicas_of_kind={"fast": 1, "slow": 1}, pod={"load_s": 1.0, "node_lost_s": 5, "eviction_s": 5})
    sim = start(config)
    sim.advance(1)
    sim.lose_node("fast-0")
    sim.advance(30)
    assert kinds_of(sim) == [("slow", "slow"), ("fast", None)]


def test_requests_go_to_the_pods_of_all_kinds():
    times_ns = np.arange(0, 2_000_000_000, 5_000_000)
    schedule = Schedule(times_ns, np.full(len(times_ns), "m", dtype=object), 2.0)
    sim = start(two_kinds(replicas_of_kind={"fast": 1, "slow": 1}), schedule)
    sim.advance(3)
    done = dict(zip(sim.samples[-1].pods.tolist(), sim.samples[-1].done.tolist(), strict=True))
    assert sum(done.values()) == 400
    assert done[0] > 1.5 * done[1] > 0  # who is faster has more of them


def test_what_cannot_be_asked_for_is_named():
    sim = start(two_kinds(max_replicas=4))
    with pytest.raises(ValueError, match=r"5 replicas of 'm': allowed are 0\.\.4"):
        sim.scale("m", 5)
    with pytest.raises(ValueError, match="replicas_of_kind 't4', profiles has fast, slow"):
        two_kinds(replicas_of_kind={"t4": 1})
    with pytest.raises(ValueError, match="starts with 9 replicas, max_replicas is 8"):
        two_kinds(replicas_of_kind={"fast": 9})
    with pytest.raises(ValueError, match="replicas_of_kind 'fast' is -1"):
        two_kinds(replicas_of_kind={"fast": -1})
