"""Nodes that are made first: small worlds with the whole timeline worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from testbed.config_file import build
from testbed.errors import ConfigError
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.provisioners import Claim, Group, nodes_for
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile, simulate

STEP_S = 0.5
PLAIN_POD = {"schedule_s": 0.0, "container_start_s": 1.0, "load_s": 0.5, "probe_period_s": 1.0, "endpoint_lag_s": 0.1}
SCANS = {"kind": "cluster_autoscaler"}
KARPENTER = {"kind": "karpenter", "consolidate_after_s": 30.0}


def world(provisioner: dict[str, Any] = SCANS, *, pod: dict[str, Any] | None = None, **pool: Any) -> KISim:
    """A group of one-GPU nodes that starts with one, on which the model's one replica runs; a node takes 60 s."""
    return simulate(config(provisioner, pod=pod, **pool), profile=flat_profile())


def config(
    provisioner: dict[str, Any] | None = SCANS, *, pod: dict[str, Any] | None = None, **changes: Any
) -> ClusterConfig:
    keys = {key: changes.pop(key) for key in ("currency", "gpu_kinds") if key in changes}
    pool = {"gpus": 1, "gpu_kind": GPU, "max_nodes": 3, "node_ready_s": 60.0, **changes}
    base = cluster(pod={**PLAIN_POD, **(pod or {})}, max_replicas=8).model_dump(exclude_unset=True)
    return build(ClusterConfig, {**base, "pools": [pool], "provisioner": provisioner, **keys}, "test")


def seconds(value: int | None) -> float | None:
    return None if value is None else round(value / 1e9, 6)


def nodes(sim: KISim) -> tuple[int, int]:
    """There are, and of these start."""
    (pool,) = sim.pool_nodes()
    return pool.nodes, pool.starting


def test_a_pod_without_room_waits_for_the_next_scan_and_for_its_node():
    sim = world()
    sim.advance(12)
    sim.scale("m", 2)
    sim.advance(19)
    assert sim.pods[1].state == "pending"
    assert nodes(sim) == (1, 0)
    sim.advance(20)
    assert nodes(sim) == (2, 1)  # asked for at the scan of second 20
    assert sim.pods[1].reason == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    sim.advance(79)
    assert sim.pods[1].state == "pending"
    assert sim.coming_for("m") == 1
    sim.advance(100)
    pod = sim.pods[1]
    assert (seconds(pod.scheduled_ns), seconds(pod.started_ns), seconds(pod.ready_ns)) == (80.0, 81.0, 82.0)


def test_pods_that_wait_for_a_node_get_no_second_one():
    sim = world(gpus=2)
    sim.advance(1)
    sim.scale("m", 4)  # one has room, two share a new node
    sim.advance(65)
    assert nodes(sim) == (2, 1)
    sim.advance(71)
    assert nodes(sim) == (2, 0)
    assert [seconds(pod.scheduled_ns) for pod in sim.pods] == [0.0, 1.0, 70.0, 70.0]


def test_at_its_maximum_a_group_leaves_pods_pending_and_no_node_is_coming_for_them():
    sim = world(max_nodes=2)
    sim.scale("m", 4)
    sim.advance(300)
    assert nodes(sim) == (2, 0)
    assert [pod.state for pod in sim.pods] == ["serving", "serving", "pending", "pending"]
    assert sim.coming_for("m") == 0
    sim.scale("m", 1)
    sim.advance(310)
    assert len(sim.wanted("m")) == 1


