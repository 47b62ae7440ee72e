"""Has the time of a batch changed? A two-sided CUSUM over the residuals of windows. Pure.

Without drift a window's residual is  level + phase + noise:

    level   how this run differs from the profile; the first windows set it, within what runs differ by (run effects)
    phase   the machine's slow phase, averaged over the window: neighbouring windows share it
    noise   of single batches, smaller by the root of their number

    S+ = max(0, S+ + x - k),  S- = max(0, S- - x - k),  x = residual - level;  alarm when one of them passes h

k, the reference value, is half of the least change that is to be found (as a logarithm): what is smaller never adds up.
h follows from how seldom a false alarm may come. With d = k / s, s the long-run deviation of the windows (phases
included: a sum of correlated windows spreads as one of independent windows of that deviation), the mean time to a false
alarm is, after Siegmund (1985, Sequential Analysis, 2.52) and for both sides together,

    ARL = (exp(2 d b) - 2 d b - 1) / (4 d^2)  windows,  b = h / s + 1.166,

and the chance of one within n windows about n / ARL. k counts for h only as far as it is beyond twice the error of the
level. A change by D (a logarithm, larger than k) is found after about h / (D - k) windows. No window adds more than a
bit less than h / 2, so that one, or two, with a stall of the machine in them are no alarm: three are the fewest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from testbed.adaptation.settings import DriftSettings
from testbed.autoscaling.observation import Window
from testbed.calibration.profile import ServiceProfile, SlowPhase

OVERSHOOT = 1.166  # of a random walk of unit deviation over two barriers: Siegmund's correction
MOST_OF_THRESHOLD = 0.49  # that one window adds
LONGEST_LEVEL = 720  # windows; the level is then taken as good as it is
MEDIAN_ERROR = 1.2533  # deviation of the median of normal values over that of their mean
RUNS_DIFFER = 0.995  # quantile of Student's t: how far a run's level may be from the profile's


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
    what the level that live data set is for (above).

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


def time_in_server_s(window: Window) -> float:
    """Mean seconds from a request's arrival at its server to its answer, by Little's law. NaN: nothing was answered."""
    rate_rps = window.rate_rps
    return float(window.in_flight.sum()) / rate_rps if rate_rps > 0 else math.nan


class Spread(NamedTuple):
    """Of windows without drift. noise: variance of one window by its batches. phase: the machine's slow phase. reach:
    how far a run's level may be from the profile's (a logarithm); infinite: too few runs were measured to tell."""

    noise: float
    phase: SlowPhase
    window_s: float
    reach: float

    @property
    def window_deviation(self) -> float:
        """Of one window's residual."""
        return math.sqrt(self.noise + _variance_of_mean(self.phase, self.window_s))

    @property
    def long_run_deviation(self) -> float:
        """Per window, of a sum of very many: correlation counts in full."""
        return math.sqrt(self.noise + self.phase.sigma**2 * 2 * self.phase.timescale_s / self.window_s)

    def level_error(self, windows: int) -> float:
        """Deviation of the mean of so many windows in a row."""
        return math.sqrt(self.noise / windows + _variance_of_mean(self.phase, windows * self.window_s))


def _variance_of_mean(phase: SlowPhase, seconds: float) -> float:
    """Of an Ornstein-Uhlenbeck process averaged over that time."""
    ratio = phase.timescale_s / seconds
    return phase.sigma**2 * 2 * ratio * (1 - ratio * (1 - math.exp(-1 / ratio)))


def expected_spread(profile: ServiceProfile, settings: DriftSettings) -> Spread:
    """What the profile says of windows with the least number of batches: fuller ones spread less."""
    quantiles = np.array(profile.service_time.noise_quantiles)
    steps = len(quantiles) - 1
    mean, square = (float(np.trapezoid(curve, dx=1 / steps)) for curve in (quantiles, np.square(quantiles)))
    noise = max(0.0, square - mean**2) / settings.least_batches
    effect = profile.run_effects.service
    reach = math.inf
    if effect is not None:
        likely = float(student.ppf(RUNS_DIFFER, effect.degrees_of_freedom))
        reach = likely * effect.std * float(np.mean(profile.run_effects.inflation))
    return Spread(noise, profile.slow_phase, settings.window_s, reach)


