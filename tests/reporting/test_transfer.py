"""Whose costs agree in which order, real and simulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.reporting.transfer import in_order, transfer_of


def row(policy: str, real: float, sim: float, pattern: str = "ramp", repeat: int = 1) -> dict[str, Any]:
    return {
        "traffic": pattern,
        "policy": policy,
        "run_id": f"{pattern}-{policy}-real-{repeat}",
        "simulated": f"{pattern}-{policy}-sim-{repeat}",
        "valid": True,
        "slo_violation_rate_real": real,
        "slo_violation_rate_sim": sim,
        "replica_seconds_real": 100 * real,
        "replica_seconds_sim": 100 * sim,
        "p95_ms_real": 1000 * real,
        "p95_ms_sim": 1000 * sim,
    }


def test_repeats_are_meant_and_named() -> None:
    rows = [row("a", 0.1, 0.1), row("a", 0.3, 0.2, repeat=2), row("b", 0.4, 0.5), row("c", 0.0, 0.1)]
    told = transfer_of(rows, "golden", ())
    assert told["policies"] == ["a", "b", "c"]
    assert told["rows"][0]["slo_violation_rate_real"] == pytest.approx(0.2)
    assert told["rows"][0]["slo_violation_rate_sim"] == pytest.approx(0.15)
    assert told["rows"][0]["runs"][2:] == ["runs/ramp-a-real-2", "runs/ramp-a-sim-2"]
    assert told["pearson_slo_violation_rate"] == pytest.approx(told["pearson_replica_seconds"])


def test_real_repeats_tell_how_well_the_real_system_foretells_itself() -> None:
    firsts = [row("a", 0.1, 0.9), row("b", 0.4, 0.5), row("c", 0.3, 0.1)]
    assert transfer_of(firsts, "golden", ())["real_repeats"] is None
    seconds = [row("a", 0.1, 0.9, repeat=2), row("b", 0.4, 0.5, repeat=2), row("c", 0.5, 0.1, repeat=2)]
    told = transfer_of([*firsts, *seconds], "golden", ())["real_repeats"]
    assert told["in_order_slo_violation_rate"] == told["in_order_replica_seconds"] == pytest.approx(2 / 3)
    assert told["pearson_slo_violation_rate"] == pytest.approx(np.corrcoef([0.1, 0.4, 0.3], [0.1, 0.4, 0.5])[0, 1])


def test_pairs_whose_real_runs_overlap_say_nothing_about_their_order() -> None:
    rows = [row("a", 0.1, 0.3), row("a", 0.4, 0.3, repeat=2), row("b", 0.2, 0.2), row("b", 0.2, 0.2, repeat=2)]
    rows += [row("c", 0.6, 0.5), row("c", 0.7, 0.5, repeat=2)]
    told = transfer_of(rows, "golden", ())
    assert told["in_order_slo_violation_rate"] == 1.0  # by their means .25 and .2
    turned = [{**one, "slo_violation_rate_sim": 0.1} if one["policy"] == "a" else one for one in rows]
    told = transfer_of(turned, "golden", ())
    assert told["in_order_slo_violation_rate"] == pytest.approx(2 / 3)
    assert told["in_order_beyond_spread_slo_violation_rate"] == 1.0


def test_how_near_the_means_are_and_how_those_that_scale_go_together() -> None:
    rows = [row("fixed-3", 0.9, 0.2), row("a", 0.1, 0.104), row("b", 0.2, 0.25), row("c", 0.3, 0.31)]
    rows += [row("d", 0.40, 0.30), row("d", 0.40, 0.52, repeat=2)]
    told = transfer_of(rows, "golden", {"fixed-3"})
    assert (told["pairs"], told["p95_within_10_pct"], told["replica_seconds_within_5_pct"]) == (5, 3, 3)
    without = told["without_fixed"]
    means = np.array([[0.1, 0.104], [0.2, 0.25], [0.3, 0.31], [0.4, 0.41]])
    assert without["pearson_slo_violation_rate"] == pytest.approx(np.corrcoef(means.T)[0, 1])
    assert without["spearman_slo_violation_rate"] == without["spearman_replica_seconds"] == pytest.approx(1.0)
    assert told["pearson_slo_violation_rate"] < 0.5  # with the fixed one


def test_what_differs_by_rounding_alone_is_a_tie() -> None:
    rows = [row("a", 0.1, 0.3), row("b", 0.2, 0.1 + 0.2), row("c", 0.3, 0.4)]
    assert 0.1 + 0.2 != 0.3
    assert transfer_of(rows, "golden", ())["in_order_slo_violation_rate"] == 1.0  # of two pairs, not of three


@given(st.lists(st.integers(0, 100), min_size=3, max_size=8, unique=True))
def test_what_is_the_same_on_both_sides_agrees_wholly(percents: list[int]) -> None:
    values = [percent / 100 for percent in percents]
    told = transfer_of([row(f"p{k}", value, value) for k, value in enumerate(values)], "x", ())
    assert told["pearson_slo_violation_rate"] == pytest.approx(1.0)
    assert told["in_order_slo_violation_rate"] == 1.0
    turned = transfer_of([row(f"p{k}", value, 1 - value) for k, value in enumerate(values)], "x", ())
    assert turned["pearson_slo_violation_rate"] == pytest.approx(-1.0)


def test_order_is_of_policies_under_the_same_pattern() -> None:
    rows = [row("a", 1, 1), row("b", 2, 3), row("c", 3, 2), row("a", 9, 0, "bursty")]
    assert transfer_of(rows, "x", ())["in_order_slo_violation_rate"] == pytest.approx(2 / 3)
    assert in_order([], "slo_violation_rate") is None
