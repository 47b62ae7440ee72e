"""Known service times come back from few batches, and their deviations are true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.calibration.service_curve import capacity_of, drawn_means, fit_curve
from tests.oracles.known_curves import CV, KNOWN, SIZES, covered_by_kind, service_time, study


@pytest.mark.parametrize("name", KNOWN)
def test_known_times_come_back_within_half_a_percent_from_60_batches_a_size(name: str) -> None:
    """Their raw means are .65 % off."""
    true_s, rng = KNOWN[name], np.random.default_rng(1)
    errors = [fit_curve(*study(true_s, rng), CV).mean_s / true_s - 1 for _ in range(100)]
    assert np.sqrt(np.mean(np.square(errors))) < 0.005
    assert abs(np.mean(errors, axis=0)).max() < 0.003


def test_intervals_of_the_capacity_cover_90_percent() -> None:
    """Three kinds of service, in one run or in six that differ by 1 %. tests/bench has a thousand studies of each."""
    covered = covered_by_kind(np.random.default_rng(3), 40)
    assert 0.85 < np.mean(list(covered.values())) < 0.96  # 240 of them: a standard deviation of .02


def test_a_size_with_few_batches_leans_on_the_others() -> None:
    """golden-emulated-slow: 12 batches of sizes 7 and 8, both 2 to 4 % low, many of the others."""
    true_s = 0.024 + 0.008 * SIZES
    count = np.array([[400, 400, 400, 300, 200, 100, 12, 12]])
    seconds = true_s * count * np.array([1, 1, 1, 1, 1, 1, 0.96, 0.98])
    assert fit_curve(count, seconds, 0.058).mean_s == pytest.approx(true_s, rel=0.006)


def test_a_step_survives_where_there_are_data_and_is_named() -> None:
    sizes = np.arange(1, 65)
    true_s = 2.0 + 3.0 * np.ceil(sizes / 8)
    curve = fit_curve(*study(true_s, np.random.default_rng(3)), CV)
    assert curve.steps == (8, 16, 24, 32, 40, 48, 56)
    assert curve.mean_s == pytest.approx(true_s, rel=0.01)


def test_sizes_that_never_ran_follow_from_the_others_with_a_wide_deviation() -> None:
    sizes = np.arange(1, 65)
    true_s = 5.0 + 0.1 * sizes
    count, seconds = study(true_s, np.random.default_rng(4), batches=30)
    count[:, 40:], seconds[:, 40:] = 0, 0.0
    curve = fit_curve(count, seconds, CV)
    assert curve.mean_s == pytest.approx(true_s, rel=0.02)
    deviation = service_time(curve, count).uncertainty
    assert deviation is not None
    assert deviation.std_s()[63] > 5 * deviation.std_s()[39]


def test_one_size_alone_is_its_mean_and_tells_little_of_the_others() -> None:
    curve = fit_curve(np.array([[50, 0, 0, 0]]), np.array([[5.0, 0.0, 0.0, 0.0]]), CV)
    assert curve.mean_s[0] == pytest.approx(0.1, rel=1e-3)
    assert curve.mean_s[3] >= curve.mean_s[0]


def test_runs_that_differ_widen_it_as_much_as_they_do() -> None:
    """One run of a service tells less of the next one than six that differ by 3 %."""
    true_s, rng = KNOWN["straight"], np.random.default_rng(5)
    widths = []
    for run_std in (0.0, 0.03):
        count, seconds = study(true_s, rng, batches=600, runs=6, run_std=run_std)
        known = capacity_of(service_time(fit_curve(count, seconds, CV), count))
        widths.append(((known.high_rps or np.nan) - (known.low_rps or np.nan)) / known.rps)
    assert widths[0] < 0.01
    assert 0.02 < widths[1] < 0.09


def test_without_a_log_the_spread_of_batches_is_found_from_the_means() -> None:
    true_s, rng = KNOWN["straight"], np.random.default_rng(6)
    for cv in (0.01, 0.1):
        errors, widths = [], []
        for _ in range(20):
            count = np.full((4, 8), 30)
            mean = true_s * (1 + cv * rng.standard_normal(count.shape) / np.sqrt(count))
            curve = fit_curve(count, mean * count, None)
            known = service_time(curve, count).uncertainty
            assert known is not None
            errors.append(curve.mean_s[-1] / true_s[-1] - 1)
            widths.append(known.std_s()[-1] / true_s[-1])
        assert np.std(errors) == pytest.approx(np.mean(widths), rel=0.6)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.floats(1e-4, 10.0)), min_size=1, max_size=12).filter(
        lambda sizes: any(n for n, _ in sizes)
    ),
    st.sampled_from([None, 0.01, 0.3]),
)
def test_whatever_was_counted_it_rises_and_is_finite(sizes: list[tuple[int, float]], cv: float | None) -> None:
    count = np.array([[n for n, _ in sizes]])
    curve = fit_curve(count, count * np.array([[mean for _, mean in sizes]]), cv)
    assert np.all(curve.mean_s > 0)
    assert np.all(np.diff(curve.mean_s) >= 0)
    drawn = drawn_means(service_time(curve, count), np.random.default_rng(1), 20)
    assert np.all(np.isfinite(drawn))
    assert np.all(np.diff(drawn) >= 0)


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch"):
        fit_curve(np.zeros((1, 4), dtype=np.int64), np.zeros((1, 4)), CV)
