"""How the event loop is compiled, and chains of requests: queues and payloads that share one array of links.

Nothing compiled here allocates, so numba's reference counting is off (`_nrt`), and helpers melt into `run`: together
ten times faster. It runs without Python's lock, so that episodes run side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numba.core import event

from testbed.simulation.state import Sim

_Function = TypeVar("_Function", bound=Callable[..., Any])
_njit: Any = njit
compiled: Callable[[_Function], _Function] = _njit(cache=True, nogil=True, _nrt=False)
inlined: Callable[[_Function], _Function] = _njit(forceinline=True, _nrt=False)


class _FirstCompilation(event.Listener):
    """Logs that there is one, of whatever is compiled first: nothing else is seen of it for half a minute."""

    told = False

    def on_start(self, _: object) -> None:
        if not self.told:
            log.info("the simulator is compiled, once after each installation: half a minute")
        self.told = True

    def on_end(self, _: object) -> None:
        pass


log = logging.getLogger("testbed.simulation")
event.register("numba:compile", _FirstCompilation())  # type: ignore[no-untyped-call]

GOLDEN, MIX_1, MIX_2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
TO_UNIT = 1.0 / (1 << 53)


@inlined
def rows_of(sim: Sim, i: int) -> int:
    """Rows of request i, which count against the largest batch."""
    return int(sim.request_rows[i] if len(sim.request_rows) > 1 else sim.request_rows[0])


@inlined
def join(sim: Sim, chain: Any, front: int, back: int, length: int, rows: int) -> None:
    """Append the requests front..back to a chain."""
    if chain.length == 0:
        chain.front, chain.oldest_ns = front, sim.arrival_ns[front]
    else:
        sim.link[chain.back] = front
        chain.oldest_ns = min(chain.oldest_ns, sim.arrival_ns[front])
    chain.back = back
    chain.length += length
    chain.rows += rows


@inlined
def move(sim: Sim, source: Any, target: Any, count: int) -> None:
    """Move the first `count` requests (1 or more) from one chain to the end of another."""
    front = source.front
    back, rows = front, count * sim.request_rows[0]
    for _ in range(count - 1):
        back = sim.link[back]
    if len(sim.request_rows) > 1:
        i, rows = front, sim.request_rows[front]
        for _ in range(count - 1):
            i = sim.link[i]
            rows += sim.request_rows[i]
    source.front = sim.link[back]
    source.length -= count
    source.rows -= rows
    join(sim, target, front, back, count, rows)


@inlined
def uniform(sim: Sim, number: int, draw: int) -> float:
    """The draw-th uniform number of request `number`: a hash (splitmix64), so it depends on nothing else."""
    x = np.uint64(sim.stream[0].seed) + np.uint64(number) * GOLDEN + np.uint64(draw) * MIX_2
    x = (x ^ (x >> np.uint64(30))) * MIX_1
    x = (x ^ (x >> np.uint64(27))) * MIX_2
    x = x ^ (x >> np.uint64(31))
    return float(x >> np.uint64(11)) * TO_UNIT


@inlined
def record(sim: Sim, i: int, r: int, k: int, start: int, end: int, size: int, position: int, status: int) -> None:
    """The outcome of request i."""
    out = sim.outcome[i]
    out.start_ns, out.end_ns = start, end
    out.batch_size, out.position = size, position
    out.replica, out.instance, out.status = r, k, status
