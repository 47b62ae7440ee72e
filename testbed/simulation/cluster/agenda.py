"""What is to happen in a simulated cluster, in order of time, and in the order in which it was planned."""

from __future__ import annotations

import copy
import heapq

from testbed.simulation.state import NEVER


class Agenda:
    """What is to happen when."""

    def __init__(self) -> None:
        self._events: list[tuple[int, int, str, tuple[int, ...]]] = []
        self._order = 0

    @property
    def next_ns(self) -> int:
        """Time of the next event; NEVER if there is none."""
        return self._events[0][0] if self._events else NEVER

    def push(self, time_ns: int, name: str, arguments: tuple[int, ...]) -> None:
        """Plan an event."""
        heapq.heappush(self._events, (time_ns, self._order, name, arguments))
        self._order += 1

    def pop(self) -> tuple[str, tuple[int, ...]]:
        """Take the next event: name and arguments."""
        _, _, name, arguments = heapq.heappop(self._events)
        return name, arguments

    def copy(self) -> Agenda:
        """One that goes on from here by itself."""
        twin = copy.copy(self)
        twin._events = list(self._events)
        return twin
