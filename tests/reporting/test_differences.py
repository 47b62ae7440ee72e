"""Differences of two policies, real and simulated, paired by repeat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.reporting.differences import differences_of

BASE = {"ramp": 300.0, "bursty": 500.0, "periodic": 400.0}


def rows_of(
    real: dict[str, list[float]], sim: dict[str, float], traffics: tuple[str, ...] = tuple(BASE), **changes: Any
) -> list[dict[str, Any]]:
    """Replica-seconds of each policy, as factors on the traffic's; the share over the target is a thousandth of it."""
    return [
        {
            "traffic": traffic,
            "policy": policy,
            "run_id": f"{traffic}-{policy}-real-{repeat}",
            "valid": True,
            "replica_seconds_real": BASE[traffic] * factor,
            "replica_seconds_sim": BASE[traffic] * sim[policy],
            "slo_violation_rate_real": 1e-5 * BASE[traffic] * factor,
            "slo_violation_rate_sim": 1e-5 * BASE[traffic] * sim[policy],
            **changes,
        }
        for traffic in traffics
        for policy, factors in real.items()
        for repeat, factor in enumerate(factors, start=1)
    ]


def found(rows: list[dict[str, Any]], first: str, second: str, cost: str = "replica_seconds") -> dict[str, Any]:
    (one,) = [
        one for one in differences_of(rows) if (one["first"], one["second"], one["cost"]) == (first, second, cost)
    ]
    return one


def test_a_difference_is_paired_by_repeat_and_told_of_each_kind() -> None:
    # The third repeat was slow for both: the difference is the same, and so its interval is narrow.
    rows = rows_of({"a": [0.8, 0.88, 1.6], "b": [1.0, 1.1, 2.0]}, {"a": 0.9, "b": 1.0})
    less = found(rows, "a", "b")
    assert (less["unit"], less["real"], less["sim"]) == ("%", pytest.approx(-20), pytest.approx(-10))
    assert [kind["traffic"] for kind in less["kinds"]] == list(BASE)
    assert all(kind["real_low"] == pytest.approx(-20) == pytest.approx(kind["real_high"]) for kind in less["kinds"])
    assert (less["decided"], less["agree"]) == (3, 3)
    points = found(rows, "b", "a", "slo_violation_rate")
    assert points["unit"] == "points"
    assert points["kinds"][0]["sim"] == pytest.approx(100 * 1e-5 * 300 * 0.1)


def test_a_sign_that_the_simulator_has_wrong_is_counted() -> None:
    rows = rows_of({"a": [0.8, 0.81, 0.79], "b": [1.0, 1.0, 1.0]}, {"a": 1.1, "b": 1.0})
    less = found(rows, "a", "b")
    assert (less["decided"], less["agree"]) == (3, 0)
    assert [kind["agrees"] for kind in less["kinds"]] == [False] * 3


def test_what_the_real_runs_do_not_decide_is_no_agreement() -> None:
    rows = rows_of({"a": [0.8, 1.2, 1.01], "b": [1.0, 1.0, 1.0]}, {"a": 0.9, "b": 1.0})
    less = found(rows, "a", "b")
    assert (less["decided"], less["agree"]) == (0, 0)
    assert less["kinds"][0]["agrees"] is None


def test_too_few_repeats_or_kinds_and_invalid_runs_have_no_interval() -> None:
    assert differences_of(rows_of({"a": [1.0, 1.1], "b": [1.0, 1.0]}, {"a": 1.0, "b": 1.0})) == []
    two = rows_of({"a": [0.8] * 3, "b": [1.0] * 3}, {"a": 1.0, "b": 1.0}, ("ramp", "bursty"))
    assert found(two, "a", "b")["real_low"] is None
    rows = rows_of({"a": [0.8, 0.8, 5.0, 0.8], "b": [1.0] * 4}, {"a": 1.0, "b": 1.0})
    for row in rows:
        row["valid"] = not (row["policy"] == "a" and row["run_id"].endswith("3"))
    assert [kind["repeats"] for kind in found(rows, "a", "b")["kinds"]] == [3, 3, 3]
    assert found(rows, "a", "b")["real"] == pytest.approx(-20)


@given(st.lists(st.floats(0.5, 2.0), min_size=6, max_size=6), st.floats(0.5, 2.0))
def test_either_order_is_told_and_they_contradict_each_other_never(factors: list[float], sim: float) -> None:
    rows = rows_of({"a": factors[:3], "b": factors[3:]}, {"a": sim, "b": 1.0})
    there, back = (found(rows, *both, "slo_violation_rate") for both in (("a", "b"), ("b", "a")))
    assert there["real"] == pytest.approx(-back["real"])
    assert there["decided"] == back["decided"]
    assert there["agree"] == back["agree"]
    for kind in there["kinds"]:
        assert kind["real_low"] <= kind["real"] + 1e-9
        assert kind["real"] <= kind["real_high"] + 1e-9
        assert np.isfinite(kind["sim"])
