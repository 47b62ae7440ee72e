"""What one instance serves at most, from its service times, and how well that is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from testbed.calibration.profile import Capacity, ServiceTime
from testbed.calibration.service_curve import rising

DRAWS = 4000
SEED = 20250707  # of the draws; any number does


def drawn_means(times: ServiceTime, rng: np.random.Generator, draws: int) -> npt.NDArray[np.float64]:
    """float64[draws, B] seconds: service times that the measurements allow; the means themselves if it is not known."""
    mean_s = np.array(times.mean_s)
    if times.uncertainty is None:
        return np.tile(mean_s, (draws, 1))
    components_s = np.array(times.uncertainty.components_s).reshape(-1, len(mean_s))
    drawn = mean_s + rng.standard_normal((draws, len(components_s))) @ components_s
    drawn += rng.standard_normal(drawn.shape) * np.array(times.uncertainty.own_std_s)
    least_s = 0.01 * mean_s[0]  # a draw far in the tail is no time below 0
    return np.stack([rising(times_s) for times_s in np.maximum(drawn, least_s)])


def capacity_of(times: ServiceTime) -> Capacity:
    """Of one instance, over all batch sizes that the service time has."""
    sizes = np.array(times.batch_size)
    rates = sizes / np.array(times.mean_s)
    best = int(np.argmax(rates))
    low = high = None
    if times.uncertainty is not None:
        drawn = (sizes / drawn_means(times, np.random.default_rng(SEED), DRAWS)).max(axis=1)
        low, high = np.quantile(drawn, [0.05, 0.95]).tolist()
    return Capacity(rps=float(rates[best]), batch_size=best + 1, low_rps=low, high_rps=high)
