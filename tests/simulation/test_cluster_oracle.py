"""Pods, requests, batches and devices of small random clusters are those of the SimPy model of the same rules."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.state import CLIENT_TIMEOUT, CRASHED, DROPPED, NO_ENDPOINT, OK, QUEUE_FULL, TIMED_OUT
from tests.oracles import simpy_cluster
from tests.oracles.random_clusters import FEATURES, both

STATUS = {
    OK: "ok",
    CLIENT_TIMEOUT: "timeout",
    NO_ENDPOINT: "no endpoint",
    CRASHED: "died",
    DROPPED: "dropped",
    QUEUE_FULL: "queue full",
    TIMED_OUT: "timed out in the queue",
}
TIMES = ("requested", "scheduled", "started", "ready", "serving", "deleted", "gone")


def pods_of(sim: KISim, oracle: simpy_cluster.Cluster) -> tuple[list[list[object]], list[list[object]]]:
    """Of each pod: its times, its restarts, and where it is."""
    ours, theirs = [], []
    for pod in sim.pods:
        times = [-1 if (time := getattr(pod, f"{name}_ns")) is None else time for name in TIMES]
        where = None if pod.node is None else (sim.nodes[pod.node].name, pod.device)
        ours.append([*times, pod.restarts, where])
    for pod in oracle.pods:
        where = None if pod.device is None else (pod.device.node.setting.name, pod.device.number)
        theirs.append([*(getattr(pod, name) for name in TIMES), pod.restarts, where])
    return ours, theirs


def requests_of(sim: KISim, oracle: simpy_cluster.Cluster) -> tuple[dict[int, object], dict[int, object]]:
    """Of each that has ended: when, how, at which attempt, and which pod it was last sent to."""
    ours = {}
    for row in sim.all_rows():
        status, pod = STATUS[int(row["status"])], int(row["pod"])
        times = int(row["scheduled_ns"]), int(row["completed_ns"])
        ours[int(row["id"])] = (int(row["model"]), *times, status, int(row["attempt"]), pod)
    # A simulated client whose timeout has no consequences notices it when the server answers.
    on_server = {attempt.ask for attempt in oracle.on_server.values()}
    theirs = {}
    for ask in oracle.asks:
        if ask.status and not (ask.status == "timeout" and ask in on_server and ask.number not in ours):
            to = ask.attempt
            pod = to.pod.number if to and to.pod and to.container else -1  # a container that is down has no name
            theirs[ask.number] = (ask.model, ask.scheduled_ns, ask.completed_ns, ask.status, ask.attempts, pod)
    return ours, theirs


def batches_of(sim: KISim, oracle: simpy_cluster.Cluster) -> tuple[set[object], set[object]]:
    """The place in a batch of each request that a server has answered."""
    ours = {
        tuple(int(row[name]) for name in ("id", "pod", "start_ns", "end_ns", "batch_size", "position", "instance"))
        for row in sim.served_rows()
    }
    theirs = {
        (attempt.ask.number, attempt.pod.number, one.start_ns, one.end_ns, one.batch_size, one.position, one.instance)
        for attempt, one in oracle.served
        if attempt.pod
    }
    return ours, theirs


def busy_of(sim: KISim, oracle: simpy_cluster.Cluster) -> tuple[list[float], list[float]]:
    """Seconds in which a batch ran on each device."""
    now = oracle.clock.now
    busy_ns = [
        device.busy_ns + (now - device.busy_since_ns if device.running else 0)
        for node in oracle.nodes
        for device in node.devices
    ]
    return sim.device_active_s().tolist(), (np.array(busy_ns) / 1e9).tolist()


def agree(seed: int, features: Collection[str] = FEATURES) -> bool:
    """Asserted; False: two replicas of one GPU were at it in the same nanosecond, and nothing can be compared."""
    sim, oracle = both(seed, features)
    if oracle.tied:
        return False
    for what in (pods_of, requests_of, batches_of, busy_of):
        ours, theirs = what(sim, oracle)
        assert ours == theirs, f"{what.__name__} of cluster {seed}"
    return True


@pytest.mark.parametrize("block", range(4))
def test_simulator_and_simpy_model_agree_on_every_pod_request_and_batch(block: int) -> None:
    compared = [agree(seed) for seed in range(block * 50, (block + 1) * 50)]
    assert sum(compared) >= 45


@pytest.mark.parametrize("feature", sorted(FEATURES))
def test_they_agree_with_one_feature_at_a_time(feature: str) -> None:
    """The first world that differs then says which feature it is."""
    compared = [agree(seed, {feature}) for seed in range(1000, 1008)]
    assert sum(compared) >= 7
