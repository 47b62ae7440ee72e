"""The calibrated rule: what it asks for under traffic that can be calculated by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.outlook import correction
from testbed.autoscaling.policies.rule import Rule, is_worth_keeping
from testbed.errors import ConfigError
from tests.autoscaling.traffic import SERVICE, Answered, Middle, numbers_in, play, seconds_of_a_decision

RULE = Rule(replica_capacity_rps=30, provisioning_delay_s=9, max_replicas=16)


@settings(max_examples=30, deadline=None)
@given(
    rate=st.floats(0.1, 400),
    margin=st.floats(-0.1, 0.6),
    forecast=st.sampled_from(["now", "line", "season"]),
    quantile=st.sampled_from([None, 0.9]),
)
def test_constant_arrivals_have_what_they_need(
    rate: float, margin: float, forecast: Any, quantile: float | None
) -> None:
    rule = replace(RULE, margin=margin, forecast=forecast, quantile=quantile, hold_s=20)
    needed = math.ceil((1 + margin) * rate / 30 - 1e-6)
    assert set(list(play(rule, lambda _: rate, 100, start=5).values())[-20:]) == {min(max(1, needed), 16)}


@settings(max_examples=20, deadline=None)
@given(period=st.integers(40, 90), phase=st.floats(0, 1), mean=st.floats(100, 240))
def test_a_sine_has_its_peaks_replicas_a_start_up_before_the_peak(period: int, phase: float, mean: float) -> None:
    period_s = 2.0 * period

    def rate(t: float) -> float:
        return mean * (1 + 0.6 * math.sin(2 * math.pi * (t / period_s - phase)))

    asked = play(RULE, rate, 4 * period_s)
    peak = math.ceil(0.98 * 1.6 * mean / 30)  # a mean of three steps stays below the peak itself
    peaks = [(k + 0.25 + phase) * period_s for k in range(4)]
    seen = [at for at in peaks if 2 * period_s < at < 3.5 * period_s]
    assert seen
    for at in seen:
        assert asked[2 * math.floor((at - 9) / 2)] >= peak
        assert asked[2 * math.floor((at + 0.5 * period_s - 16) / 2)] < peak  # and lets go of them between two


def test_replicas_are_held_for_a_while_and_then_let_go() -> None:
    asked = play(replace(RULE, forecast="now", hold_s=50), lambda t: 100.0 if t < 100 else 20.0, 200)
    assert asked[100] == asked[146] == 4
    assert asked[160] == 1


def test_a_season_releases_what_the_hold_would_keep() -> None:
    asked = play(replace(RULE, hold_s=1000), lambda t: 200.0 if t % 100 > 70 else 20.0, 400)
    assert asked[166] == 7  # the hold
    assert asked[320] == 1  # the season
    assert asked[360] == 7  # ten seconds before


def test_a_line_sees_a_ramp_a_start_up_early() -> None:
    early, late = (play(replace(RULE, forecast=kind), lambda t: 2 * t, 100) for kind in ("line", "now"))
    first = [min(at for at, count in asked.items() if count == 4) for asked in (early, late)]
    assert first[0] == pytest.approx(45 - 9, abs=2)
    assert first[1] >= 45 + 2


def test_what_waits_is_drained() -> None:
    memory = None
    for k in range(1, 10):
        decision = RULE.decide(Answered(2.0 * k, 1, lambda t: 100.0, waiting=500.0), memory)
        memory = decision.memory
    assert decision.replicas == 5  # 100 + 500 / 10 of 30


def test_bursts_that_the_forecast_misses_raise_it_to_their_quantile() -> None:
    def burst(t: float) -> float:
        return 120.0 if int(t / 20) in (3, 5, 8, 10, 13, 14) else 30.0

    rule = replace(RULE, forecast="now", hold_s=1, margin=0.0)
    assert play(rule, burst, 400)[400] == 1
    assert play(replace(rule, quantile=0.95), burst, 400)[400] == 4


@given(ratios=st.lists(st.floats(0, 10), min_size=10, max_size=60), quantile=st.floats(0.1, 0.9))
def test_the_correction_covers_what_was_remembered(ratios: list[float], quantile: float) -> None:
    factor = correction(tuple(ratios), quantile)
    assert factor is not None
    assert np.mean(np.array(ratios) <= factor) >= quantile


def test_a_few_forecasts_correct_nothing() -> None:
    assert correction((2.0,) * 9, 0.9) is None
    assert correction((2.0,) * 10, 0.9) == 2.0


@pytest.mark.parametrize(
    ("gaps", "so_far", "miss", "kept"),
    [
        ([], 49, 100.0, True),  # nothing was seen: the assumed gap of 50
        ([], 51, 100.0, False),
        # 15 steps more cost 7.5 each; with the assumed gap given up: 30 + miss, of four.
        ([20, 20, 20], 5, 10.5, True),
        ([20, 20, 20], 5, 9.5, False),
        ([20, 20, 20], 30, 12.0, True),  # longer than any so far: the assumed gap is left
        ([20, 20, 20], 30, 8.0, False),
        ([20, 20, 20, 400], 5, 13.0, True),  # given up once it has lasted 20
    ],
)
def test_replicas_are_kept_while_that_costs_less(gaps: list[int], so_far: int, miss: float, kept: bool) -> None:
    places = np.cumsum([0, *gaps])
    needed = np.zeros(places[-1] + so_far + 1, dtype=bool)
    needed[places] = True
    assert is_worth_keeping(needed, 0.5, miss, 50) is kept


def test_who_cares_more_keeps_longer() -> None:
    def bursts(t: float) -> float:
        return 200.0 if t % 137 < 20 or 300 < t < 320 else 20.0

    kept = [
        sum(play(replace(RULE, forecast="now", slo_penalty=penalty), bursts, 600).values()) for penalty in (1, 10, 100)
    ]
    assert kept[0] < kept[1] <= kept[2]


def test_without_metrics_or_numbers_nothing_changes() -> None:
    memory = None
    for k in range(1, 10):
        memory = RULE.decide(Answered(2.0 * k, 3, lambda t: 80.0), memory).memory
    assert RULE.decide(Answered(2.0, 7, lambda t: 80.0), None).replicas == 7
    decision = RULE.decide(Answered(20.0, 7, lambda t: math.nan), memory)
    assert (decision.replicas, decision.memory) == (7, memory)
    assert RULE.decide(Answered(20.0, 7, lambda t: 80.0, waiting=math.nan), memory).memory == memory


def test_its_memory_is_a_few_hundred_numbers_and_a_decision_is_quick() -> None:
    rng, memory = np.random.default_rng(1), None
    rates = rng.uniform(50, 400, 2000)
    rule = replace(RULE, quantile=0.9, slo_penalty=10.0)
    for k in range(1, 900):
        memory = rule.decide(Answered(2.0 * k, 3, lambda t: rates[int(t)]), memory).memory
    assert numbers_in(memory) < 500
    assert seconds_of_a_decision(rule, lambda t: rates[int(t)]) < 1e-3


def test_what_it_cannot_be_is_refused() -> None:
    for wrong in ({"replica_capacity_rps": 0}, {"margin": -1}, {"quantile": 1.0}, {"drain_s": 0}, {"forecast": "x"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            build_policy({"kind": "rule", "replica_capacity_rps": 30, "provisioning_delay_s": 9} | wrong, 8, None)


def test_what_it_suggests_is_a_policy() -> None:
    rule = build_policy({"kind": "rule"} | Rule.suggested(Middle(), SERVICE, {}), 6, None)
    assert isinstance(rule, Rule)
    assert rule.replica_capacity_rps == 75.0
    assert 2.0 < rule.hold_s < 160.0
    assert rule.quantile == pytest.approx(0.745)
