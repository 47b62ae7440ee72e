"""What an evaluation says of policies, on numbers that can be followed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from testbed.measurement.latency_histogram import BINS, BINS_AN_OCTAVE
from testbed.measurement.scaling_log import scaling_frame
from testbed.reporting.evaluation import front, hypervolume, row_of, summary_of


def rows_of(policy: str, runs: list[tuple[float | None, float]], traffic: str = "ramp", **more: Any) -> Any:
    told = {"traffic": traffic, "policy": policy, "p95_ms": 20.0, "energy_j": None, "changes": 2, **more}
    return [
        {**told, "seed": seed, "slo_violation_rate": miss, "gpu_seconds": gpu} for seed, (miss, gpu) in enumerate(runs)
    ]


def histogram(latencies_s: dict[float, int]) -> Any:
    """int64[BINS]: so many requests of each latency."""
    found = np.zeros(BINS, dtype=np.int64)
    for latency_s, count in latencies_s.items():
        octave, share = divmod(np.log2(latency_s * 1e9), 1)
        found[int((octave + 1) * BINS_AN_OCTAVE + (2**share - 1) * BINS_AN_OCTAVE)] += count
    return found


def told_of(rows: list[dict[str, Any]], challenger: str, oracle: str | None = None, **latencies: Any) -> dict[str, Any]:
    """latencies: by traffic, of every policy; none: 20 ms."""
    pairs = {(row["traffic"], row["policy"]) for row in rows}
    histograms = {pair: histogram(latencies.get(pair[0], {0.02: 100})) for pair in pairs}
    return summary_of(rows, "hpa", challenger, oracle, histograms)


def test_the_p95_of_a_policy_is_of_all_its_requests() -> None:
    """The mean of the P95 of four kinds of traffic, one of them overloaded, stood there: 2,764 ms, 4 % over a target of
    30."""
    rows = [row for traffic in ("a", "b", "c") for row in rows_of("hpa", [(0.01, 1.0)] * 3, traffic)]
    rows += [row for traffic in ("a", "b", "c") for row in rows_of("ours", [(0.01, 1.0)] * 3, traffic)]
    told = told_of(rows, "ours", a={0.02: 4000}, b={0.022: 4000}, c={0.024: 400, 11.0: 100})
    assert told["policies"]["ours"]["p95_ms"] == pytest.approx(24, rel=0.02)  # not (20 + 22 + 11,000) / 3
    assert told["per_traffic"]["c"]["ours"]["p95_ms"] == pytest.approx(11_000, rel=0.02)


def test_a_run_in_which_nothing_was_answered_is_all_missed() -> None:
    counts = {"arrived": 70, "ok": 0, "error": 0, "timeout": 0, "dropped": 0, "missed": 60, "decided": 60}
    rest = {"time_ns": 10**9, "asked": 1, "ready": 1, "changes": 0, "gpu_us": 10**6, "energy_mj": None}
    frame = scaling_frame(1, [{**counts, **rest}], np.zeros(BINS, dtype=np.int64))
    row = row_of("ramp", "hpa", 1, frame, "log")
    assert (row["slo_violation_rate"], row["waiting"], row["p95_ms"]) == (1.0, 70, None)


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
    found = told_of(rows_of("hpa", theirs) + rows_of("ours", mine), "ours")
    told = found["policies"]["ours"]
    assert told["saving_pct"] == pytest.approx(10.0)
    assert told["saving_low_pct"] == pytest.approx(10.0)  # runs differ by much, the pairs not at all
    assert told["saving_high_pct"] == pytest.approx(10.0)
    assert told["slo_violation_rate_difference"] == pytest.approx(0.01)
    assert found["gpu_seconds_saving_vs_tuned_hpa_pct"] == told["saving_pct"]
    assert found["slo_violation_rate_difference"] == told["slo_violation_rate_difference"]


def test_runs_that_disagree_widen_the_interval() -> None:
    theirs = [(0.01, 100.0)] * 10
    mine = [(0.01, 80.0 if k % 2 else 110.0) for k in range(10)]
    found = told_of(rows_of("hpa", theirs) + rows_of("ours", mine), "ours")
    assert found["gpu_seconds_saving_vs_tuned_hpa_pct"] == pytest.approx(5.0)
    assert found["interval_low_pct"] < 1.0
    assert found["interval_high_pct"] > 9.0


def test_seeds_of_one_traffic_are_not_counted_as_traffics() -> None:
    """Ten kinds that save 0 or 20 %, ten seeds of each: the interval is that of ten values, not of a hundred."""
    theirs, mine = [], []
    for kind in range(10):
        theirs += rows_of("hpa", [(0.01, 100.0)] * 10, f"kind-{kind}")
        mine += rows_of("ours", [(0.01, 100.0 if kind % 2 else 80.0)] * 10, f"kind-{kind}")
    found = told_of(theirs + mine, "ours")
    assert found["interval_over"] == "kinds of traffic"
    assert found["gpu_seconds_saving_vs_tuned_hpa_pct"] == pytest.approx(10.0)
    assert found["interval_low_pct"] == pytest.approx(10 - 1.83 * 20 / 2 / 3, abs=1)
    assert found["per_traffic"]["kind-1"]["ours"]["saving_high_pct"] == 0


def test_the_mean_over_kinds_stands_beside_what_all_runs_come_to() -> None:
    theirs = rows_of("hpa", [(0.0, 100.0)] * 3, "a") + rows_of("hpa", [(0.0, 100.0)] * 3, "b")
    theirs += rows_of("hpa", [(0.0, 1000.0)] * 3, "large")
    mine = rows_of("ours", [(0.0, 100.0)] * 3, "a") + rows_of("ours", [(0.0, 100.0)] * 3, "b")
    mine += rows_of("ours", [(0.0, 700.0)] * 3, "large")
    found = told_of(theirs + mine, "ours")
    assert found["gpu_seconds_saving_vs_tuned_hpa_pct"] == pytest.approx(25.0)
    assert found["mean_over_kinds_pct"] == pytest.approx(10.0)


def test_two_runs_have_no_interval() -> None:
    told = told_of(rows_of("hpa", [(0.0, 100.0)] * 2) + rows_of("ours", [(0.0, 90.0)] * 2), "ours")
    assert told["interval_low_pct"] is None
    assert told["gpu_seconds_saving_vs_tuned_hpa_pct"] == pytest.approx(10)


def test_a_run_without_an_answer_has_missed_everything() -> None:
    rows = rows_of("hpa", [(0.5, 1.0)] * 2) + rows_of("none", [(None, 1.0), (0.0, 1.0)], p95_ms=None)
    found = summary_of(rows, "hpa", "none", None, {("ramp", name): np.zeros(BINS, int) for name in ("hpa", "none")})
    told = found["policies"]["none"]
    assert told["slo_violation_rate"] == 0.5
    assert told["p95_ms"] is None


def test_each_traffic_has_its_own_figures() -> None:
    rows = rows_of("hpa", [(0.0, 100.0)] * 3) + rows_of("ours", [(0.0, 80.0)] * 3)
    rows += rows_of("hpa", [(0.0, 300.0)] * 3, "burst") + rows_of("ours", [(0.1, 330.0)] * 3, "burst")
    found = told_of(rows, "ours")
    assert found["per_traffic"]["ramp"]["ours"]["saving_pct"] == pytest.approx(20.0)
    assert found["per_traffic"]["burst"]["ours"]["saving_pct"] == pytest.approx(-10.0)
    assert found["per_traffic"]["burst"]["ours"]["slo_violation_rate_difference_low"] == pytest.approx(0.1)
    assert found["policies"]["ours"]["saving_pct"] == pytest.approx(100 * (1 - 410 / 400))


def test_the_distance_to_the_oracle_is_what_a_policy_holds_beyond_it() -> None:
    rows = rows_of("hpa", [(0.0, 120.0)] * 3) + rows_of("ours", [(0.0, 110.0)] * 3)
    assert "distance_to_oracle_pct" not in told_of(rows, "ours")
    distance = told_of(rows + rows_of("all-knowing", [(0.0, 100.0)] * 3), "ours", "all-knowing")
    told = distance["distance_to_oracle_pct"]
    assert told["ours"] == {"value": pytest.approx(10.0), "low": pytest.approx(10.0), "high": pytest.approx(10.0)}
    assert set(told) == {"hpa", "ours"}


def test_energy_is_known_if_it_is_known_of_every_run() -> None:
    rows = rows_of("hpa", [(0.0, 1.0)] * 2, energy_j=50.0) + rows_of("ours", [(0.0, 1.0)] * 2, energy_j=40.0)
    assert told_of(rows, "ours")["policies"]["ours"]["energy_j"] == 40.0
    rows[-1]["energy_j"] = None
    assert told_of(rows, "ours")["policies"]["ours"]["energy_j"] is None
    assert told_of(rows, "ours")["policies"]["hpa"]["energy_j"] == 50.0


def test_nothing_is_saved_of_nothing() -> None:
    found = told_of(rows_of("hpa", [(None, 0.0)] * 2) + rows_of("ours", [(0.0, 1.0)] * 2), "ours")
    assert found["gpu_seconds_saving_vs_tuned_hpa_pct"] is None
    assert found["slo_violation_rate_difference"] == -1.0


def test_a_row_is_the_end_of_its_log() -> None:
    histogram = np.zeros(BINS, dtype=np.int64)
    histogram[24 * BINS_AN_OCTAVE] = 95  # 2^23 ns and a bit
    histogram[26 * BINS_AN_OCTAVE] = 5
    rows = [
        {"time_ns": 5, "arrived": 60, "ok": 50, "error": 0, "timeout": 0, "missed": 1, "asked": 2, "ready": 2}
        | {"dropped": 0, "decided": 50, "changes": 0, "gpu_us": 10_000_000, "energy_mj": 1500},
        {"time_ns": 9, "arrived": 106, "ok": 100, "error": 3, "timeout": 1, "missed": 13, "asked": 3, "ready": 2}
        | {"dropped": 0, "decided": 105, "changes": 1, "gpu_us": 21_500_000, "energy_mj": 4500},
    ]
    row = row_of("ramp", "hpa", 7, scaling_frame(7, rows, histogram), "logs/ramp/hpa.parquet")
    assert row["requests"] == 106
    assert row["slo_violation_rate"] == 13 / 105
    assert row["waiting"] == 2
    assert row["p95_ms"] == pytest.approx(2**23 / 1e6, rel=0.008)
    assert (row["gpu_seconds"], row["changes"], row["energy_j"]) == (21.5, 1, 4.5)
    unknown = scaling_frame(7, [{**one, "energy_mj": None} for one in rows], np.zeros(BINS, dtype=np.int64))
    row = row_of("ramp", "hpa", 7, unknown, "x")
    assert (row["p95_ms"], row["energy_j"]) == (None, None)
