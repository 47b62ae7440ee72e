from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from loadgen.patterns import Bursty, Constant, Fluctuating, PatternError, Periodic, Ramp
from loadgen.schedule import Schedule, poisson_schedule

PATTERNS = [
    Constant(rate=60),
    Ramp(low=10, peak=150, rise_s=150),
    Periodic(mean=60, amplitude=50, period_s=20),
    Fluctuating(low=10, high=150, interval_s=5, rate_seed=4),
    Bursty(base=20, spike=200, spike_s=5, every_s=20),
    Bursty(base=10, spike=200, spike_s=5, every_s=20, mode="on_off"),
]
DURATION_S = 300.0
GRID_S = np.linspace(0, DURATION_S, 300_001)


@pytest.fixture(params=PATTERNS, ids=lambda p: f"{p.name}-{getattr(p, 'mode', '')}")
def pattern(request):
    return request.param


@pytest.fixture
def unit_arrivals(pattern):
    """Arrivals after the time change by the integrated rate: a Poisson process of rate 1 if all is right."""
    schedule = poisson_schedule(pattern, DURATION_S, seed=7, model="m")
    integrated = integrate.cumulative_trapezoid(pattern.rate_rps(GRID_S), GRID_S, initial=0)
    return np.interp(schedule.scheduled_s, GRID_S, integrated), integrated[-1]


def test_the_number_of_arrivals_is_the_integral_of_the_rate(unit_arrivals):
    arrivals, expected = unit_arrivals
    assert abs(len(arrivals) - expected) < 4 * np.sqrt(expected)


def test_gaps_are_exponential_after_the_time_change(unit_arrivals):
    arrivals, _ = unit_arrivals
    assert stats.kstest(np.diff(arrivals), "expon").pvalue > 1e-3


def test_counts_have_the_dispersion_of_a_poisson_process(unit_arrivals):
    arrivals, expected = unit_arrivals
    counts, _ = np.histogram(arrivals, bins=int(expected / 10), range=(0, expected))
    index = counts.var(ddof=1) / counts.mean()
    assert abs(index - 1) < 4 * np.sqrt(2 / (len(counts) - 1))


def test_the_number_of_arrivals_varies_from_seed_to_seed_as_poisson():
    counts = np.array([len(poisson_schedule(Constant(rate=50), 2.0, seed, "m")) for seed in range(400)])
    assert counts.var(ddof=1) / counts.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 399))


def test_seeds_decide_everything():
    again = [poisson_schedule(PATTERNS[2], 20, seed, "m").scheduled_ns for seed in (1, 1, 2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2])


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(PATTERNS), st.floats(0.01, 30), st.integers(0, 2**32))
def test_times_are_ascending_whole_microseconds_inside_the_duration(pattern, duration_s, seed):
    schedule = poisson_schedule(pattern, duration_s, seed, "m")
    assert (np.diff(schedule.scheduled_ns) >= 0).all()
    assert (schedule.scheduled_ns % 1000 == 0).all()
    assert (schedule.scheduled_ns >= 0).all()
    assert (schedule.scheduled_ns < duration_s * 1e9).all()


def test_a_schedule_says_where_it_comes_from_and_survives_its_file(tmp_path):
    schedule = poisson_schedule(Ramp(low=1, peak=9, rise_s=4), 10, seed=3, model="bert")
    schedule.write(tmp_path / "schedule.parquet")
    read = Schedule.read(tmp_path / "schedule.parquet")
    np.testing.assert_array_equal(read.scheduled_ns, schedule.scheduled_ns)
    assert set(read.model) == {"bert"}
    assert read.duration_s == 10
    parameters = {"low": 1, "peak": 9, "rise_s": 4}
    assert read.provenance == {"pattern": "ramp", "parameters": parameters, "seed": 3}


def test_a_schedule_of_no_duration_is_refused():
    with pytest.raises(PatternError, match="duration"):
        poisson_schedule(Constant(), 0, 1, "m")
