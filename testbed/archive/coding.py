"""Numbers that compress: differences to the row before in the same group, in whole units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
SCALES = (1, 1_000, 1_000_000, 1_000_000_000)


def in_units(time_ns: IntArray, unit_ns: int) -> IntArray:
    """Whole units of `unit_ns`, rounded to the nearest: at most half a unit is lost."""
    return np.floor_divide(time_ns + unit_ns // 2, unit_ns)


def steps(values: IntArray, groups: Sequence[npt.NDArray[np.generic]]) -> IntArray:
    """int64[n]: each value less the one before it in its group; the first of a group as it is."""
    series = pd.Series(values, dtype="int64")
    before = series.groupby(list(groups), sort=False, dropna=False).shift(fill_value=0)
    return (series - before).to_numpy(dtype=np.int64)


def from_steps(differences: IntArray, groups: Sequence[npt.NDArray[np.generic]]) -> IntArray:
    """The values of which `steps` made these differences."""
    series = pd.Series(differences, dtype="int64")
    return series.groupby(list(groups), sort=False, dropna=False).cumsum().to_numpy(dtype=np.int64)


def scale_of(values: FloatArray) -> int | None:
    """The smallest of SCALES with which every value is a whole number but for what floating point adds to a sum (less
    than a thousandth of the last place); None: none of them."""
    for scale in SCALES:
        scaled = values * scale
        if (np.abs(scaled) < 2**53).all() and (np.abs(scaled - np.rint(scaled)) < 1e-3).all():
            return scale
    return None
