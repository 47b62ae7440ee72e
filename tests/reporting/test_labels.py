"""The words of reports: numbers without exponents, settings without Python's marks."""

from __future__ import annotations

import pytest

from testbed import words
from testbed.reporting.labels import (
    counted,
    explained,
    parameters_text,
    plain,
    settings,
    significant,
    terms_in,
    verdict_text,
)


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


def test_a_verdict_is_told_in_words_with_units() -> None:
    figures = {"delivered_share": 0.99951, "failed_share": 0.0, "percentile": 95, "samples_needed": 130, "ok": 10_573.0}
    lag = {"lag_p50_ms": 0.123456, "lag_p99_ms": 6.9131, "lag_limit_ms": 2.0, "late_share": 0.0025, "late_limit_ms": 10}
    assert verdict_text({**figures, **lag, "client_cpu_share": 0.4321}) == (
        "99.95 % of the scheduled requests were sent; 0 % of these failed; they were sent late by P50 0.123 ms, "
        "P99 6.91 ms (limit of P99: 2.00 ms); 0.25 % by more than 10.00 ms; the busiest client process "
        "used 43.2 % of a core; 10\u202f573 answered requests, and P95 needs 130"
    )
    assert verdict_text({"lag_p99_ms": 0.4}) == "they were sent late by P99 0.400 ms"
    assert verdict_text({}) == ""


def test_a_patterns_parameters_have_the_units_that_it_names() -> None:
    told = parameters_text("periodic", {"mean": 37.437123, "amplitude": 29.9, "period_s": 4.5})
    assert told == "mean 37.44 requests/s, amplitude 29.9 requests/s, period 4.5 s"
    assert parameters_text("bursty", {"mode": "on_off", "burst_seed": 20240} | {"every_s": 9}) == (
        "mode on_off, burst seed 20240, every 9 s"
    )
    assert parameters_text("of a package that is gone", {"rate": 2.0, "rise_s": 3.0}) == "rate 2, rise 3 s"


def test_terms_are_explained_where_they_are_first_used() -> None:
    text = "2 held-out runs of r1-n2-b8-d0ms, KS distance 0.1 & another held-out one, KS 0.2"
    assert set(terms_in("nothing", text)) == {"held out", "KS", "r1-n2-b8-d0ms"}
    assert terms_in("nothing of the KIND") == {}
    html = explained(text)
    assert html.count("<abbr") == 3
    assert html.count('tabindex="0"') == 3
    assert ">held-out</abbr> runs of <abbr" in html
    assert "& another" not in html
    assert html.endswith(" another held-out one, KS 0.2")


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
