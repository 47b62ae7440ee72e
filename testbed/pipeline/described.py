"""What a recorded trace has: rates, bursts, gaps, a season; in numbers, for `kis traffic`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from loadgen.traces import Recorded
from testbed.autoscaling.forecast import smooth
from testbed.config import TraceConfig

WINDOWS_S = (1.0, 10.0, 60.0)
FEWEST_WINDOWS = 10  # of a length: fewer say nothing of bursts
MOST_WINDOWS = 10_000_000  # of a length: four months of seconds
SERIES = 500  # intervals of the picture, at most
PER_INTERVAL = 5  # requests in one, on average, at least
STEPS = 1000  # of a season's search, at most
FEWEST_STEPS = 40
PER_STEP = 4  # requests in one, on average, at least
STRENGTH = 0.35  # autocorrelation of a season that is told
AS_GOOD = 0.8  # of the best: a shorter season that is nearly as good is it, as two of it are one, too
CYCLES = 2  # of it, that the trace must show


def described(recorded: Recorded, config: TraceConfig) -> dict[str, Any]:
    """traffic.json. A window shorter than the clock's steps, or than a tenth of the trace, has no figures."""
    requests, duration_s = len(recorded.times_ns), recorded.duration_s
    resolution_s = 0.0 if recorded.spread_s is not None else recorded.resolution_s or 0.0
    windows = [
        told
        for window_s in WINDOWS_S
        if window_s >= resolution_s
        and FEWEST_WINDOWS * window_s <= duration_s <= MOST_WINDOWS * window_s
        and (told := _window(recorded, window_s)) is not None
    ]
    interval_s = duration_s / max(1, min(SERIES, requests // PER_INTERVAL))
    return {
        "config": config.model_dump(mode="json"),
        "format": recorded.format,
        "why": recorded.why,
        "notes": list(recorded.notes),
        "requests": requests,
        "duration_s": duration_s,
        "rate_rps": requests / duration_s,
        "windows": windows,
        "season": _season(recorded),
        "longest_gap_s": recorded.gaps.longest_s,
        "median_gap_s": recorded.gaps.median_s,
        "same": recorded.gaps.same,
        "resolution_s": recorded.resolution_s,
        "spread_s": recorded.spread_s,
        "series": {"interval_s": interval_s, "counts": counts_in(recorded, interval_s).tolist()},
    }


def counts_in(recorded: Recorded, window_s: float) -> npt.NDArray[np.int64]:
    """Requests in each whole window of that length."""
    windows = int(recorded.duration_s / window_s + 1e-9)
    borders_ns = np.rint(np.arange(windows + 1) * (window_s * 1e9)).astype(np.int64)
    return np.asarray(np.diff(np.searchsorted(recorded.times_ns, borders_ns)), dtype=np.int64)


def _window(recorded: Recorded, window_s: float) -> dict[str, float] | None:
    """The busiest window, and the index of dispersion of counts: variance over mean, 1 of a Poisson process. None: all
    requests are in the last window, which is not whole."""
    counts = counts_in(recorded, window_s)
    mean = float(counts.mean())
    if not mean:
        return None
    return {
        "window_s": window_s,
        "peak_rps": float(counts.max()) / window_s,
        "peak_to_mean": float(counts.max()) / mean,
        "dispersion": float(counts.var()) / mean,
    }


def _season(recorded: Recorded) -> dict[str, float] | None:
    """What repeats, if anything does: the first high peak of the counts' autocorrelation, once that was below zero.

    A line is taken off first, so that growth is no season; what only changes slowly never falls below zero and rises.
    """
    steps = min(STEPS, len(recorded.times_ns) // PER_STEP)
    if steps < FEWEST_STEPS:
        return None
    step_s = recorded.duration_s / steps
    rates = smooth(counts_in(recorded, step_s) / step_s)
    places = np.arange(len(rates))
    rates = rates - np.polyval(np.polyfit(places, rates, 1), places)
    lags = np.arange(len(rates) // CYCLES)
    spectrum = np.abs(np.fft.rfft(rates, 2 * len(rates))) ** 2
    alike = np.fft.irfft(spectrum)[: len(lags)] / (len(rates) - lags)
    if alike[0] <= 0 or not (alike < 0).any():
        return None
    alike[: np.argmax(alike < 0)] = 0.0
    strength = alike / (rates.var() or 1.0)
    if strength.max() < STRENGTH:
        return None
    place = int(np.argmax(strength >= AS_GOOD * strength.max()))
    place += int(np.argmax(strength[place : place + place // 4 + 1]))
    return {"period_s": place * step_s, "strength": float(strength[place]), "cycles": len(rates) / place}
