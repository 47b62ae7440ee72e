"""The sentence at the top of an evaluation's report."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.reporting.verdict import interval_words, verdict


def found(saving: tuple[float, float, float] | None, misses: tuple[float, float, float]) -> dict[str, Any]:
    told = dict(zip(("saving_pct", "saving_low_pct", "saving_high_pct"), saving or (None,) * 3, strict=True))
    told["saving_mean_over_kinds_pct"] = saving and saving[0] - 2
    names = ("slo_violation_rate_difference", "slo_violation_rate_difference_low", "slo_violation_rate_difference_high")
    ours = {"slo_violation_rate": 0.01 + misses[0], **told, **dict(zip(names, misses, strict=True))}
    return {
        "challenger": "ppo",
        "baseline": "tuned-hpa",
        "policies": {"tuned-hpa": {"slo_violation_rate": 0.01}, "ppo": ours},
        "per_traffic": {"ramp": {}, "wave": {}},
        "rows": [{"policy": "ppo"}] * 6 + [{"policy": "tuned-hpa"}] * 6,
    }


def test_who_saves_at_no_more_misses_wins() -> None:
    assert verdict(found((12.34, 10.0, 14.0), (-0.002, -0.004, -0.001))) == (
        "In simulation, over 6 runs of 2 kinds of traffic, ppo holds 12.3 % fewer GPU-seconds than tuned-hpa (90 % "
        "interval over kinds of traffic: 10.0 to 14.0 % fewer; mean of the kinds: 10.3 % fewer); 0.80 % of requests "
        "miss the target, under tuned-hpa 1.00 % (difference: \u22120.20 points, "
        "\u22120.40 to \u22120.10). ppo wins: fewer GPU-seconds, and fewer misses."
    )


@pytest.mark.parametrize(
    ("saving", "misses", "told"),
    [
        (
            (5, 3, 7),
            (0.0, -0.1, 0.009),
            "wins: fewer GPU-seconds, and no difference in misses that can be told from none.",
        ),
        ((5, 3, 7), (0.02, 0.01, 0.03), "holds less and misses more: neither is better in both."),
        ((2, -1, 5), (-0.02, -0.03, -0.01), "does not win: no saving that can be told from none, and fewer misses."),
        ((-5, -7, -3), (-0.02, -0.03, -0.01), "misses less and holds more: neither is better in both."),
        ((-5, -7, -3), (0.02, 0.01, 0.03), "does not win: more GPU-seconds, and more misses."),
        ((0, 0, 0), (0.0, 0.0, 0.0), "does not win: no saving that can be told from none, and no difference in"),
    ],
)
def test_everything_else_says_what_it_is(saving: Any, misses: Any, told: str) -> None:
    assert f"ppo {told}" in verdict(found(saving, misses))


def test_nobody_wins_while_many_more_misses_are_possible() -> None:
    said = verdict(found((5, 3, 7), (0.06, -0.001, 0.1425)))
    assert said.endswith(
        "Undecided: fewer GPU-seconds, but up to 14.25 points more misses are possible; more runs decide."
    )


def test_two_kinds_of_traffic_have_no_interval_and_no_winner() -> None:
    told = verdict(found((5, None, None), (0.0, None, None)))
    assert "holds 5.0 % fewer GPU-seconds" in told
    assert told.endswith("There are too few kinds of traffic for an interval: nobody wins.")


def test_an_interval_says_on_which_side_it_is() -> None:
    assert interval_words(3, 7) == "3.0 to 7.0 % fewer"
    assert interval_words(-7, -3) == "3.0 to 7.0 % more"
    assert interval_words(-1, 5) == "from 1.0 % more to 5.0 % fewer"


def test_nothing_is_claimed_beside_a_baseline_that_held_nothing() -> None:
    assert "ppo cannot be set against tuned-hpa, of which a run held no GPU at all" in verdict(found(None, (0, 0, 0)))
