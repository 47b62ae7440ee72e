"""Traffic as it might have been: what a search must not know by heart, and what its result is checked on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from pydantic import Field

from loadgen.patterns import make_pattern
from loadgen.schedule import Schedule, from_seconds, poisson_schedule
from testbed.config import Strict, TrafficConfig
from testbed.pipeline.traffic import own_length_s, pattern_of, recorded

SEED = "_seed"  # a parameter of a pattern that ends so names what is drawn at random
SPREAD = (0.7548776662466927, 0.5698402909980532)  # Roberts' R2 sequence: both change together, and evenly
CACHED = 64  # schedules: each trial of a search plays the same ones
ADDED_S = 1.0  # a request that is added to a trace comes at most so long before or after one of its own


class Variation(Strict):
    """How much the traffic of one run differs from the given one."""

    rate: float = Field(0.2, ge=0, lt=1, description="the rate is up to so much higher or lower")
    time: float = Field(0.2, ge=0, lt=1, description="everything in it is up to so much slower or faster")
    draws: bool = Field(True, description="what a pattern draws at random (rates, bursts) is drawn anew")


def varied_schedule(
    traffic: TrafficConfig,
    model: str,
    otherwise_s: float,
    seed: int,
    variation: Variation,
    *,
    factor: float = 1.0,
    part: tuple[float, float] = (0.0, 1.0),
) -> Schedule:
    """One run's arrivals, the same for the same seed. otherwise_s: length of a pattern that has none of its own.

    factor: on the rate, beside what is drawn. part: of a recorded trace, from which share of its length to which: what
    lies outside is never shown. Of a trace's own arrivals some are left out, or some are added; from its counted rate
    (rate_interval_s) arrivals are drawn.
    """
    return _made(traffic.model_dump_json(), model, otherwise_s, seed, variation.model_dump_json(), factor, part)


@lru_cache(maxsize=CACHED)
def _made(
    given: str, model: str, otherwise_s: float, seed: int, variation: str, factor: float, part: tuple[float, float]
) -> Schedule:
    traffic, change = TrafficConfig.model_validate_json(given), Variation.model_validate_json(variation)
    rng = np.random.default_rng(np.random.SeedSequence((seed, 7)))
    factor *= (1 + change.rate) ** _spread(seed, SPREAD[0])
    stretch = (1 + change.time) ** _spread(seed, SPREAD[1])
    pattern, length_s = pattern_of(traffic), own_length_s(traffic)
    if pattern is None:
        whole = recorded(traffic, model).until(traffic.duration_s)
        return _of_trace(
            whole.until(part[1] * whole.duration_s).since(part[0] * whole.duration_s), rng, factor, stretch
        )
    if traffic.trace is not None:
        assert length_s is not None
        start_s, end_s = (share * length_s * stretch for share in part)
        return poisson_schedule(pattern, end_s - start_s, seed, model, factor=factor, stretch=stretch, start_s=start_s)
    if change.draws:
        drawn = {name: int(rng.integers(2**31)) for name in pattern.parameters() if name.endswith(SEED)}
        pattern = make_pattern(pattern.name, **{**pattern.parameters(), **drawn})
    return poisson_schedule(pattern, length_s or otherwise_s, seed, model, factor=factor, stretch=stretch)


def _spread(seed: int, step: float) -> float:
    """From -1 to 1: successive seeds lie evenly in it, so that few of them have loud runs as well as quiet ones."""
    return 2 * ((0.5 + seed * step) % 1.0) - 1


def _of_trace(trace: Schedule, rng: np.random.Generator, factor: float, stretch: float) -> Schedule:
    """Its own arrivals: thinned, or each one joined by as many more as the factor says, on average."""
    own_s, whole = trace.scheduled_s, int(factor)
    more = own_s[rng.random(len(own_s)) < factor - whole]
    added = np.concatenate([*[own_s] * max(0, whole - 1), more])
    if whole:
        added += rng.uniform(-ADDED_S, ADDED_S, len(added))
    times_s = np.concatenate([*[own_s] * min(whole, 1), added])
    duration_s = trace.duration_s * stretch
    times_s = np.sort(times_s * stretch)
    times_s = times_s[(times_s >= 0) & (times_s < duration_s)]
    return from_seconds(times_s, duration_s, str(trace.model[0]), trace.provenance)
