"""Ratios of two services on numbers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.reporting.ratio import TAIL, Answers, Ratio, ratios
from testbed.statistics import expanded_tail

SPAN_S = 100.0
N = 200
SCHEDULED_S = np.sort(np.random.default_rng(1).uniform(0, SPAN_S, N))


def run(seed: int, factor: float = 1.0, spread: float = 0.3) -> Answers:
    """Latencies about 50 ms times the factor, each request on its own."""
    latency_s = 0.05 * factor * np.random.default_rng(seed).lognormal(0, spread, N)
    return Answers(latency_s, SCHEDULED_S + latency_s <= SPAN_S)


def scaled(answers: Answers, factor: float) -> Answers:
    return Answers(factor * answers.latency_s, answers.in_time)


@pytest.mark.parametrize("pairs", [1, 2, 3, 5])
@settings(deadline=None, max_examples=2)
@given(factor=st.floats(0.02, 50.0))
def test_a_scaled_copy_has_exactly_its_factor_and_no_doubt(pairs: int, factor: float) -> None:
    # Blocks may last a fifth of the span at most: two P95s of 50 times 80 ms are 8 s.
    second = [run(seed) for seed in range(pairs)]
    found = ratios([scaled(one, factor) for one in second], second, SCHEDULED_S, SPAN_S)
    for name in ("p95", "mean"):
        assert found[name] == pytest.approx((factor, factor, factor))
    assert found["throughput"] == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.parametrize("pairs", [1, 2, 3, 5])
@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 10**6))
def test_the_other_way_round_it_is_the_reciprocal(pairs: int, seed: int) -> None:
    first, second = ([run(seed + k + shift, 1 + shift) for k in range(pairs)] for shift in (0, 100))
    there, back = ratios(first, second, SCHEDULED_S, SPAN_S), ratios(second, first, SCHEDULED_S, SPAN_S)
    for name, one in there.items():
        assert one.value is not None
        assert one.low is not None
        assert one.high is not None
        assert (1 / one.value, 1 / one.high, 1 / one.low) == pytest.approx(back[name])
        assert one.low <= one.value * (1 + 1e-9)
        assert one.high >= one.value * (1 - 1e-9)


def test_the_interval_of_three_pairs_is_their_range() -> None:
    second = [run(seed) for seed in range(3)]
    first = [scaled(one, factor) for one, factor in zip(second, (9.0, 10.0, 12.0), strict=True)]
    found = ratios(first, second, SCHEDULED_S, SPAN_S)["p95"]
    assert found == pytest.approx(((9.0 * 10.0 * 12.0) ** (1 / 3), 9.0, 12.0))


def test_more_pairs_need_less_of_an_expansion() -> None:
    tails = [expanded_tail(pairs) for pairs in (2, 3, 5, 10, 1000)]
    assert tails == sorted(tails)
    assert tails[-1] == pytest.approx(TAIL, rel=0.01)


def test_five_pairs_cover_the_truth_nine_times_of_ten() -> None:
    rng = np.random.default_rng(3)
    second = [run(0)] * 5
    covered = 0
    for factors in 4.0 * rng.lognormal(0, 0.1, (300, 5)):
        found = ratios([scaled(one, f) for one, f in zip(second, factors, strict=True)], second, SCHEDULED_S, SPAN_S)
        low, high = found["mean"].low, found["mean"].high
        assert low is not None
        assert high is not None
        covered += low <= 4.0 <= high
    assert covered / 300 == pytest.approx(0.9, abs=0.05)


def test_blocks_of_time_see_slow_phases_that_single_requests_do_not() -> None:
    phase = np.repeat(np.random.default_rng(5).lognormal(0, 0.4, 10), N // 10)  # ten seconds each
    steady, phased = run(1, spread=0.2), run(1, spread=0.2)
    phased = Answers(phased.latency_s * phase, phased.in_time)

    def width(first: Answers) -> float:
        found = ratios([first], [run(2, spread=0.2)], SCHEDULED_S, SPAN_S)["mean"]
        assert found.low is not None
        assert found.high is not None
        return found.high / found.low

    assert width(phased) > 2 * width(steady) - 1


def test_a_run_of_few_latencies_has_a_ratio_without_an_interval() -> None:
    slow = scaled(run(1), 400.0)  # 20 s of a span of 100 s
    found = ratios([slow], [run(2)], SCHEDULED_S, SPAN_S)["p95"]
    assert found.value is not None
    assert (found.low, found.high) == (None, None)


def test_nobody_answered_is_no_ratio() -> None:
    nothing = Answers(np.full(N, np.nan), np.zeros(N, dtype=bool))
    found = ratios([nothing] * 3, [run(k) for k in range(3)], SCHEDULED_S, SPAN_S)
    assert set(found.values()) == {Ratio(None, None, None)}


def test_a_run_without_a_partner_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([run(1), run(2)], [run(3)], SCHEDULED_S, SPAN_S)
