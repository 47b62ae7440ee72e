"""What replicas that share a device do to each other: read off runs with one and with several of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from testbed.calibration.evidence import Evidence, FloatArray
from testbed.calibration.profile import ServiceProfile

NOTICED = 1.1  # a factor below it is left to the fit over all runs
ENOUGH_BATCHES = 30  # that started while so many replicas were busy


def fit_interference(runs: Sequence[Evidence], mean_s: FloatArray) -> tuple[float, ...]:
    """Factor on a batch's time while 1, 2, ... replicas of its device are busy when it starts; never falling.

    All replicas of a run are taken to share one device. Empty if no run has two that were busy together often enough.
    """
    busy, factor = [], []
    for run in runs:
        if run.batches is None:
            continue
        batches = run.batches.batches()
        batches = batches[batches["batch_size"] <= len(mean_s)]
        start, end = batches["start_ns"].to_numpy(), batches["end_ns"].to_numpy()
        size = batches["batch_size"].to_numpy()
        busy.append(1 + _busy_others(batches["replica"].to_numpy(), start, end))
        factor.append((end - start) / 1e9 / mean_s[size - 1])
    if not busy:
        return ()
    counts, factors = np.concatenate(busy), np.concatenate(factor)
    known = 0
    while (counts == known + 1).sum() >= ENOUGH_BATCHES:
        known += 1
    if known < 2:
        return ()
    means = [float(factors[counts == k].mean()) for k in range(1, known + 1)]
    weights = [float((counts == k).sum()) for k in range(1, known + 1)]
    rising = isotonic_regression(means, weights=weights).x
    return tuple((rising / rising[0]).tolist())


def interferes(interference: Sequence[float]) -> bool:
    """Whether replicas of one device slow each other by more than what else varies."""
    return bool(interference) and max(interference) > NOTICED


def shares_a_device(profile: ServiceProfile, replicas: int) -> bool:
    """Whether so many replicas, on the device that the profile was made on, have to be simulated as sharing it."""
    return replicas > 1 and interferes(profile.interference)


def _busy_others(
    replica: npt.NDArray[np.int64], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """int64[n]: replicas other than its own that had a batch running when each batch started."""
    busy = np.zeros(len(start), dtype=np.int64)
    for other in np.unique(replica):
        theirs = replica == other
        order = np.argsort(start[theirs], kind="stable")
        starts, ends = start[theirs][order], np.maximum.accumulate(end[theirs][order])
        last = np.searchsorted(starts, start, side="right") - 1
        running = (last >= 0) & (ends[np.maximum(last, 0)] > start)
        busy += running & ~theirs
    return busy
