"""Worlds: a service with traffic that was drawn for it, some to search on, some that nobody has seen.

Everything is measured in the service: rates in what its replicas serve, times in its start-up time. So the same draw
fits a pod that starts in 4 s and one that takes two minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from loadgen.patterns import Pattern, Trace, families
from loadgen.schedule import Schedule, TraceError, poisson_schedule
from loadgen.traces import read_trace, trace_pattern
from testbed.autoscaling.search import ServedService
from testbed.pipeline.benchmark_config import DrawnTraffic, RecordedRate

Split = Literal["training", "held-out"]
SPLITS = {"training": 1, "held-out": 2}  # numbers of their seeds
FEWEST_INTERVALS = 10  # of a trace's part: fewer say nothing


@dataclass(frozen=True)
class World:
    """Traffic of one service. kind: the family, or the trace, that it was drawn from."""

    name: str
    kind: str
    pattern: Pattern
    duration_s: float

    def schedule(self, model: str, seed: int) -> Schedule:
        """Arrivals of one run."""
        return poisson_schedule(self.pattern, self.duration_s, seed, model)


def worlds(traffic: DrawnTraffic, service: ServedService, split: Split, count: int, seed: int) -> list[World]:
    """So many, their kinds taking turns, each trace after all families. More of them begin with the same ones."""
    kinds = [*traffic.families, *traffic.traces]
    made = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        rng = np.random.default_rng(np.random.SeedSequence((seed, SPLITS[split], number)))
        peak = float(rng.uniform(*traffic.peak_load)) * service.replica.target_rps * service.max_replicas
        low = peak * float(rng.uniform(*traffic.low_share))
        period_s = float(rng.uniform(*traffic.period)) * service.provisioning_delay_s
        duration_s = traffic.length * service.provisioning_delay_s
        pattern: Pattern
        if kind in traffic.traces:
            stretch = _of_trace(traffic, kind, split, peak, duration_s, service.provisioning_delay_s, rng)
            pattern, duration_s = stretch, min(duration_s, len(stretch.rates) * stretch.interval_s)
        else:
            pattern = families()[kind].drawn(kind, low, peak, period_s, rng)
        made.append(World(f"{number}-{kind}", kind, pattern, duration_s))
    return made


def _of_trace(
    traffic: DrawnTraffic,
    name: str,
    split: Split,
    peak_rps: float,
    duration_s: float,
    provisioning_delay_s: float,
    rng: np.random.Generator,
) -> Trace:
    """A stretch of the split's part of the trace, as fast as it is to be, scaled to that peak."""
    recorded = traffic.traces[name]
    counted = _counted(recorded)
    border = int(len(counted) * (1 - traffic.held_out))
    part = counted[:border] if split == "training" else counted[border:]
    interval_s = recorded.interval_s * provisioning_delay_s / recorded.per_start_up_s
    needed = int(np.ceil(duration_s / interval_s))
    if len(part) < FEWEST_INTERVALS:
        raise TraceError(f"{recorded.trace}: the {split} part has {len(part)} intervals: give a shorter interval_s")
    if needed < len(part):
        first = int(rng.integers(len(part) - needed + 1))
        part = part[first : first + needed]
    if not part.any():
        raise TraceError(f"{recorded.trace}: nothing arrives in a stretch of its {split} part")
    return Trace(rates=tuple((part * peak_rps / part.max()).tolist()), interval_s=interval_s)


def _counted(recorded: RecordedRate) -> np.ndarray:
    return _rates(recorded.model_dump_json())


@lru_cache(maxsize=16)
def _rates(given: str) -> np.ndarray:
    recorded = RecordedRate.model_validate_json(given)
    schedule = read_trace(recorded.trace, "", **recorded.reading())
    return np.array(trace_pattern(schedule, recorded.interval_s).rates)
