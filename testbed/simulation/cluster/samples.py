"""What can be read off a running simulation: scrapes of all replicas, and totals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.simulation.cluster.accounting import Accounting
from testbed.simulation.cluster.state import ClusterState
from testbed.simulation.state import NEVER


class Sample(NamedTuple):
    """One scrape of all replicas. Counters run from a pod's start."""

    time_ns: int
    pods: npt.NDArray[np.int64]  # number of each pod that serves or drains
    models: npt.NDArray[np.int64]  # that each of them serves
    done: npt.NDArray[np.int64]
    refused: npt.NDArray[np.int64]
    batches: npt.NDArray[np.int64]
    queue_ns: npt.NDArray[np.int64]  # sum over requests
    compute_ns: npt.NDArray[np.int64]
    busy_ns: npt.NDArray[np.int64]  # sum over batches of their time
    waiting: npt.NDArray[np.int64]  # requests that no instance has taken
    outstanding: npt.NDArray[np.int64]  # requests that clients wait for
    active_ns: npt.NDArray[np.int64]  # of the pod's device, since it has it: time that at least one batch ran
    arrived: npt.NDArray[np.int64]  # requests that clients sent so far, by model


class Totals(NamedTuple):
    """What clients of one model have seen so far. When a request is missed, or decided: measurement.misses."""

    arrived: int  # sent for the first time
    ok: int
    error: int
    timeout: int
    dropped: int  # the client had too many under way
    missed: int
    decided: int  # ended, or past their deadline
    waiting: int  # arrived, and not ended
    latency_s: float  # sum over answered requests


def sample(state: ClusterState, accounting: Accounting) -> Sample:
    """One scrape, now."""
    sim = state.sim
    asked = [pod.replica for pod in state.alive() if pod.replica is not None and pod.wanted]
    rows = np.array(sorted(row for row in asked if sim.replicas["pod"][row] >= 0), dtype=np.int64)
    of, instances = sim.replicas[rows], sim.instances[rows]
    running = np.where(instances["free_ns"] != NEVER, instances["batch_size"], 0).sum(axis=1)
    return Sample(
        time_ns=state.now_ns,
        pods=of["pod"],
        models=of["model"],
        done=of["done"],
        refused=of["refused"],
        batches=of["batches"],
        queue_ns=of["queue_ns"],
        compute_ns=of["compute_ns"],
        busy_ns=of["busy_ns"],
        waiting=of["in_flight"] - running,
        outstanding=of["outstanding"],
        active_ns=accounting.pod_active_ns(rows),
        arrived=sim.models["arrived"].copy(),
    )
