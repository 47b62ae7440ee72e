"""The compiled event loop with what it needs to run on: arrivals block by block, slow phases, room for requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from testbed.calibration.profile import SlowPhase
from testbed.simulation import stream_loop
from testbed.simulation.cluster.traffic import Traffic
from testbed.simulation.state import DRAWN, EVENT, NEVER, ROW, USER, Sim

SECOND_NS = 1_000_000_000
SLOW_STEPS = 256  # of the slow phases, generated at a time


class RequestStream:
    """All requests of a cluster, up to now_ns. sim is its state; who owns it changes it only between two runs.

    phases: the slow phase of each row of sim.slow.
    """

    def __init__(
        self, sim: Sim, traffic: Traffic | None, phases: Sequence[SlowPhase], window_ns: int, seed: int
    ) -> None:
        self.sim, self.now_ns = sim, 0
        self._rows: list[npt.NDArray[Any]] = []
        self._traffic, self._phases, self._window_ns, self._seed = traffic, tuple(phases), window_ns, seed
        self._block, self._block_end_ns = -1, -1 if traffic is not None else NEVER - 1
        self._slow_end_ns, self._slow_x = -1, list[float | None]([None] * len(self._phases))

    def run(self, until: int) -> bool:
        """Run up to and including `until`; False: stopped earlier, because a draining replica (`emptied`) is empty."""
        while True:
            if self.now_ns >= self._block_end_ns:
                self._next_block()
            if self.now_ns >= self._slow_end_ns:
                self._next_slow_phase()
            to = min(until, self._block_end_ns, self._slow_end_ns)
            code = stream_loop.run_until(self.sim, to, self._window_ns)
            self.now_ns = int(self.sim.stream[0]["now_ns"])
            if code == stream_loop.DONE and to == until:
                return True
            if code == stream_loop.EMPTIED:
                return False
            if code == stream_loop.MORE_ROWS:
                self._rows.append(self.sim.rows[: int(self.sim.stream[0]["rows"])].copy())
                self.sim.stream[0]["rows"] = 0
            elif code == stream_loop.MORE_PLACES:
                self._grow()

    @property
    def emptied(self) -> int:
        """The replica that has just answered its last request."""
        return int(self.sim.stream[0]["emptied"])

    def lose(self, replica: int) -> None:
        """What the replica holds ends as errors, now."""
        self._grow_events()
        stream_loop.lose_replica(self.sim, replica, self.now_ns)

    def set_users(self, count: int, model: int) -> None:
        """So many closed-loop users of a model from now on: new ones send at once, those that have been there longest
        stop after their answer. A number is never used again: one that still thinks would go on as somebody new."""
        stream, group = self.sim.stream[0], self.sim.models[model]
        end = int(group["first_user"] + group["users"])
        new = range(end, end + count - int(group["users"]))
        group["first_user"], group["users"] = end + len(new) - count, count
        self._grow_events(len(new))
        queue = [tuple(event) for event in self.sim.events[: int(stream["events"])].tolist()]
        queue += [(self.now_ns, int(stream["next_event"]) + k, USER, user, model) for k, user in enumerate(new)]
        stream["next_event"] += len(new)
        stream["events"] = len(queue)
        self.sim.events[: len(queue)] = sorted(queue)  # a sorted row is a heap

    def all_rows(self) -> npt.NDArray[Any]:
        """ROW[n]: every request that has ended, if rows are kept, and those ABANDONED; their order says nothing."""
        return np.concatenate([*self._rows, self.sim.rows[: int(self.sim.stream[0]["rows"])]])

    def _next_block(self) -> None:
        assert self._traffic is not None
        self._block += 1
        block = self._traffic.block(self._block)
        stream = self.sim.stream[0]
        stream["next_arrival"] = 0
        if block is None:
            self._block_end_ns, stream["arrivals"] = NEVER - 1, 0
            return
        self._block_end_ns, stream["arrivals"] = block.end_ns, len(block.arrival_ns)
        if block.rows is not None and len(self.sim.request_rows) == 1:
            self.sim = self.sim._replace(request_rows=np.ones_like(self.sim.bucket))
        self.sim = self.sim._replace(
            feed_ns=_of_our_own(block.arrival_ns),
            feed_model=_of_our_own(block.model),
            feed_rows=np.ones(1, dtype=np.int64) if block.rows is None else _of_our_own(block.rows),
            feed_bucket=np.full(len(block.model), DRAWN) if block.bucket is None else _of_our_own(block.bucket),
        )

    def _next_slow_phase(self) -> None:
        """SLOW_STEPS more steps of each slow phase: Ornstein-Uhlenbeck processes, discretised exactly."""
        sigma = np.array([phase.sigma for phase in self._phases])
        if not sigma.any():
            self._slow_end_ns = NEVER - 1
            self.sim = self.sim._replace(slow=np.ones((len(sigma), 1)))
            return
        step_ns = int(self.sim.rules[0]["slow_step_ns"])
        first = self.now_ns // step_ns
        decay = np.exp(-step_ns / SECOND_NS / np.array([phase.timescale_s for phase in self._phases]))
        rng = np.random.default_rng(np.random.SeedSequence((self._seed, int(first))))
        shocks = ndtri(rng.random((len(sigma), SLOW_STEPS)))
        x = np.array([_walk(*each) for each in zip(decay.tolist(), shocks.tolist(), self._slow_x, strict=True)])
        self._slow_x = x[:, -1].tolist()
        self.sim = self.sim._replace(slow=np.exp(x * sigma[:, None] - sigma[:, None] ** 2 / 2))
        self.sim.stream[0]["slow_first"] = first
        self._slow_end_ns = (int(first) + SLOW_STEPS) * step_ns

    def _grow(self) -> None:
        """Twice as many places for requests under way."""
        sim, before = self.sim, len(self.sim.requests)

        def doubled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.concatenate([array, np.zeros_like(array)])

        free = int(sim.stream[0]["free"])
        places = np.zeros(2 * before, dtype=np.int64)
        places[:free] = sim.free[:free]
        places[free : free + before] = np.arange(2 * before - 1, before - 1, -1)
        requests = doubled(sim.requests)
        requests["id"][before:] = -1
        names = ["arrival_ns", "noise", "extra_ns", "pause_ns", "missed", "link", "bucket"]
        names += ["request_rows"] if len(sim.request_rows) > 1 else []
        self.sim = sim._replace(free=places, requests=requests, **{name: doubled(getattr(sim, name)) for name in names})
        self.sim.stream[0]["free"] = free + before
        self._grow_events()
        if sim.stream[0]["keeps_rows"]:
            self.sim = self.sim._replace(rows=np.concatenate([sim.rows, np.zeros(4 * before, dtype=ROW)]))

    def _grow_events(self, more: int = 0) -> None:
        """The heap has room for an event of every place, and `more`."""
        wanted = int(self.sim.stream[0]["events"]) + 2 * len(self.sim.requests) + 16 + more
        if len(self.sim.events) < wanted:
            self.sim = self.sim._replace(events=np.concatenate([self.sim.events, np.zeros(wanted, dtype=EVENT)]))


def _walk(decay: float, shocks: Sequence[float], last: float | None) -> list[float]:
    """Of one process, a step a shock, after `last`; None: from its stationary distribution. Plain numbers: of arrays as
    small as these, each operation would take ten times as long."""
    stray, steps = math.sqrt(1 - decay**2), []
    for shock in shocks:
        last = shock if last is None else decay * last + stray * shock
        steps.append(last)
    return steps


def _of_our_own(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """In one piece and writable: for a read-only one, as a file has it, the loops would be compiled once more."""
    return np.require(array, requirements=("C", "W"))
