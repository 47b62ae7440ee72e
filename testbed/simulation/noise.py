"""Random inputs of a simulated run, drawn from a profile. Every draw comes from a Generator handed in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from testbed.calibration.profile import Overhead, SlowPhase

FloatArray = npt.NDArray[np.float64]


def from_quantiles(table: tuple[float, ...], uniform: FloatArray) -> FloatArray:
    """Inverse transform: the quantile function at evenly spaced probabilities, linear between them."""
    return np.interp(uniform, np.linspace(0.0, 1.0, len(table)), table)


def slow_factor(phase: SlowPhase, duration_s: float, rng: np.random.Generator) -> tuple[FloatArray, float]:
    """The slow phase's factor (mean 1) on a grid over the run, and the grid's step in seconds.

    Exact discretisation of the Ornstein-Uhlenbeck process at a twentieth of its timescale.
    """
    if phase.sigma == 0.0:
        return np.ones(1), 1.0
    step_s = phase.timescale_s / 20
    steps = int(duration_s / step_s) + 2
    decay = float(np.exp(-step_s / phase.timescale_s))
    shocks = rng.standard_normal(steps) * phase.sigma * np.sqrt(1 - decay**2)
    shocks[0] = rng.standard_normal() * phase.sigma  # stationary from the first step on
    x = lfilter([1.0], [1.0, -decay], shocks)
    return np.exp(x - phase.sigma**2 / 2), step_s


def overhead_draws(overhead: Overhead, rate_rps: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """(inflow_s, outflow_s) of each request, its quantiles interpolated between the levels round its local rate."""
    levels = overhead.levels
    rates = np.array([level.rate_rps for level in levels])
    place = np.interp(rate_rps, rates, np.arange(len(levels), dtype=float))
    low = np.minimum(place.astype(int), len(levels) - 1)
    weight = place - low
    out = []
    for column in ("inflow_quantiles_s", "outflow_quantiles_s"):
        uniform = rng.random(len(rate_rps))
        drawn = np.zeros(len(rate_rps))
        for k, level in enumerate(levels):
            share = np.where(low == k, 1 - weight, np.where(low == k - 1, weight, 0.0))
            used = share > 0
            drawn[used] += share[used] * from_quantiles(getattr(level, column), uniform[used])
        out.append(drawn)
    return out[0], out[1]
