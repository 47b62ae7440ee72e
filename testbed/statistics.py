"""Intervals from few values, and the figures that compare two runs. Every report, plan and judgement takes them here.

What is drawn again, or counted as one value, is a *unit*: something that would be another one if everything were done
anew. Seeds of one traffic are units of a statement about that traffic; of a statement about traffic in general the
kinds of traffic are. Units that differ little are no more of them: ten seeds of ten kinds are ten units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CONFIDENCE = 0.9
RESAMPLES = 4000
FEWEST_UNITS = 3  # of fewer there is no interval: one of two would be six times as wide as they are apart


class Interval(NamedTuple):
    """From low to high."""

    low: float
    high: float


def mean_interval(values: Sequence[float] | FloatArray) -> Interval | None:
    """Of the mean of the population that the values are from (Student's t); None: fewer than FEWEST_UNITS."""
    known = np.asarray(values, dtype=float)
    if len(known) < FEWEST_UNITS:
        return None
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return Interval(float(known.mean() - reach), float(known.mean() + reach))


def confidence_above_zero(values: Sequence[float] | FloatArray) -> float:
    """That the mean of the population is above 0 (one-sided Student's t). At least two values."""
    known = np.asarray(values, dtype=float)
    mean, error = known.mean(), known.std(ddof=1) / np.sqrt(len(known))
    return float(stats.t.cdf(mean / error, len(known) - 1)) if error > 0 else float(mean > 0)


def bootstrap_interval(units: int, statistic: Callable[[IntArray], FloatArray]) -> Interval | None:
    """Of a statistic of the units' numbers: int64[..., units] -> float64[...]; None: fewer than FEWEST_UNITS.

    Units are drawn again as a whole, with everything in them, both sides of a pair. The quantiles are Hesterberg's
    expanded ones, as plain ones are too narrow for few units ("What Teachers Should Know about the Bootstrap", 2015).
    """
    if units < FEWEST_UNITS:
        return None
    drawn = np.random.default_rng(0).integers(units, size=(RESAMPLES, units))
    tail = expanded_tail(units)
    low, high = np.quantile(statistic(drawn), (tail, 1 - tail))
    return Interval(float(low), float(high))


def expanded_tail(units: int) -> float:
    """Share of the resamples beyond each end of an interval, of so many units (two or more)."""
    wide = np.sqrt(units / (units - 1)) * stats.t.ppf((1 - CONFIDENCE) / 2, units - 1)
    return float(stats.norm.cdf(wide))


def next_interval(values: Sequence[float] | FloatArray, coverage: float = CONFIDENCE) -> Interval | None:
    """That holds the next value with that probability, as much left out below as above; None: too few values.

    The k-th smallest of n values exceeds the next one with probability k / (n + 1): 19 values are needed for 90 %.
    Infinite values (nothing was answered) are the largest.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    tail = (1 - coverage) / 2
    if (len(ordered) + 1) * tail < 1 - 1e-9:
        return None
    return Interval(*(_between(ordered, probability * (len(ordered) + 1) - 1) for probability in (tail, 1 - tail)))


def fewest_for_next(coverage: float = CONFIDENCE) -> int:
    """Fewest values that have a `next_interval`."""
    return int(np.ceil(2 / (1 - coverage) - 1e-9)) - 1


def _between(ordered: FloatArray, place: float) -> float:
    below = int(np.clip(np.floor(place), 0, len(ordered) - 1))
    above = min(below + 1, len(ordered) - 1)
    share = np.clip(place - below, 0.0, 1.0)
    if share == 0 or ordered[below] == ordered[above]:
        return float(ordered[below])
    return float((1 - share) * ordered[below] + share * ordered[above])


def relative_error_pct(simulated: float | None, real: float | None) -> float | None:
    """100 * (simulated - real) / real; None: one is not known, or the real one is 0."""
    return None if simulated is None or not real else 100 * (simulated - real) / real


def spread_pct(values: Sequence[float | None]) -> float | None:
    """100 * (largest - smallest) / mean of repeated runs, of those that are known; None: fewer than two, or all 0."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or not np.mean(known):
        return None
    return float(100 * (max(known) - min(known)) / np.mean(known))
