"""The words of reports: numbers without exponents, settings without Python's marks."""

from __future__ import annotations

import pytest

from testbed import words
from testbed.reporting.labels import counted, plain, quantity, settings, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10_573.0, "10\u202f570"),
        (69.08935069781108, "69.09"),
        (0.00012345, "0.0001234"),
        (-0.5, "\u22120.5"),
        (100.0, "100"),
        (0.0, "0"),
        (9.99996, "10"),
        (float("inf"), "inf"),
    ],
)
def test_a_number_has_four_digits_and_no_exponent(value: float, text: str) -> None:
    assert significant(value) == text


def test_a_cell_has_six_digits_and_no_groups() -> None:
    assert [plain(value) for value in (1_234_567.0, 0.1234567, 12_345, None)] == [
        "1234570",
        "0.123457",
        "12345",
        "\u2013",
    ]


def test_a_quantity_has_the_unit_of_its_name() -> None:
    assert quantity(6.9131, "lag_p99_ms") == "lag P99 6.913 ms"
    assert quantity(0.0025, "late_share") == "late share 0.25 %"
    assert quantity(10_573, "scheduled") == "scheduled 10\u202f570"


def test_one_is_no_plural() -> None:
    assert [counted(1, "run"), counted(2, "run"), counted(1, "policy", "policies")] == ["1 run", "2 runs", "1 policy"]
    assert counted(3, "policy", "policies") == "3 policies"
    assert (counted(1200, "run"), words.counted(1200, "run")) == ("1\u202f200 runs", "1,200 runs")


def test_settings_are_words() -> None:
    policy = {"age_s": 1.0, "kind": "hpa", "behavior": {"scale_up": {"policies": [{"type": "Pods", "value": 4}]}}}
    told = settings({**policy, "tuned": None, "noisy": False, "flags": {}})
    assert told == (
        "hpa, age_s 1, behavior (scale_up (policies ((type Pods, value 4)))), tuned none, noisy no, flags none"
    )
    assert settings(["a", "b"]) == "a, b"
