"""What comes next, from the arrivals of the past: a line through the newest, and the season that repeats, if one does.

All rates are requests a second, one each step, the newest last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
SMOOTHED = 3  # steps: a mean of so many before a season is looked for, as arrivals are random
TREND = 8  # steps that the line goes through
SHARED = 0.5  # of a season that must have been seen twice, before it is believed at all
AS_GOOD = 0.05  # a shorter season is taken for one that is better by less: twice a season is one too


class Season(NamedTuple):
    """steps: its length. strength: how like the last season the newest one is; 1: the same, 0 or less: no more than
    any two moments. cycles: how many of it the past holds."""

    steps: int
    strength: float
    cycles: float


def trend_of(rates: FloatArray, ahead: float) -> float:
    """The rate in `ahead` steps on a line (least squares) through the last TREND steps; not below 0."""
    newest = rates[-TREND:]
    n = len(newest)
    return max(0.0, float(newest.mean()) + slope_of(newest) * ((n - 1) / 2 + ahead))


def slope_of(values: FloatArray) -> float:
    """Least squares: the increase from one value to the next; 0 of a single value."""
    x = np.arange(len(values)) - (len(values) - 1) / 2
    return float(x @ values) / float(x @ x) if len(values) > 1 else 0.0


def line_at(points: Sequence[tuple[float, float]], time: float) -> float:
    """The value at a time on a line (least squares) through (time, value), as PromQL's predict_linear; not below 0."""
    times, values = np.array(points).T
    x = times - times.mean()
    return max(0.0, float(values.mean() + (x @ values) / (x @ x) * (time - times.mean())))


def smooth(rates: FloatArray) -> FloatArray:
    """Running means of SMOOTHED steps; shorter by SMOOTHED - 1."""
    total = np.concatenate([[0.0], np.cumsum(rates)])
    return np.asarray((total[SMOOTHED:] - total[:-SMOOTHED]) / SMOOTHED)


def season_of(smoothed: FloatArray, shortest: int) -> Season | None:
    """The season that explains the past best; None: too little is known, or nothing ever changed.

    Of each length: the mean square of the change from one season to the next, of what it would be were they unrelated.
    """
    n = len(smoothed)
    longest = int(n / (1 + SHARED))
    if longest < shortest:
        return None
    lengths = np.arange(shortest, longest + 1)
    x = smoothed - smoothed.mean()
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    products = np.fft.irfft(spectrum * np.conj(spectrum), size)[lengths]
    sums = np.concatenate([[0.0], np.cumsum(x)])
    squares = np.concatenate([[0.0], np.cumsum(x * x)])
    pairs = n - lengths
    newer, older = squares[n] - squares[lengths], squares[pairs]
    change = (newer + older - 2 * products) / pairs
    middle = ((sums[n] - sums[lengths]) + sums[pairs]) / (2 * pairs)
    unrelated = 2 * ((newer + older) / (2 * pairs) - middle**2)
    least = 1e-9 * float(smoothed.mean()) ** 2
    if float(squares[n]) / n <= least:
        return None
    strength = 1 - change / np.maximum(unrelated, least)
    place = int(np.argmax(strength >= strength.max() - AS_GOOD))
    while place + 1 < len(strength) and strength[place + 1] > strength[place]:
        place += 1
    return Season(int(lengths[place]), float(strength[place]), n / int(lengths[place]))


def season_peak(smoothed: FloatArray, season: Season, ahead: int) -> float:
    """The largest rate of the coming `ahead` steps, if the season repeats."""
    start = len(smoothed) - season.steps
    return float(smoothed[start : start + max(1, ahead)].max())