class Detector(NamedTuple):
    """What the CUSUM remembers: a value. before: residuals that are to set the level; level: NaN until they have.

    high and low are S+ and S-; high_since_s and low_since_s: the end of the last window at which each was 0.
    """

    settings: DriftSettings
    spread: Spread
    before: tuple[float, ...] = ()
    level: float = math.nan
    threshold: float = math.nan
    high: float = 0.0
    low: float = 0.0
    high_since_s: float = -math.inf
    low_since_s: float = -math.inf

    @property
    def reference(self) -> float:
        """k."""
        return reference_of(self.settings)

    @property
    def alarm(self) -> bool:
        """Has the time of a batch changed?"""
        return max(self.high, self.low) > self.threshold

    @property
    def change_s(self) -> float:
        """Estimate of when it changed: what the larger sum grew from."""
        return self.high_since_s if self.high >= self.low else self.low_since_s


def reference_of(settings: DriftSettings) -> float:
    """k: half of the least change, as a logarithm."""
    return math.log1p(settings.least_change) / 2


def new_detector(profile: ServiceProfile, settings: DriftSettings) -> Detector:
    """One that has seen nothing."""
    return Detector(settings, expected_spread(profile, settings))


def watched(detector: Detector, residual: Residual | None) -> Detector:
    """After one more window; None (a window that tells nothing) changes nothing."""
    if residual is None or not math.isfinite(residual.value) or detector.alarm:
        return detector
    if math.isnan(detector.level):
        return _with_level(detector._replace(before=(*detector.before, residual.value)), residual.end_s)
    most = MOST_OF_THRESHOLD * detector.threshold
    x = residual.value - detector.level
    high = max(0.0, detector.high + min(x - detector.reference, most))
    low = max(0.0, detector.low + min(-x - detector.reference, most))
    return detector._replace(
        high=high,
        low=low,
        high_since_s=residual.end_s if high == 0 else detector.high_since_s,
        low_since_s=residual.end_s if low == 0 else detector.low_since_s,
    )


def _with_level(detector: Detector, now_s: float) -> Detector:
    """The level and the threshold, once there are windows enough: its error takes at most half of the reference."""
    count = len(detector.before)
    if count < detector.settings.level_windows:
        return detector
    spread = _as_seen(detector.spread, detector.before)
    reach = spread.reach
    error = min(MEDIAN_ERROR * spread.level_error(count), reach)  # where runs hardly differ, it is known beforehand
    if 4 * error > detector.reference and count < LONGEST_LEVEL:
        return detector
    level = min(max(float(np.median(detector.before)), -reach), reach)
    sure = max(detector.reference - 2 * error, detector.reference / 4)
    threshold = threshold_of(sure, spread.long_run_deviation, detector.settings)
    return detector._replace(
        spread=spread, before=(), level=level, threshold=threshold, high_since_s=now_s, low_since_s=now_s
    )


def _as_seen(spread: Spread, values: Sequence[float]) -> Spread:
    """At least the spread that the windows themselves show (by their median distance: a stall is no spread)."""
    middle = float(np.median(values))
    seen = (1.4826 * float(np.median(np.abs(np.array(values) - middle)))) ** 2
    more = max(0.0, seen - spread.window_deviation**2)
    return spread._replace(noise=spread.noise + more)


def threshold_of(reference: float, deviation: float, settings: DriftSettings) -> float:
    """h: a false alarm within without_alarm_s has the chance false_alarms; never below the least change itself."""
    least = math.log1p(settings.least_change)
    if deviation == 0:
        return least
    d = reference / deviation
    windows = settings.without_alarm_s / settings.window_s
    wanted = math.log(windows / -math.log1p(-settings.false_alarms))
    low, high = 0.0, (wanted + math.log(4 * d * d + 1) + 10) / (2 * d) + 10 / max(d, 1e-9)
    for _ in range(100):
        b = (low + high) / 2
        low, high = (b, high) if _log_arl(d, b) < wanted else (low, b)
    return max(least, (high - OVERSHOOT) * deviation)


def _log_arl(d: float, b: float) -> float:
    """Logarithm of the mean number of windows to a false alarm on either side."""
    x = 2 * d * b
    grown = x + math.log1p(-(x + 1) * math.exp(-x)) if x > 1e-4 else math.log(max(x * x / 2, 1e-300))
    return grown - math.log(4 * d * d)
