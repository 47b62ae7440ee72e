"""What a rule remembers of the arrivals, what it forecasts from them, and how far its forecasts were off so far.

All rates are requests a second, one each step, the newest last.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.forecast import SMOOTHED, TREND, Season, season_of, slope_of, smooth
from testbed.autoscaling.observation import Window

FloatArray = npt.NDArray[np.float64]
Kind = Literal["now", "line", "season"]
REMEMBERED = 300  # steps of arrivals
ENOUGH = 10  # ratios, before a quantile of them is believed
SURE = 2.0  # standard deviations of a Poisson number, by which a step's arrivals are above the mean before


class Arrivals(NamedTuple):
    """rates: arrivals of each step, REMEMBERED at most. waiting: requests in the queues at the end of the last one.

    pending: forecasts of a peak whose time is not over. ratios: of each earlier one, the peak that came / the forecast.
    """

    rates: tuple[float, ...] = ()
    waiting: float = 0.0
    pending: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()


class Outlook(NamedTuple):
    """level: arrivals now. path: of each coming step. season: what the path repeats; None: it is a line, or as now."""

    level: float
    path: FloatArray
    season: Season | None


def steps_ahead(provisioning_delay_s: float, metrics_delay_s: float, period_s: float) -> int:
    """From the newest measured step to the first in which a pod serves that is asked for at the next decision."""
    return math.ceil((provisioning_delay_s + metrics_delay_s) / period_s - 1e-9) + 1


def with_window(past: Arrivals, window: Window) -> Arrivals | None:
    """The past with this step; None: what was measured is no number."""
    waiting = float(window.waiting.sum())
    if not (math.isfinite(window.rate_rps) and math.isfinite(waiting)):
        return None
    return past._replace(rates=(*past.rates[1 - REMEMBERED :], window.arrivals_rps(past.waiting)), waiting=waiting)


def outlook_of(rates: FloatArray, kind: Kind, ahead: int, steps: int, step_s: float, min_strength: float) -> Outlook:
    """Arrivals of the coming `steps`; of SMOOTHED rates or more. ahead: steps that a line is followed for.

    The level is a mean of SMOOTHED steps. More than that has come for sure where the newest step alone says so.
    """
    smoothed = smooth(rates)
    newest = float(rates[-1])
    level = max(float(smoothed[-1]), newest - SURE * math.sqrt(newest / step_s))
    season = season_of(smoothed, ahead + SMOOTHED) if kind == "season" else None
    if season is not None and season.strength >= min_strength:
        return Outlook(level, np.resize(smoothed[-season.steps :], steps), season)
    if kind == "line":
        return Outlook(level, _on_a_line(rates[-TREND:], np.minimum(np.arange(1, steps + 1), ahead)), None)
    return Outlook(level, np.full(steps, level), None)


def _on_a_line(newest: FloatArray, ahead: npt.NDArray[Any]) -> FloatArray:
    """trend_of, for many, with a slope that is nearer to 0 by its standard error: of random arrivals it is random."""
    n, slope = len(newest), slope_of(newest)
    x = np.arange(n) - (n - 1) / 2
    off = newest - newest.mean() - slope * x
    error = math.sqrt(float(off @ off) / max(1, n - 2) / float(x @ x))
    sure = math.copysign(max(0.0, abs(slope) - error), slope)
    return np.asarray(np.maximum(0.0, newest.mean() + sure * ((n - 1) / 2 + ahead)))


def with_forecast(past: Arrivals, peak: float, ahead: int, kept: int) -> Arrivals:
    """The past with a forecast of the peak of the coming `ahead` steps; the one whose time is over becomes a ratio, of
    which `kept` are kept."""
    pending, ratios = (*past.pending, peak), past.ratios
    if len(pending) > ahead:
        if pending[0] > 0:
            came = float(smooth(np.array(past.rates[-ahead - SMOOTHED + 1 :])).max())
            ratios = (*ratios, came / pending[0])[-kept:]
        pending = pending[1:]
    return past._replace(pending=pending, ratios=ratios)


def correction(ratios: tuple[float, ...], quantile: float) -> float | None:
    """Factor on a forecast, of n earlier ratios: their ceil((n + 1) q)-th smallest, the largest if there are fewer
    (split conformal prediction); None: too few are known."""
    n = len(ratios)
    return None if n < ENOUGH else sorted(ratios)[min(math.ceil((n + 1) * quantile - 1e-9), n) - 1]
