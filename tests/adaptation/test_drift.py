"""The drift detector: quiet while nothing changes, and quick when something does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.adaptation.drift import (
    Detector,
    Residual,
    Spread,
    expected_spread,
    new_detector,
    residual_of,
    threshold_of,
    watched,
)
from testbed.adaptation.settings import DriftSettings
from testbed.autoscaling.observation import Window
from testbed.calibration.profile import ServiceProfile, SlowPhase
from tests.adaptation.drifting import varying_profile, varying_run, windows_of
from tests.oracles.cluster_worlds import flat_profile

SETTINGS = DriftSettings()


def residual(value: float, k: int) -> Residual:
    return Residual(5.0 * k, 5.0 * (k + 1), value, 100.0)


def fed(values: list[float], detector: Detector | None = None) -> Detector:
    found = detector or new_detector(varying_profile(), SETTINGS)
    for k, value in enumerate(values):
        found = watched(found, residual(value, k))
    return found


def window(batches: float, busy_s: float, requests: float, waiting: float = 0.0) -> Window:
    one = np.ones(1)
    return Window(
        0.0, 5.0, ("a",), requests * one, one, waiting * one, one, one, one, None, batches * one, busy_s * one
    )


def test_a_residual_is_the_logarithm_of_a_batchs_time_over_the_profiles_at_the_mean_size():
    profile = flat_profile([0.006, 0.007, 0.009])
    found = residual_of(window(40, 0.4, 100), profile, 20)
    assert found is not None
    assert found.value == pytest.approx(math.log(10 / 8))


@pytest.mark.parametrize(
    "nothing",
    [window(3, 0.03, 9), window(math.nan, 0.4, 100), window(40, math.nan, 100), window(40, -0.1, 100), window(0, 0, 0)],
)
def test_a_window_that_tells_nothing_has_no_residual(nothing: Window):
    assert residual_of(nothing, flat_profile(), 20) is None


def test_windows_of_who_does_not_count_batches_have_no_residual():
    one = np.ones(1)
    assert residual_of(Window(0.0, 5.0, ("a",), one, one, one, one, one, one), flat_profile(), 1) is None


def test_what_arrived_is_what_was_answered_and_what_the_queue_grew_by():
    assert window(40, 0.4, 100, waiting=30.0).arrivals_rps(waiting_before=10.0) == pytest.approx(24.0)


def test_the_predicted_spread_is_that_of_a_phase_averaged_over_windows():
    """Against the sample of an Ornstein-Uhlenbeck process, averaged numerically."""
    spread = Spread(0.0, SlowPhase(sigma=0.1, timescale_s=4.0), 5.0, math.inf)
    rng, step_s = np.random.default_rng(0), 0.05
    decay = math.exp(-step_s / 4.0)
    x, values = 0.0, np.empty(2_000_000)
    for k, shock in enumerate((rng.normal(size=len(values)) * 0.1 * math.sqrt(1 - decay**2)).tolist()):
        x = decay * x + shock
        values[k] = x
    means = values.reshape(-1, 100).mean(axis=1)
    assert float(means.std()) == pytest.approx(spread.window_deviation, rel=0.03)
    sums = means.reshape(-1, 100).mean(axis=1)
    assert float(sums.std()) == pytest.approx(spread.level_error(100), rel=0.1)
    assert spread.level_error(100) == pytest.approx(spread.long_run_deviation / 10, rel=0.01)


@pytest.mark.parametrize("d", [0.2, 0.5, 1.0])
def test_the_threshold_gives_the_false_alarms_that_it_promises(d: float):
    """Two-sided CUSUMs of independent normal windows: alarms within a time, counted. The formula is 10 % good."""
    told = DriftSettings(false_alarms=0.2, without_alarm_s=1000.0, least_change=0.01)
    h = threshold_of(d * 0.1, 0.1, told) / 0.1  # the least change is below it
    runs, alarms = 4000, 0
    rng = np.random.default_rng(1)
    high, low, over = np.zeros(runs), np.zeros(runs), np.zeros(runs, dtype=bool)
    for _ in range(200):
        x = rng.normal(size=runs)
        high, low = np.maximum(0, high + x - d), np.maximum(0, low - x - d)
        over |= (high > h) | (low > h)
    alarms = int(over.sum())
    assert 0.13 < alarms / runs < 0.24


def test_the_first_windows_set_the_level_within_what_runs_differ_by():
    detector = fed([0.03] * 12)
    assert detector.level == pytest.approx(0.03)
    far = fed([0.2] * 12)
    reach = expected_spread(varying_profile(), SETTINGS).reach
    assert reach < 0.1
    assert far.level == pytest.approx(reach)
    assert fed([0.2] * 40).alarm  # a service that never was what the profile says


def test_without_known_run_effects_the_level_is_what_it_is():
    bare = varying_profile().model_copy(update={"run_effects": flat_profile().run_effects})
    assert not fed([0.5] * 200, new_detector(bare, SETTINGS)).alarm


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.sampled_from([math.nan, math.inf, -math.inf, None]), max_size=50))
def test_windows_that_tell_nothing_are_skipped_and_are_never_an_alarm(seed: int, nothing: list[float | None]):
    rng = np.random.default_rng(seed)
    detector, plain = (new_detector(varying_profile(), SETTINGS) for _ in range(2))
    for k in range(60):
        value = residual(float(rng.normal() * 0.01), k)
        plain = watched(plain, value)
        detector = watched(detector, value)
        for one in nothing:
            detector = watched(detector, None if one is None else residual(one, k))
    assert detector == plain
    assert not detector.alarm


def test_one_window_or_two_with_a_stall_are_no_alarm_and_three_are():
    quiet = fed([0.0] * 12)
    assert not fed([3.0, 3.0, *[0.0] * 3], quiet).alarm
    assert fed([3.0, 3.0, 3.0], quiet).alarm


def delay_s(detector: Detector, factor: float) -> float:
    """About how long a change by that factor takes to be found; infinite if it is too small. Three windows at least."""
    beyond = abs(math.log(factor)) - detector.reference
    if beyond <= 0 or math.isnan(detector.threshold):
        return math.inf
    return max(3.0, detector.threshold / beyond + 1) * detector.settings.window_s


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(1.3, 2.4), st.booleans())
def test_a_change_is_found_in_the_time_that_is_told_and_its_beginning_is_known(seed: int, factor: float, up: bool):
    rng = np.random.default_rng(seed)
    detector = fed((rng.normal(size=40) * 0.02).tolist())
    change = math.log(factor) * (1 if up else -1)
    expected_s, windows = delay_s(detector, math.exp(change)), 0
    while not detector.alarm:
        windows += 1
        assert windows * 5.0 <= 2 * expected_s + 15
        detector = watched(detector, residual(change + float(rng.normal() * 0.02), 40 + windows))
    assert 195.0 <= detector.change_s <= 215.0  # windows 41, 42, ... are changed; the first begins at 205 s


# In KISim: runs with effects of their own, slow phases and noise; two replicas under a wave, 10 minutes.


def first_alarm_s(
    profile: ServiceProfile, seed: int, until_s: float, change: tuple[float, float] | None
) -> float | None:
    sim, detector = varying_run(profile, seed), new_detector(profile, SETTINGS)
    end_s = until_s if change is None else change[0]
    for _ in range(2):
        for one in windows_of(sim, end_s):
            detector = watched(detector, residual_of(one, profile, SETTINGS.least_batches))
            if detector.alarm:
                return one.end_s
        if change is not None:
            sim.slow_down("m", change[1])
        end_s = until_s
    return None


def test_no_drift_no_alarm_in_forty_simulated_runs_of_ten_minutes():
    profile = varying_profile()
    alarms = [seed for seed in range(40) if first_alarm_s(profile, seed, 600.0, None) is not None]
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize("factor", [1.4, 0.7])
def test_batches_of_another_length_are_found_within_forty_seconds(factor: float):
    profile = varying_profile()
    for seed in range(10):
        alarm_s = first_alarm_s(profile, 1000 + seed, 400.0, (200.0, factor))
        assert alarm_s is not None
        assert 200.0 < alarm_s <= 240.0, (seed, alarm_s)
