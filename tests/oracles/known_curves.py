"""Service times by batch size that are known, and what runs of them count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from testbed.calibration.profile import MeanUncertainty, ServiceTime
from testbed.calibration.service_curve import ServiceCurve, capacity_of, fit_curve

FloatArray = npt.NDArray[np.float64]
SIZES = np.arange(1, 9)
CV = 0.05
KNOWN = {
    "straight": 24.0 + 8.0 * SIZES,
    "step at 4": 20.0 + 4.0 * SIZES + 25.0 * (SIZES > 4),
    "saturating": 20.0 + 60.0 * (1 - np.exp(-SIZES / 3.0)),
}


def study(
    true_s: FloatArray, rng: np.random.Generator, *, batches: int = 60, runs: int = 1, run_std: float = 0.0
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """What `runs` runs count, so many batches of each size in all, and the seconds that those took."""
    count = np.full((runs, len(true_s)), batches // runs)
    level = 1 + run_std * rng.standard_normal((runs, 1))
    mean = true_s * level * (1 + CV * rng.standard_normal(count.shape) / np.sqrt(count))
    return count, mean * count


def service_time(curve: ServiceCurve, count: npt.NDArray[np.int64]) -> ServiceTime:
    return ServiceTime(
        batch_size=tuple(range(1, len(curve.mean_s) + 1)),
        mean_s=tuple(curve.mean_s),
        spread_s=(None,) * len(curve.mean_s),
        batches=tuple(count.sum(axis=0).tolist()),
        noise_quantiles=(1.0, 1.0),
        uncertainty=MeanUncertainty(
            components_s=tuple(map(tuple, curve.components_s)), own_std_s=tuple(curve.own_std_s)
        ),
    )


def covered_by_kind(rng: np.random.Generator, studies: int) -> dict[tuple[str, int], float]:
    """Share of so many studies whose 90 % interval holds the true capacity, by kind of service and number of runs."""
    found = {}
    for name, true_s in KNOWN.items():
        capacity = (SIZES / true_s).max()
        for runs, run_std in ((1, 0.0), (6, 0.01)):
            held = 0
            for _ in range(studies):
                count, seconds = study(true_s, rng, runs=runs, run_std=run_std)
                known = capacity_of(service_time(fit_curve(count, seconds, CV), count))
                held += (known.low_rps or np.nan) <= capacity <= (known.high_rps or np.nan)
            found[name, runs] = held / studies
    return found
