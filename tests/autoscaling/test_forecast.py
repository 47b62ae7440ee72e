"""What comes next: the line through the newest arrivals, and the season that repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.autoscaling.forecast import SMOOTHED, season_of, season_peak, smooth, trend_of


@given(level=st.floats(0, 1000), slope=st.floats(-5, 5), ahead=st.floats(0, 20), n=st.integers(2, 30))
def test_a_line_is_drawn_on(level: float, slope: float, ahead: float, n: int) -> None:
    rates = level + 200 + slope * np.arange(n)
    assert trend_of(rates, ahead) == pytest.approx(max(0.0, level + 200 + slope * (n - 1 + ahead)), abs=1e-6)


def test_a_single_rate_stays() -> None:
    assert trend_of(np.array([7.0]), 10) == 7.0


def test_a_mean_runs_over_the_last_steps() -> None:
    assert smooth(np.arange(6.0)).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert SMOOTHED == 3


@given(length=st.integers(12, 40), cycles=st.floats(2.2, 5), seed=st.integers(0, 2**31))
def test_a_season_is_found_and_repeats(length: int, cycles: float, seed: int) -> None:
    one = np.random.default_rng(seed).random(length) * 100
    past = np.resize(one, int(length * cycles))
    season = season_of(past, 10)
    assert season is not None
    assert season.strength == pytest.approx(1.0, abs=1e-6)
    assert season.steps % length == 0
    assert season_peak(past, season, 10) == pytest.approx(np.resize(one, len(past) + 10)[len(past) :].max())


def test_noise_has_no_season() -> None:
    strengths = []
    for seed in range(40):
        season = season_of(np.random.default_rng(seed).random(200), 10)
        strengths.append(0.0 if season is None else season.strength)
    assert np.median(strengths) < 0.4  # the best of some hundred lengths, by luck


def test_bursts_are_found_through_noise() -> None:
    rng = np.random.default_rng(1)
    rate = np.where(np.arange(150) % 50 >= 40, 200.0, 60.0)
    season = season_of(smooth(rng.poisson(2 * rate) / 2), 8)
    assert season is not None
    assert abs(season.steps - 50) <= 1
    assert season.strength > 0.9
    assert season.cycles == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("past", [np.full(100, 50.0), np.zeros(100), np.arange(8.0), np.array([1.0])])
def test_where_nothing_changes_or_little_is_known_there_is_none(past: np.ndarray) -> None:
    assert season_of(past, 10) is None