@pytest.mark.parametrize(
    ("unneeded_s", "delay_after_add_s", "gone_s"),
    [
        (600.0, 600.0, 710.0),  # empty at 105, seen at 110: unneeded until 710
        (100.0, 600.0, 610.0),  # the last scale-up was at 10
        (100.0, 50.0, 210.0),
    ],
)
def test_an_empty_node_goes_after_its_unneeded_time_and_not_soon_after_a_scale_up(
    unneeded_s: float, delay_after_add_s: float, gone_s: float
):
    sim = world({**SCANS, "unneeded_s": unneeded_s, "delay_after_add_s": delay_after_add_s})
    sim.advance(1)
    sim.scale("m", 2)
    sim.advance(104.9)
    sim.scale("m", 1)  # it is out of the endpoints at 105
    sim.advance(gone_s - 0.01)
    assert nodes(sim) == (2, 0)
    sim.advance(gone_s)
    assert nodes(sim) == (1, 0)
    sim.advance(5000)
    assert nodes(sim) == (1, 0)  # the other one has a pod
    (pool,) = sim.pool_nodes()
    assert pool.node_s == pytest.approx(5000 + gone_s - 10)


def test_no_group_becomes_smaller_than_its_minimum():
    sim = world({**SCANS, "unneeded_s": 20.0}, nodes=3, min_nodes=2)
    sim.advance(500)
    assert nodes(sim) == (2, 0)
    sim.scale("m", 0)
    sim.advance(1000)
    assert nodes(sim) == (2, 0)


def test_karpenter_collects_pods_until_none_has_come_for_a_second():
    sim = world(KARPENTER, max_nodes=8)
    for second in (10.0, 10.5, 11.0):
        sim.advance(second)
        sim.scale("m", len(sim.wanted("m")) + 1)
    sim.advance(11.9)
    assert nodes(sim) == (1, 0)
    sim.advance(12)
    assert nodes(sim) == (4, 3)


def test_karpenters_window_is_no_longer_than_its_maximum():
    sim = world({**KARPENTER, "batch_max_s": 2.0}, max_nodes=8)
    seen = []
    for k in range(5):
        sim.advance(10 + k / 2)
        seen.append(nodes(sim))
        sim.scale("m", 2 + k)
    assert seen == [(1, 0)] * 4 + [(5, 4)]  # pods of 10.0 to 11.5, at 12


def test_karpenter_removes_a_node_that_has_been_empty_for_long_enough():
    sim = world(KARPENTER)
    sim.advance(1)
    sim.scale("m", 2)
    sim.advance(99.9)
    sim.scale("m", 1)
    sim.advance(129.9)
    assert nodes(sim) == (2, 0)
    sim.advance(130)
    assert nodes(sim) == (1, 0)


def test_a_node_that_is_used_again_starts_its_time_anew():
    sim = world(KARPENTER)
    sim.advance(1)
    for until_s, replicas in ((99.9, 2), (120.0, 1), (125.0, 2), (139.9, 1)):
        sim.scale("m", 2 if replicas == 2 else 1)
        sim.advance(until_s)
    sim.advance(149.9)
    assert nodes(sim) == (2, 0)


def test_a_placeholder_is_evicted_for_a_pod_and_gets_a_node_of_its_own():
    sim = world(nodes=2, placeholders=1)
    sim.advance(12)
    sim.scale("m", 2)
    sim.advance(15)
    assert seconds(sim.pods[1].scheduled_ns) == 12.0  # no wait: the placeholder's room
    assert nodes(sim) == (2, 0)
    sim.advance(20)
    assert nodes(sim) == (3, 1)  # for the placeholder
    sim.advance(5000)
    assert nodes(sim) == (3, 0)  # which keeps it from being empty
    sim.scale("m", 1)
    sim.advance(10000)
    assert nodes(sim) == (2, 0)


def test_a_new_node_pulls_the_image_and_loads_cold_and_a_known_one_does_not():
    pod = {"image_pull_s": 30.0, "load_s": 20.0, "warm_load_s": [4.0]}
    sim = world(pod=pod)
    sim.advance(1)
    sim.scale("m", 2)  # its node is ready at 70
    sim.advance(200)
    sim.scale("m", 1)
    sim.advance(300)
    sim.scale("m", 2)  # on the same node, which is still there
    sim.advance(400)
    first, second = sim.pods[1:]
    assert (seconds(first.scheduled_ns), seconds(first.started_ns), seconds(first.loaded_ns)) == (70.0, 101.0, 121.0)
    assert (seconds(second.scheduled_ns), seconds(second.started_ns), seconds(second.loaded_ns)) == (300, 301, 305)


