"""What an evaluation says of policies, on numbers that can be followed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from testbed.reporting.evaluation import front, hypervolume, summary_of


def rows_of(policy: str, runs: list[tuple[float | None, float]]) -> list[dict[str, Any]]:
    return [
        {"traffic": "ramp", "policy": policy, "seed": seed, "slo_miss": miss, "gpu_seconds": gpu, "changes": 2}
        for seed, (miss, gpu) in enumerate(runs)
    ]


def test_a_policy_no_other_beats_in_both_is_on_the_front() -> None:
    points = np.array([[0.1, 10.0], [0.2, 5.0], [0.2, 9.0], [0.3, 5.0], [0.1, 10.0]])
    assert front(points).tolist() == [True, True, False, False, True]  # equals do not beat each other


def test_the_hypervolume_is_the_area_that_the_front_dominates() -> None:
    # Of the box 0.4 x 10: from 0.1 on everything above 8, from 0.2 on above 5.
    points = np.array([[0.1, 8.0], [0.2, 5.0], [0.4, 10.0]])
    assert hypervolume(points) == pytest.approx((0.1 * 2 + 0.2 * 5) / (0.4 * 10))


def test_savings_are_paired_and_have_an_interval() -> None:
    theirs = [(0.01, 100.0), (0.03, 200.0), (0.02, 150.0)]
    mine = [(miss + 0.01, 0.9 * gpu) for miss, gpu in theirs]
    told = summary_of(rows_of("hpa", theirs) + rows_of("ours", mine), "hpa")["policies"]["ours"]
    assert told["saving_pct"] == pytest.approx(10.0)
    assert told["saving_low_pct"] == pytest.approx(10.0)  # runs differ by much, the pairs not at all
    assert told["saving_high_pct"] == pytest.approx(10.0)
    assert told["slo_miss_difference"] == pytest.approx(0.01)


def test_runs_that_disagree_widen_the_interval() -> None:
    theirs = [(0.01, 100.0)] * 10
    mine = [(0.01, 80.0 if k % 2 else 110.0) for k in range(10)]
    told = summary_of(rows_of("hpa", theirs) + rows_of("ours", mine), "hpa")["policies"]["ours"]
    assert told["saving_pct"] == pytest.approx(5.0)
    assert told["saving_low_pct"] < 1.0
    assert told["saving_high_pct"] > 9.0


def test_a_run_without_an_answer_has_missed_everything() -> None:
    told = summary_of(rows_of("hpa", [(0.5, 1.0)] * 2) + rows_of("none", [(None, 1.0), (0.0, 1.0)]), "hpa")
    assert told["policies"]["none"]["slo_miss"] == 0.5
