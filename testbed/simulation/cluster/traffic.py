"""Arrivals for a simulated cluster: open loop in blocks, so that a run of any length needs little memory; or users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from loadgen.patterns import Pattern
from loadgen.schedule import Schedule
from workloads.errors import KisError

BLOCK = 65_536  # requests, about


class Block(NamedTuple):
    """All arrivals up to end_ns, after those of the block before."""

    end_ns: int
    arrival_ns: npt.NDArray[np.int64]
    model: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64] | None = None  # length buckets; None: drawn as the models' configuration says
    rows: npt.NDArray[np.int64] | None = None  # of each request; None: one


class Traffic(Protocol):
    """Open-loop arrivals. A pure function of the block's number."""

    def block(self, number: int) -> Block | None:
        """The number-th block, from 0; None: no more arrivals."""


def buckets_of(schedule: Schedule, buckets: Sequence[int]) -> npt.NDArray[np.int64] | None:
    """int64[n]: the first length bucket that holds each request; None: the schedule has no lengths, or nobody asks."""
    if schedule.tokens is None or not len(buckets):
        return None
    if len(schedule) and schedule.tokens.max() > buckets[-1]:
        raise KisError(
            f"the traffic has a request of {schedule.tokens.max()} tokens, the longest bucket is {buckets[-1]}: add a "
            "bucket, or shorten `lengths`"
        )
    return np.asarray(np.searchsorted(buckets, schedule.tokens), dtype=np.int64)


class ScheduledTraffic:
    """A Schedule, whose `model` column names the cluster's models.

    buckets: of the one model that the cluster serves, where the schedule has lengths.
    """

    def __init__(self, schedule: Schedule, models: Sequence[str], buckets: Sequence[int] = ()) -> None:
        numbers = {name: k for k, name in enumerate(models)}
        asked_for = set(schedule.model)
        unknown = sorted(asked_for - set(numbers))
        if unknown:
            raise KisError(f"the schedule asks for {', '.join(unknown)}; the cluster serves {', '.join(models)}")
        self._arrival_ns = schedule.scheduled_ns
        if len(asked_for) <= 1:
            self._model = np.full(len(schedule), numbers[next(iter(asked_for), models[0])], dtype=np.int64)
        else:
            self._model = np.array([numbers[name] for name in schedule.model], dtype=np.int64)
        self._bucket, self._rows = buckets_of(schedule, buckets), schedule.rows

    def block(self, number: int) -> Block | None:
        """See Traffic."""
        first, last = number * BLOCK, min((number + 1) * BLOCK, len(self._arrival_ns))
        if first >= last:
            return None
        # A block ends just before the next one begins; arrivals of one nanosecond may lie on both sides.
        bucket, rows = (None if each is None else each[first:last] for each in (self._bucket, self._rows))
        end_ns = int(self._arrival_ns[last - 1])
        return Block(end_ns, self._arrival_ns[first:last], self._model[first:last], bucket, rows)


@dataclass(frozen=True)
class PatternTraffic:
    """Poisson arrivals after one rate function a model, for ever; in blocks of fixed length, each with its own seed."""

    patterns: tuple[Pattern, ...]
    seed: int

    @property
    def block_s(self) -> float:
        """Length of a block, s."""
        return float(np.clip(BLOCK / sum(pattern.peak_rps for pattern in self.patterns), 0.01, 3600.0))

    def block(self, number: int) -> Block:
        """See Traffic."""
        start_s, end_s = number * self.block_s, (number + 1) * self.block_s
        arrivals = []
        for m, pattern in enumerate(self.patterns):
            rng = np.random.default_rng(np.random.SeedSequence((self.seed, m, number)))
            # Sorted uniform times without a sort: ratios of sums of exponentials. Then thinned, as in loadgen.schedule.
            sums = np.cumsum(rng.standard_exponential(rng.poisson(pattern.peak_rps * (end_s - start_s)) + 1))
            times_s = start_s + (end_s - start_s) * sums[:-1] / sums[-1]
            kept = rng.random(len(times_s)) * pattern.peak_rps < pattern.rate_rps(times_s)
            arrivals.append((times_s[kept] * 1e9).astype(np.int64))
        times = np.concatenate(arrivals)
        model = np.repeat(np.arange(len(arrivals)), [len(arrival) for arrival in arrivals])
        if len(self.patterns) > 1:
            order = np.argsort(times, kind="stable")
            times, model = times[order], model[order]
        return Block(int(end_s * 1e9) - 1, times, model)


@dataclass(frozen=True)
class Users:
    """Closed-loop users as Locust has them: each sends, waits for the answer, thinks, and sends again.

    counts: (second, number of users from then on), ascending. Users that are taken away stop after their answer.
    """

    model: int
    counts: tuple[tuple[float, int], ...]
    think_s: float = 1.0
    think: Literal["constant", "exponential"] = "constant"
