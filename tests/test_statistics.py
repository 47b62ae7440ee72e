"""What is called 90 % holds in 90 % of a thousand made-up studies, of the sizes that we use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.statistics import (
    Interval,
    bootstrap_interval,
    confidence_above_zero,
    fewest_for_next,
    mean_interval,
    next_interval,
    relative_error_pct,
    spread_pct,
)

STUDIES = 1000


def coverage(study: Callable[[np.random.Generator], tuple[Interval | None, float]], seed: int = 1) -> float:
    """Share of the studies whose interval holds what is true."""
    rng, held = np.random.default_rng(seed), 0
    for _ in range(STUDIES):
        interval, true = study(rng)
        assert interval is not None
        held += interval.low <= true <= interval.high
    return held / STUDIES


@pytest.mark.parametrize("units", [3, 5, 10, 24])
def test_a_mean_of_few_values(units: int) -> None:
    assert 0.88 <= coverage(lambda rng: (mean_interval(rng.normal(3, 2, units)), 3.0)) <= 0.92


def test_a_saving_over_ten_kinds_of_traffic_with_ten_seeds_each() -> None:
    """Kinds differ, in size too; seeds of one kind hardly do. What is true is the saving over all kinds there are."""

    def kinds_of(rng: np.random.Generator, kinds: int) -> tuple[np.ndarray, np.ndarray]:
        size = rng.lognormal(0, 0.4, (kinds, 1))
        saving = rng.normal(0.15, 0.1, (kinds, 1))
        theirs = size * rng.normal(1, 0.02, (kinds, 10))
        return theirs.sum(axis=1) * (1 - saving[:, 0]) + rng.normal(0, 0.01, kinds), theirs.sum(axis=1)

    def study(rng: np.random.Generator) -> tuple[Interval | None, float]:
        mine, theirs = kinds_of(rng, 10)
        return bootstrap_interval(10, lambda of: 1 - mine[of].sum(axis=-1) / theirs[of].sum(axis=-1)), 0.15

    assert 0.88 <= coverage(study) <= 0.92


def test_seeds_taken_for_kinds_would_cover_far_less() -> None:
    """The fault that the units are there against: a hundred runs of ten kinds are not a hundred."""

    def study(rng: np.random.Generator) -> tuple[Interval | None, float]:
        runs = (rng.normal(0.15, 0.1, (10, 1)) + rng.normal(0, 0.01, (10, 10))).ravel()
        return mean_interval(runs), 0.15

    assert coverage(study) < 0.5


@pytest.mark.parametrize("draws", [19, 20, 25, 200])
def test_the_next_run_after_so_many_simulated_ones(draws: int) -> None:
    above = 0

    def study(rng: np.random.Generator) -> tuple[Interval | None, float]:
        nonlocal above
        *seen, coming = rng.lognormal(0, 0.3, draws + 1)
        interval = next_interval(seen)
        above += interval is not None and coming > interval.high
        return interval, coming

    assert 0.88 <= coverage(study, seed=2) <= 0.92
    assert 0.035 <= above / STUDIES <= 0.065  # the end on which a plan decides


def test_fewer_draws_have_no_interval_for_the_next_one() -> None:
    assert fewest_for_next(0.9) == 19
    assert next_interval(range(19)) == Interval(0.0, 18.0)
    assert next_interval(range(18)) is None
    assert mean_interval([1.0, 2.0]) is None
    assert bootstrap_interval(2, lambda of: of.sum(axis=-1)) is None


def test_runs_that_answered_nothing_are_the_slowest() -> None:
    assert next_interval([*range(23), np.inf, np.inf]) == Interval(pytest.approx(0.3), np.inf)
    assert next_interval([*range(24), np.inf]) == Interval(pytest.approx(0.3), np.inf)  # beyond the largest known one
    assert next_interval([np.inf] * 20) == Interval(np.inf, np.inf)


def test_a_candidate_that_is_no_better_is_taken_in_5_percent_of_all_cases() -> None:
    rng = np.random.default_rng(3)
    wrong = np.mean([confidence_above_zero(rng.normal(0, 1, 12)) >= 0.95 for _ in range(4 * STUDIES)])
    assert 0.04 <= wrong <= 0.06
    assert confidence_above_zero([1.0, 1.0, 1.0]) == 1
    assert confidence_above_zero([0.0, 0.0, 0.0]) == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=19, max_size=60), st.floats(0.5, 0.9))
def test_a_wider_coverage_has_a_wider_interval_within_the_values(values: list[float], less: float) -> None:
    wide, narrow = next_interval(values), next_interval(values, less)
    assert wide is not None
    assert narrow is not None
    assert min(values) <= wide.low <= narrow.low + 1e-6
    assert narrow.high - 1e-6 <= wide.high <= max(values)


def test_errors_and_spreads() -> None:
    assert relative_error_pct(11.0, 10.0) == pytest.approx(10)
    assert relative_error_pct(None, 10.0) is None
    assert relative_error_pct(1.0, 0.0) is None
    assert spread_pct([9.0, 11.0]) == pytest.approx(20)
    assert spread_pct([9.0]) is None
    assert spread_pct([9.0, None]) is None
    assert spread_pct([9.0, None, 11.0]) == pytest.approx(20)
    assert spread_pct([0.0, 0.0]) is None
