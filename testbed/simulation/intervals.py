"""What a prediction is worth: the same traffic under many draws of what is not known.

Each draw is another run of the service (calibration.another_run), with a seed for whatever else is random; the results'
quantiles are an interval for the next real run, not for the mean of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from testbed.calibration.another_run import another_run
from testbed.calibration.profile import ServiceProfile
from testbed.statistics import next_interval


class PredictionInterval(NamedTuple):
    """low and high hold the next run with probability `coverage`; middle is the median of the draws."""

    low: float
    middle: float
    high: float
    coverage: float


def interval_of(results: Sequence[float], coverage: float = 0.9) -> PredictionInterval:
    """Of the results of runs that might come; NaN (nothing was answered) is left out, all NaN gives NaN.

    Of too few results for that coverage: their lowest and highest, with the coverage that these have.
    """
    known = np.array([result for result in results if not np.isnan(result)])
    if not len(known):
        return PredictionInterval(np.nan, np.nan, np.nan, coverage)
    middle = float(np.quantile(known, 0.5, method="higher"))  # it may be infinite: nothing was answered
    if (bounds := next_interval(known, coverage)) is not None:
        return PredictionInterval(bounds.low, middle, bounds.high, coverage)
    return PredictionInterval(float(known.min()), middle, float(known.max()), (len(known) - 1) / (len(known) + 1))


def generators(seed: int, draws: int) -> list[np.random.Generator]:
    """One for each run that might come."""
    return [np.random.default_rng(sequence) for sequence in np.random.SeedSequence(seed).spawn(draws)]


def interval(
    profile: ServiceProfile, result_of: Callable[[ServiceProfile, int], float], draws: int, seed: int
) -> PredictionInterval:
    """Interval of result_of(profile, seed) over `draws` runs that might come."""
    return interval_of(
        [result_of(another_run(profile, rng), int(rng.integers(2**31))) for rng in generators(seed, draws)]
    )
