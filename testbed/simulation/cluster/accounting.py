"""What pods have cost, and what their devices have done: seconds, energy, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.simulation.cluster.config import NodePool
from testbed.simulation.cluster.placement import Node
from testbed.simulation.cluster.pods import Pod
from testbed.simulation.cluster.services import GIB
from testbed.simulation.cluster.state import ClusterState
from testbed.simulation.cluster.stream import SECOND_NS

HOUR_S = 3600.0


class PoolNodes(NamedTuple):
    """Nodes of a pool: those there are (starting: of these, not ready yet), and the time of all that there were.

    gpu_s: node_s times the GPUs of a node. cost: of that time; None: no prices were given.
    """

    pool: str
    nodes: int
    starting: int
    node_s: float
    gpu_s: float
    cost: float | None


def pool_nodes(
    number: int, pool: NodePool, nodes: Sequence[Node], now_ns: int, price_per_hour: float | None
) -> PoolNodes:
    """Of all nodes, those of the pool. A node costs from asked for to given back."""
    places = {node.place: node for node in nodes if node.pool == number}.values()
    node_s = sum(node.exists_ns(now_ns) for node in places) / SECOND_NS
    there = [node for node in places if node.exists]
    return PoolNodes(
        pool.name,
        len(there),
        sum(not node.ready for node in there),
        node_s,
        node_s * pool.gpus,
        None if price_per_hour is None else node_s / HOUR_S * price_per_hour,
    )


class Accounting:
    """Kept from a pod's binding to its end."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._finished_s = np.zeros(len(state.config.models))  # GPU-seconds of pods that are gone
        self._active_before_ns = np.zeros(len(state.sim.replicas), dtype=np.int64)  # device, when a pod got its row

    def begin(self, pod: Pod) -> None:
        """The pod has got its share of a device."""
        self._active_before_ns[pod.replica] = self.device_active_ns()[self._device_of(pod)]

    def end(self, pod: Pod) -> None:
        """The pod is gone."""
        self._finished_s[pod.model] += self._state.held_s(pod)

    def gpu_seconds(self, model: int) -> float:
        """Time that the model's pods have held their share of a device, in seconds of a whole device."""
        own = [pod for pod in self._state.alive() if pod.model == model]
        return float(self._finished_s[model]) + sum(self._state.held_s(pod) for pod in own)

    def device_active_ns(self) -> npt.NDArray[np.int64]:
        """int64[devices]: time in which networks ran, as a GPU's utilisation counts it; where a profile does not tell,
        in which at least one batch ran."""
        device = self._state.sim.devices[: sum(len(node.used) for node in self._state.nodes)]
        running = np.where(device["busy"] > 0, self._state.now_ns - device["active_from_ns"], 0)
        return np.asarray(np.where(device["networks"] == 1, device["network_ns"], device["active_ns"] + running))

    def device_batches_j(self) -> npt.NDArray[np.float64]:
        """float64[devices]: energy that the batches took which have ended, beside an idle device's."""
        devices = sum(len(node.used) for node in self._state.nodes)
        return np.asarray(self._state.sim.devices["batches_j"][:devices])

    def pod_active_ns(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """int64[rows]: active time of each replica's device since its pod holds it."""
        devices = self._state.sim.replicas["device"][rows]
        return np.asarray(self.device_active_ns()[devices] - self._active_before_ns[rows])

    def device_memory_bytes(self) -> npt.NDArray[np.float64]:
        """float64[devices]: that containers hold, while they load too; NaN where no replica's memory is known."""
        state = self._state
        known = {service.kind for service in state.services if np.isfinite(service.memory_bytes)}
        in_use = np.array([0.0 if node.kind in known else np.nan for node in state.nodes for _ in node.used])
        for pod in state.alive():
            if pod.replica is not None and pod.started_ns is not None:
                in_use[self._device_of(pod)] += state.services[state.service_of(pod)].memory_bytes
        return in_use

    def fits(self, pod: Pod) -> bool:
        """Has its device, or its slice of it, memory for the model that it has just loaded?"""
        state = self._state
        kind = state.config.gpu_kinds.get(state.node_of(pod).kind)
        if kind is None or kind.memory_gib is None:
            return True
        if kind.mode.own_memory:
            own = state.services[state.service_of(pod)].memory_bytes
            return not own > kind.memory_gib * GIB / kind.shares
        return not self.device_memory_bytes()[self._device_of(pod)] > kind.memory_gib * GIB

    def _device_of(self, pod: Pod) -> Any:
        return self._state.sim.replicas["device"][pod.replica]
