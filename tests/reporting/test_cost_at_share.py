"""What a policy holds at the same share of misses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.reporting.benchmark import FLOOR, cost_at

ALLOWED = 0.02


def at(*settings: tuple[float, float]) -> float:
    """settings: share missed and cost of each."""
    missed, cost = np.array(settings, dtype=float).T
    return float(cost_at(missed[None], cost[None], ALLOWED)[0])


def test_between_two_settings_it_is_read_off_a_line_over_the_logarithm() -> None:
    floor = FLOOR * ALLOWED
    middle = np.sqrt((0.005 + floor) * (0.08 + floor)) - floor  # half way, on that scale
    half = cost_at(np.array([[0.005, 0.08]]), np.array([[0.6, 0.4]]), float(middle))
    assert float(half[0]) == pytest.approx(0.5, abs=0.01)  # the floor moves with the allowed share
    assert at((0.02, 0.5), (0.08, 0.4)) == pytest.approx(0.5)
    assert 0.4 < at((0.005, 0.6), (0.08, 0.4)) < 0.6


def test_there_is_nothing_between_two_fixed_numbers() -> None:
    missed, cost = np.array([[0.08, 0.005]]), np.array([[0.4, 0.6]])
    assert cost_at(missed, cost, ALLOWED, between=False).tolist() == [0.6]
    assert np.isnan(cost_at(missed + 0.1, cost, ALLOWED, between=False)).all()


def test_what_never_misses_so_much_costs_its_cheapest_setting() -> None:
    assert at((0.001, 0.9), (0.01, 0.7)) == 0.7
    assert at((0.001, 0.6), (0.01, 0.7)) == 0.6  # one that misses more and costs more is of no use


def test_what_always_misses_more_has_no_cost() -> None:
    assert np.isnan(at((0.03, 0.2), (0.05, 0.1)))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=6), st.randoms())
def test_the_order_of_the_settings_does_not_matter_and_a_further_one_never_costs_more(
    settings: list[tuple[float, float]], random: object
) -> None:
    before = at(*settings)
    shuffled = list(settings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_allclose(at(*shuffled), before)
    more = at(*settings, (0.0, 1.0))
    assert more <= before + 1e-9 or np.isnan(before)
