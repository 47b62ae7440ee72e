"""One Deployment for each GPU kind: where its pods go, which of them end, and what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.schedule import Schedule
from testbed.simulation.cluster.kisim import KISim
from tests.oracles.two_kinds import start, two_kinds
from workloads.errors import KisError


def kinds_of(sim: KISim) -> list[tuple[str | None, str | None]]:
    """(asked for, found) of each pod that is wanted."""
    return [(pod.kind, None if pod.node is None else sim.nodes[pod.node].kind) for pod in sim.wanted("m")]


def test_a_pod_that_is_asked_for_with_a_kind_goes_there_only():
    sim = start(two_kinds(fast=1, slow=4, replicas_of_kind={"slow": 1}))
    sim.scale("m", 2, kind="fast")
    sim.advance(10)
    assert kinds_of(sim) == [("slow", "slow"), ("fast", "fast"), ("fast", None)]
    waiting = sim.wanted("m", "fast")[1]
    assert waiting.reason == (
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node affinity/selector "
        "or are not ready."
    )
    sim.scale("m", 1, kind="fast")  # the pending one is the first to go
    assert waiting.state == "gone"


def test_a_smaller_deployment_gives_up_its_own_pods_and_no_other():
    sim = start(two_kinds(replicas_of_kind={"fast": 2, "slow": 2}))
    sim.advance(1)
    sim.scale("m", 0, kind="slow")
    sim.advance(60)
    assert kinds_of(sim) == [("fast", "fast")] * 2
    assert [pod.number for pod in sim.alive("m", "fast")] == [0, 1]
    assert sim.alive("m", "slow") == []


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


def test_gpu_seconds_by_kind_add_up():
    sim = start(two_kinds(replicas_of_kind={"fast": 1, "slow": 2}))
    sim.advance(10)
    sim.scale("m", 0, kind="fast")
    sim.advance(20)
    (gone,) = [pod for pod in sim.pods if pod.kind == "fast"]
    assert gone.gone_ns is not None
    assert sim.gpu_seconds("m", "fast") == pytest.approx(gone.gone_ns / 1e9)
    assert sim.gpu_seconds("m", "slow") == pytest.approx(40.0)
    assert sim.gpu_seconds("m") == pytest.approx(40.0 + gone.gone_ns / 1e9)


def test_requests_go_to_the_pods_of_all_kinds():
    times_ns = np.arange(0, 2_000_000_000, 5_000_000)
    schedule = Schedule(times_ns, np.full(len(times_ns), "m", dtype=object), 2.0)
    sim = start(two_kinds(replicas_of_kind={"fast": 1, "slow": 1}), schedule)
    sim.advance(3)
    done = dict(zip(sim.samples[-1].pods.tolist(), sim.samples[-1].done.tolist(), strict=True))
    assert sum(done.values()) == 400
    assert done[0] > 1.5 * done[1] > 0  # who is faster has more of them


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["fast", "slow"]), st.integers(0, 4), st.floats(0, 20)), max_size=8))
def test_whatever_is_asked_for_nobody_has_a_device_of_another_kind(steps: list[tuple[str, int, float]]) -> None:
    sim = start(two_kinds(fast=2, slow=3, replicas_of_kind={"fast": 1, "slow": 1}))
    for kind, replicas, wait_s in steps:
        sim.scale("m", replicas, kind=kind)
        assert len(sim.wanted("m", kind)) == replicas
        sim.advance(sim.now_s + wait_s)
        assert all(found in (None, asked) for asked, found in kinds_of(sim))
        assert sum(sim.gpu_seconds("m", kind) for kind in ("fast", "slow")) == pytest.approx(sim.gpu_seconds("m"))


def test_what_cannot_be_asked_for_is_named():
    sim = start(two_kinds(replicas_of_kind={"slow": 3}, max_replicas=4))
    with pytest.raises(ValueError, match=r"2 replicas of 'm' on fast: allowed are 0\.\.1"):
        sim.scale("m", 2, kind="fast")
    with pytest.raises(KisError, match="'m' has profiles for fast, slow, not for 't4'"):
        sim.scale("m", 1, kind="t4")
    with pytest.raises(ValueError, match="replicas_of_kind 't4', profiles has fast, slow"):
        two_kinds(replicas_of_kind={"t4": 1})
    with pytest.raises(ValueError, match="starts with 9 replicas, max_replicas is 8"):
        two_kinds(replicas_of_kind={"fast": 9})
    with pytest.raises(ValueError, match="replicas_of_kind 'fast' is -1"):
        two_kinds(replicas_of_kind={"fast": -1})
