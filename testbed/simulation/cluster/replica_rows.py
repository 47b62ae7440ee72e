"""The event loop's side of pods: each that is bound to a node has one of the loop's replicas, a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from testbed.simulation.cluster.pods import Pod
from testbed.simulation.cluster.state import ClusterState
from testbed.simulation.state import CHAIN
from testbed.simulation.tables import idle_instances, idle_replicas


class ReplicaRows:
    """Which pod has which row, and what the event loop is told of it."""

    def __init__(self, state: ClusterState, closed_loop: bool) -> None:
        self._state, self._closed_loop = state, closed_loop
        self._free = np.ones(len(state.sim.replicas), dtype=bool)
        self._profiled_ns = state.sim.service_ns

    def of(self, pod: Pod) -> Any:
        """REPLICA: the pod's row."""
        return self._state.sim.replicas[pod.replica]

    def take(self, pod: Pod) -> None:
        """The pod gets a row, that of a replica which serves nobody yet."""
        pod.replica = int(np.flatnonzero(self._free)[0])
        self._free[pod.replica] = False
        self.reset(pod)

    def give_back(self, pod: Pod) -> None:
        """The pod has no row any more."""
        assert pod.replica is not None
        self._state.sim.replicas[pod.replica] = idle_replicas(1, 1)[0]
        self._free[pod.replica] = True
        pod.replica = None
        self._set_overhead(pod.node)

    def reset(self, pod: Pod) -> None:
        """The pod's replica holds nothing, and nobody sends to it."""
        state = self._state
        assert pod.device is not None
        service, node = state.service_of(pod), state.node_of(pod)
        record = idle_replicas(1, state.services[service].config.instances)[0]
        record["model"], record["service"], record["node"] = pod.model, service, node.number
        record["slow"] = service * len(state.nodes) + node.number
        record["device"] = node.first_device + pod.device
        state.sim.replicas[pod.replica] = record
        state.sim.instances[pod.replica] = idle_instances((1, state.sim.instances.shape[1]))[0]
        state.sim.payloads[pod.replica] = np.zeros(state.sim.payloads.shape[1], dtype=CHAIN)
        self._set_overhead(pod.node)

    def lose_requests(self, pod: Pod) -> None:
        """What the pod held ends as errors; requests that reach it find nobody."""
        assert pod.replica is not None
        self._state.stream.lose(pod.replica)
        self.reset(pod)

    def add_endpoint(self, pod: Pod) -> None:
        """Clients send to the pod from now on."""
        self.of(pod)["pod"] = pod.number
        model = self._state.sim.models[pod.model]
        self._state.sim.endpoints[pod.model, model["endpoints"]] = pod.replica
        model["endpoints"] += 1
        self._set_overhead(pod.node)

    def remove_endpoint(self, pod: Pod) -> None:
        """Clients do not send to the pod any more."""
        model, row = self._state.sim.models[pod.model], self._state.sim.endpoints[pod.model]
        count = int(model["endpoints"])
        kept = row[:count][row[:count] != pod.replica].copy()
        row[: len(kept)] = kept
        model["endpoints"] = len(kept)

    def set_order(self, draining: bool) -> None:
        """Does the order between replicas matter now? The event loop is faster where it does not.

        draining: some pod waits for its last answer.
        """
        config = self._state.config
        self._state.sim.stream[0]["causal"] = (
            draining
            or self._closed_loop
            or any(kind.shares > 1 for kind in config.gpu_kinds.values())
            or any(
                model.client.retries > 0 or model.client.max_in_flight > 0 or model.balancer == "least_requests"
                for model in config.models
            )
        )

    def set_speed(self, factors: np.ndarray) -> None:
        """factors: float64[services], on the time that the profile says for a batch."""
        stream = self._state.stream
        stream.sim = stream.sim._replace(service_ns=self._profiled_ns * factors[:, np.newaxis, np.newaxis])

    def _set_overhead(self, node: int | None) -> None:
        """Overhead depends on how many replicas run on the node."""
        here = [pod for pod in self._state.alive() if pod.node == node and pod.replica is not None]
        serving = max(1, sum(pod.serving_ns is not None for pod in here))
        for pod in here:
            self.of(pod)["levels"] = self._state.tables.levels_row(self._state.service_of(pod), serving)
