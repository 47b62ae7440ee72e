"""What a prediction is worth: the same traffic under many draws of what is not known.

A profile is an average over runs; a run to come differs from it as the runs of the calibration differed from each other
(run effects). They are drawn here, with a seed for whatever else is random, and the results' quantiles are an interval
for the next real run, not for the mean of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from testbed.calibration.profile import OverheadLevel, RunEffect, ServiceProfile


class Interval(NamedTuple):
    """low and high hold `coverage` of the draws, as much left out below as above; middle is the median."""

    low: float
    middle: float
    high: float
    coverage: float


def another_run(profile: ServiceProfile, rng: np.random.Generator) -> ServiceProfile:
    """The profile as one run might have it: Student's t for how few runs tell of the differences between runs."""
    effects = profile.run_effects

    def draw(effect: RunEffect | None) -> float:
        return 0.0 if effect is None else float(effect.deviation * rng.standard_t(effect.freedom))

    slower, inflow_s, outflow_s, turnaround_s = (
        draw(one) for one in (effects.service, effects.inflow_s, effects.outflow_s, effects.turnaround_s)
    )
    times = profile.service_time
    factor = float(np.exp(np.clip(slower, -1.0, 1.0)))
    levels = tuple(_shifted(level, inflow_s, outflow_s, turnaround_s) for level in profile.overhead.levels)
    return profile.model_copy(
        update={
            "service_time": times.model_copy(update={"mean_s": tuple(mean_s * factor for mean_s in times.mean_s)}),
            "overhead": profile.overhead.model_copy(update={"levels": levels}),
            "turnaround_s": max(0.0, profile.turnaround_s + turnaround_s),
        }
    )


def _shifted(level: OverheadLevel, inflow_s: float, outflow_s: float, turnaround_s: float) -> OverheadLevel:
    def moved(table: tuple[float, ...], by_s: float, least: float) -> tuple[float, ...]:
        return tuple(max(least, value + by_s) for value in table)

    pauses = level.turnaround_quantiles_s
    return level.model_copy(
        update={
            "inflow_quantiles_s": moved(level.inflow_quantiles_s, inflow_s, 0.0),
            "outflow_quantiles_s": moved(level.outflow_quantiles_s, outflow_s, -np.inf),
            "turnaround_quantiles_s": None if pauses is None else moved(pauses, turnaround_s, 0.0),
        }
    )


def interval_of(results: Sequence[float], coverage: float = 0.9) -> Interval:
    """Of the results of runs that might come; NaN (nothing was answered) is left out, all NaN gives NaN."""
    tail = (1 - coverage) / 2
    low, middle, high = np.nanquantile(results, [tail, 0.5, 1 - tail])
    return Interval(float(low), float(middle), float(high), coverage)


def generators(seed: int, draws: int) -> list[np.random.Generator]:
    """One for each run that might come."""
    return [np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(draws)]


def interval(
    profile: ServiceProfile,
    result_of: Callable[[ServiceProfile, int], float],
    draws: int,
    seed: int,
    coverage: float = 0.9,
) -> Interval:
    """Interval of result_of(profile, seed) over `draws` runs that might come."""
    results = [result_of(another_run(profile, rng), int(rng.integers(2**31))) for rng in generators(seed, draws)]
    return interval_of(results, coverage)
