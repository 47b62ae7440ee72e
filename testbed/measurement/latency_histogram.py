"""The bins of a latency histogram, and quantiles from it. KISim fills it, logs keep it, reports read it.

Bin k holds latencies of the octave k // BINS_AN_OCTAVE: 2^(octave - 1) to 2^octave nanoseconds, in bins of equal width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS_AN_OCTAVE = 128  # at most .8 % wide, a bin's middle at most .4 % off
BINS = 65 * BINS_AN_OCTAVE


def quantile_of(histogram: npt.NDArray[np.int64], q: float) -> float:
    """Seconds: the q-quantile of a histogram int64[BINS], within .4 % (the middle of its bin); NaN if it is empty."""
    total = int(histogram.sum())
    if total == 0:
        return float("nan")
    place = int(np.searchsorted(np.cumsum(histogram), q * total, side="left"))
    octave, bin_number = divmod(place, BINS_AN_OCTAVE)
    return float(2.0 ** (octave - 1) * (1 + (bin_number + 0.5) / BINS_AN_OCTAVE)) / 1_000_000_000
