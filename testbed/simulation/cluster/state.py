"""What a simulated cluster consists of at one moment: its nodes, its pods, and the requests that these hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.placement import Node
from testbed.simulation.cluster.pods import Pod, StateChange
from testbed.simulation.cluster.services import SimulatedService, Tables
from testbed.simulation.cluster.stream import SECOND_NS, RequestStream
from testbed.simulation.state import Sim


@dataclass
class ClusterState:
    """Written by the pods' lifecycle; the other modules of this package read it.

    pods: every one that ever was, by its number; states: every state that one has entered, in order of time.
    """

    config: ClusterConfig
    services: Sequence[SimulatedService]
    tables: Tables
    nodes: list[Node]
    stream: RequestStream
    pods: list[Pod] = field(default_factory=list)
    states: list[StateChange] = field(default_factory=list)
    living: dict[int, Pod] = field(default_factory=dict)  # those that are not gone

    def __post_init__(self) -> None:
        self._service_numbers = {(service.model, service.kind): k for k, service in enumerate(self.services)}

    @property
    def sim(self) -> Sim:
        """The event loop's records."""
        return self.stream.sim

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run's start."""
        return self.stream.now_ns

    def alive(self) -> list[Pod]:
        """Pods that are not gone."""
        return list(self.living.values())

    def service_of(self, pod: Pod) -> int:
        """Number of its model's service on the kind of device that it has."""
        return self._service_numbers[pod.model, self.node_of(pod).kind]

    def node_of(self, pod: Pod) -> Node:
        """The node that it is bound to."""
        assert pod.node is not None
        return self.nodes[pod.node]

    def held_s(self, pod: Pod) -> float:
        """Time that the pod has held its share of a device, in seconds of a whole device."""
        if pod.scheduled_ns is None or pod.node is None:
            return 0.0
        end_ns = self.now_ns if pod.gone_ns is None else pod.gone_ns
        return (end_ns - pod.scheduled_ns) / SECOND_NS / self.nodes[pod.node].shares
