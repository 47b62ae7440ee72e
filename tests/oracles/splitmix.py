"""A simulated cluster's random numbers once more: splitmix64 of seed, request and draw (Steele et al. 2014), as
docs/explanation/simulator.md says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def of_run(seed: int) -> int:
    """The hash's seed of a run with that seed."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) >> 1


def uniform(seed: int, number: npt.ArrayLike, draw: int) -> npt.NDArray[np.float64]:
    """float64[n] in [0, 1)."""
    mask = (1 << 64) - 1
    out = []
    for one in np.atleast_1d(number).tolist():
        x = (seed + one * 0x9E3779B97F4A7C15 + draw * 0x94D049BB133111EB) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        x ^= x >> 31
        out.append((x >> 11) / 2**53)
    return np.array(out)