def test_a_node_in_the_place_of_one_that_is_gone_knows_nothing_of_it():
    pod = {"image_pull_s": 30.0, "load_s": 20.0, "warm_load_s": [4.0]}
    sim = world({**SCANS, "unneeded_s": 10.0, "delay_after_add_s": 0.0}, pod=pod, max_nodes=2)
    sim.advance(1)
    sim.scale("m", 2)
    sim.advance(200)
    sim.scale("m", 1)
    sim.advance(301)
    assert nodes(sim) == (1, 0)
    sim.scale("m", 2)
    sim.advance(500)
    assert seconds(sim.pods[2].scheduled_ns) == 370.0
    assert seconds(sim.pods[2].loaded_ns) == 421.0


def test_replicas_at_the_start_have_their_nodes():
    sim = simulate(
        ClusterConfig.model_validate(
            {**config().model_dump(), "models": [{**config().models[0].model_dump(), "replicas": 3}]}
        )
    )
    assert nodes(sim) == (3, 0)
    assert [pod.state for pod in sim.pods] == ["serving"] * 3


def test_a_lost_node_is_replaced_when_its_pods_are_evicted():
    pod = {"node_lost_s": 40.0, "eviction_s": 60.0}
    sim = world(pod=pod, max_nodes=1)
    sim.advance(5)
    sim.lose_node("node-0")
    sim.advance(104)
    assert nodes(sim) == (1, 0)
    sim.advance(170)
    assert nodes(sim) == (1, 0)
    assert seconds(sim.pods[1].scheduled_ns) == 170.0  # evicted at 105, a node asked for at 110


def test_money_is_the_nodes_time_from_asked_for_to_given_back():
    sim = simulate(
        config(
            {**SCANS, "unneeded_s": 100.0, "delay_after_add_s": 50.0}, gpus=4, price_per_gpu_hour=2.5, currency="EUR"
        )
    )
    assert sim.cost == 0.0
    sim.advance(3600)
    assert sim.cost == pytest.approx(4 * 2.5)
    sim.scale("m", 5)  # asked for at 3610, ready at 3670, empty at 4000.1, seen at 4010, gone at 4110
    sim.advance(4000)
    sim.scale("m", 1)
    sim.advance(7200)
    (pool,) = sim.pool_nodes()
    assert pool.node_s == pytest.approx(7200 + 500)
    assert pool.gpu_s == pytest.approx(4 * 7700)
    assert sim.cost == pytest.approx(4 * 2.5 * 7700 / 3600)


def test_without_a_price_there_is_no_money():
    sim = world()
    sim.advance(100)
    assert sim.cost is None
    assert [pool.cost for pool in sim.pool_nodes()] == [None]


def test_a_kinds_price_is_that_of_its_pools_unless_they_have_one():
    kinds = {GPU: {"price_per_gpu_hour": 3.0}}
    assert config(gpus=2, currency="USD", gpu_kinds=kinds).node_hour_prices == (6.0,)
    assert config(gpus=2, currency="USD", gpu_kinds=kinds, price_per_gpu_hour=1.0).node_hour_prices == (2.0,)
    assert config(gpus=2, currency="USD", gpu_kinds=kinds, price_per_node_hour=5.0).node_hour_prices == (5.0,)
    assert config(gpus=2).node_hour_prices is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"provisioner": None}, "has max_nodes: name what makes its nodes"),
        ({"max_nodes": None, "node_ready_s": []}, "no pool has max_nodes"),
        ({"max_nodes": None}, "node_ready_s is of a node group: give max_nodes too"),
        ({"node_ready_s": []}, "say how long a new node takes"),
        ({"nodes": 4}, "nodes is 4: give a number from min_nodes (0) to max_nodes (3)"),
        ({"price_per_gpu_hour": 1.0}, "give currency, e.g. `currency: EUR`"),
        ({"currency": "EUR"}, "give a price_per_gpu_hour, or leave currency out"),
        ({"price_per_gpu_hour": 1.0, "price_per_node_hour": 1.0, "currency": "EUR"}, "not both"),
        ({"provisioner": {"kind": "magic"}}, "magic"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError) as raised:
        config(**changes)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_a_provisioner_the_largest_time_of_a_node_is_the_runs():
    sim = simulate(cluster(nodes=2))
    sim.advance(50)
    (pool,) = sim.pool_nodes()
    assert (pool.nodes, pool.starting, pool.node_s, pool.gpu_s) == (2, 0, 100.0, 400.0)


