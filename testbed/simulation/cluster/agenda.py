"""What is to happen in a simulated cluster, in order of time, and in the order in which it was planned."""

from __future__ import annotations

import heapq
from typing import Literal, NamedTuple

from testbed.simulation.state import NEVER

PodStep = Literal[
    "schedule", "started", "loaded", "ready", "serving", "unserved", "may_end", "kill", "node_lost", "evicted"
]


class PodEvent(NamedTuple):
    """The next step of a pod's life. plan: it happens only while the pod's plans are those."""

    step: PodStep
    pod: int
    plan: int


NodeStep = Literal["scan", "batch", "ready", "empty"]


class NodeEvent(NamedTuple):
    """The provisioner's next step. node: its place, for `ready`. plan: see PodEvent."""

    step: NodeStep
    node: int
    plan: int


class UsersChange(NamedTuple):
    """So many closed-loop users of a model from now on."""

    model: int
    users: int


class ScrapeDue(NamedTuple):
    """Metrics are read."""


Event = PodEvent | NodeEvent | UsersChange | ScrapeDue


class Agenda:
    """What is to happen when."""

    def __init__(self) -> None:
        self._events: list[tuple[int, int, Event]] = []
        self._order = 0

    @property
    def next_ns(self) -> int:
        """Time of the next event; NEVER if there is none."""
        return self._events[0][0] if self._events else NEVER

    def push(self, time_ns: int, event: Event) -> None:
        """Plan an event."""
        heapq.heappush(self._events, (time_ns, self._order, event))
        self._order += 1

    def pop(self) -> Event:
        """Take the next event."""
        return heapq.heappop(self._events)[2]
