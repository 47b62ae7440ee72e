"""Random inputs of a simulated run, drawn from a profile. Every draw comes from a Generator handed in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from testbed.calibration.profile import OverheadLevel, SlowPhase

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


class OverheadDraws(NamedTuple):
    """Per request, seconds: before the queue, after the batch, and the turnaround after a batch that it leads."""

    inflow_s: FloatArray
    outflow_s: FloatArray
    turnaround_s: FloatArray


def overhead_draws(
    levels: tuple[OverheadLevel, ...], turnaround_s: float, rate_rps: FloatArray, rng: np.random.Generator
) -> OverheadDraws:
    """Drawn for each request from the levels round its local rate, quantiles interpolated between the two.

    turnaround_s stands in where a level has no turnarounds of its own.
    """
    rates = np.array([level.rate_rps for level in levels])
    place = np.interp(rate_rps, rates, np.arange(len(levels), dtype=float))
    low = np.minimum(place.astype(int), len(levels) - 1)
    weight = place - low
    constant = (turnaround_s, turnaround_s)
    drawn = []
    for tables in (
        [level.inflow_quantiles_s for level in levels],
        [level.outflow_quantiles_s for level in levels],
        [level.turnaround_quantiles_s or constant for level in levels],
    ):
        uniform = rng.random(len(rate_rps))
        values = np.zeros(len(rate_rps))
        for k, table in enumerate(tables):
            share = np.where(low == k, 1 - weight, np.where(low == k - 1, weight, 0.0))
            used = share > 0
            values[used] += share[used] * from_quantiles(table, uniform[used])
        drawn.append(values)
    return OverheadDraws(*drawn)