def test_nodes_for_takes_what_is_coming_first_then_groups_in_their_order():
    small, large = Group(0, {GPU: 1}, nodes=1, most=2, coming={GPU: 1}), Group(1, {GPU: 4}, nodes=0, most=1)
    made, helped = nodes_for([Claim([GPU])] * 7, [small, large])
    assert made == {0: 1, 1: 1}
    assert helped == [True] * 6 + [False]
    assert nodes_for([Claim([GPU], pool=1)] * 2, [small, large]) == ({1: 1}, [True, True])
    assert nodes_for([Claim(["cpu"])], [small, large]) == ({}, [False])


def test_a_device_draws_power_while_its_node_exists():
    sim = simulate(
        config({**SCANS, "unneeded_s": 100.0, "delay_after_add_s": 50.0}, gpu_kinds={GPU: {"power_w": (50.0, 300.0)}})
    )
    sim.scale("m", 2)  # a node from 10 on; empty at 300.1, seen at 310, gone at 410
    sim.advance(300)
    sim.scale("m", 1)
    sim.advance(1000)
    assert sim.device_energy_j().tolist() == pytest.approx([50.0 * 1000, 50.0 * 400, 0.0])


@pytest.mark.parametrize("seed", range(8))
def test_random_worlds_keep_their_bounds_and_leave_no_pod_pending_below_the_maximum(seed: int):
    rng = np.random.default_rng(seed)
    provisioner = {**SCANS, "unneeded_s": 60.0, "delay_after_add_s": 30.0} if seed % 2 else KARPENTER
    sim = world(
        provisioner,
        gpus=int(rng.integers(1, 4)),
        min_nodes=1,
        max_nodes=int(rng.integers(2, 5)),
        node_ready_s=[20.0, 45.0, 90.0],
        placeholders=int(rng.integers(0, 3)),
        price_per_gpu_hour=2.0,
        currency="EUR",
    )
    (pool,) = sim.config.pools
    existed_s, unsure_s = 0.0, 1.0  # sampled; a node that comes or goes within a step is there for a part of it
    for k in range(60):
        sim.scale("m", int(rng.integers(0, 9)))
        if k == 30:
            sim.lose_node(f"node-{int(rng.integers(0, 2))}")
        for _ in range(int(rng.integers(2, 180))):
            before = nodes(sim)[0]
            sim.advance(sim.now_s + STEP_S)
            existed_s += STEP_S * nodes(sim)[0]
            unsure_s += STEP_S * abs(nodes(sim)[0] - before)
        assert 1 <= nodes(sim)[0] <= pool.most
        for node in sim.nodes:
            held = [pod for pod in sim.alive("m") if pod.node == node.number]
            assert sum(node.used) == len(held)
            assert sum(node.used) + node.placeholders <= node.capacity
            assert node.exists or not (held or node.placeholders)
            assert node.ready or node.lost or not held
        assert sum(node.placeholders for node in sim.nodes) <= pool.placeholders
    (had,) = sim.pool_nodes()
    assert had.node_s == pytest.approx(existed_s, abs=unsure_s)
    assert sim.cost == pytest.approx(2.0 * had.gpu_s / 3600)
    sim.scale("m", 8)
    sim.advance(sim.now_s + 1000)
    pending = [pod for pod in sim.wanted("m") if pod.state == "pending"]
    assert len(pending) == max(0, 8 - pool.most * pool.gpus)
