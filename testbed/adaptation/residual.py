"""Predicted against observed: what a window of live metrics says of the time that a batch takes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from testbed.autoscaling.observation import Window
from testbed.calibration.profile import ServiceProfile


class Residual(NamedTuple):
    """One window. value: log(observed / predicted) of the mean time of a batch; batches: that it rests on."""

    start_s: float
    end_s: float
    value: float
    batches: float


def residual_of(window: Window, profile: ServiceProfile, least_batches: int) -> Residual | None:
    """None: the window does not tell how many batches ran and how long, or too few of them ran.

    Predicted is the profile's mean at the window's mean batch size. For batch times on a line in the size (most
    accelerators) that is the mean over any mix of sizes; for others it is off by the curvature, the same way before and
    after a change as long as the mix is the same. What the machine's load adds (contention) is not predicted. Both are
    what the level that live data set is for (drift.py).

    Example: 40 batches of together 100 requests in 0.4 s: 10 ms at a mean size of 2.5; the profile says 8 ms between
    sizes 2 and 3: log(10 / 8) = 0.22.
    """
    if window.batches is None or window.batch_s is None:
        return None
    batches, busy_s, requests = (float(values.sum()) for values in (window.batches, window.batch_s, window.requests))
    if not all(map(math.isfinite, (batches, busy_s, requests))) or batches < least_batches or busy_s <= 0:
        return None
    times = profile.service_time
    predicted_s = float(np.interp(max(1.0, requests / batches), times.batch_size, times.mean_s))
    return Residual(window.start_s, window.end_s, math.log(busy_s / batches / predicted_s), batches)


def arrivals_of(window: Window, waiting_before: float) -> float:
    """Requests/s that arrived: what was answered, and what the queues grew by. NaN: not known."""
    return max(0.0, window.rate_rps + (float(window.waiting.sum()) - waiting_before) / window.seconds)


def time_in_server_s(window: Window) -> float:
    """Mean seconds from a request's arrival at its server to its answer, by Little's law. NaN: nothing was answered."""
    rate_rps = window.rate_rps
    return float(window.in_flight.sum()) / rate_rps if rate_rps > 0 else math.nan
