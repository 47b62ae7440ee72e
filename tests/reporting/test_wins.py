"""What a policy holds at the same share of misses, and who wins by how much."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import ReportError
from testbed.reporting.benchmark import ROWS, cost_at, pods_sentence, sentence, wins_of
from testbed.reporting.differences import differences_of
from testbed.reporting.reports import write_report
from testbed.reporting.reports.benchmark import gather

ALLOWED = 0.02
MODEL = {"profiles": {"emulated": "p.json"}, "latency_target_s": 0.2, "max_replicas": 10}
SERVICE = {"cluster": {"models": [MODEL]}}


def at(*settings: tuple[float, float]) -> float:
    """settings: share missed and cost of each."""
    missed, cost = np.array(settings, dtype=float).T
    return float(cost_at(missed[None], cost[None], ALLOWED)[0])


def test_two_settings_take_turns() -> None:
    assert at((0.01, 0.6), (0.05, 0.4)) == pytest.approx(0.55)
    assert at((0.02, 0.5), (0.08, 0.4)) == pytest.approx(0.5)
    # One that is nearly as dear as the dearest, and misses little less than is allowed, is of no use.
    assert at((0.0, 1.0), (0.019, 0.98), (0.024, 0.7)) == pytest.approx(1 - 0.3 * 20 / 24)
    assert at((0.0, 0.8), (0.03, 0.9)) == 0.8


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


def folder_of(
    folder: Path,
    missed: dict[str, list[float]],
    cost: Mapping[str, float | list[float]],
    kinds: dict[str, str],
    searches: int = 1,
) -> Path:
    """A benchmark of one service and one setting a search: share missed on each world, and cost (of each search)."""
    settings: dict[str, dict[str, Any]] = {name: {"kind": kind} for name, kind in kinds.items()}
    compared = {name: settings.pop(name) for name, kind in kinds.items() if kind == "oracle" or name == "all"}
    compared |= {"all": {"kind": "fixed", "replicas": 64}} if "all" in kinds else {}
    config = {"candidates": settings, "compared": compared, "services": {"s": SERVICE}, "seeds": 1}
    config |= {"trials": 10, "training_worlds": 9, "searches": searches}
    (folder / "benchmark.json").write_text(json.dumps({**config, "allowed_slo_violation_rate": ALLOWED}))
    rows = [
        {"service": "s", "policy": name, "search": search, "kind": kinds[name], "point": 0, "chosen": True}
        | {"world": str(k)}
        | {"traffic": "ramp", "seed": 1, "duration_s": 100.0, "max_replicas": 10, "decided": 10_000}
        | {"missed": round(10_000 * share), "gpu_seconds": 1000 * of_search, "p95_ms": 1.0, "changes": 2}
        for name, shares in missed.items()
        for search, of_search in enumerate(np.atleast_1d(cost[name]).tolist(), start=1)
        for k, share in enumerate(shares)
    ]
    pd.DataFrame(rows).to_parquet(folder / ROWS)
    return folder


def test_a_network_that_corrects_a_rule_is_no_rule_and_an_oracle_neither_wins_nor_is_lost_to(tmp_path: Path) -> None:
    kinds = {"hpa": "hpa", "rule": "rule", "net": "learned", "both": "corrected", "bound": "oracle", "five": "fixed"}
    cost = {"hpa": 0.8, "rule": 0.6, "net": 0.5, "both": 0.55, "bound": 0.3, "five": 0.58}
    wins = wins_of(folder_of(tmp_path, {name: [0.01] * 5 for name in kinds}, cost, kinds))
    assert (wins["winner"], wins["best_hpa"], wins["best_rule"]) == ("net", "hpa", "rule")
    assert wins["oracles"] == ["bound"]
    assert wins["saving_vs_best_hpa_pct"] == pytest.approx(37.5)
    assert gather(tmp_path).values["loses"] == []


def test_worlds_in_which_one_does_not_hold_are_not_left_out_of_the_interval(tmp_path: Path) -> None:
    """The HPA misses far too much on one world of five: where that is drawn often, it does not hold."""
    missed = {"hpa": [0.05, 0.0, 0.0, 0.0, 0.0], "rule": [0.0] * 5}
    kinds = {"hpa": "hpa", "rule": "rule"}
    wins = wins_of(folder_of(tmp_path, missed, {"hpa": 0.8, "rule": 0.6}, kinds))
    assert wins["saving_vs_best_hpa_low_pct"] == pytest.approx(25)
    assert wins["saving_vs_best_hpa_high_pct"] is None  # more than could be told


def test_searches_that_found_other_costs_widen_the_interval_by_their_error(tmp_path: Path) -> None:
    """All worlds are the same, so what is left is the searches: of 0.60, 0.60 and 0.66, two are drawn, so that the
    dearest comes twice in a ninth of the draws (three would be in a 27th, beyond an end of the interval)."""
    kinds = {"hpa": "hpa", "rule": "rule"}
    cost = {"hpa": [0.8, 0.8, 0.8], "rule": [0.60, 0.60, 0.66]}
    missed = {name: [0.01] * 40 for name in kinds}
    folder_of(tmp_path, missed, cost, kinds, searches=3)
    wins = wins_of(tmp_path)
    rule = wins["policies"]["rule"]
    assert rule["cost_pct"] == pytest.approx(62)
    assert rule["search_error_pct"] == pytest.approx(2)
    assert wins["policies"]["hpa"]["search_error_pct"] == pytest.approx(0)
    assert wins["saving_vs_best_hpa_pct"] == pytest.approx(22.5)
    assert wins["saving_vs_best_hpa_low_pct"] == pytest.approx(17.5)
    assert wins["saving_vs_best_hpa_high_pct"] == pytest.approx(25)
    assert "over worlds and searches" in sentence(wins)
    write_report(tmp_path)
    assert "| hpa | 80.0 | 0.0 | 22.5 (17.5 to 25.0) |" in (tmp_path / "report.md").read_text()
    rows = pd.read_parquet(tmp_path / ROWS)
    rows[(rows["policy"] != "hpa") | (rows["search"] == 1)].to_parquet(tmp_path / ROWS)
    with pytest.raises(ReportError, match=r"has no run of hpa on s, search 2: run `kis benchmark` again"):
        wins_of(tmp_path)


def test_one_search_has_no_error(tmp_path: Path) -> None:
    kinds = {"hpa": "hpa", "rule": "rule"}
    wins = wins_of(folder_of(tmp_path, {name: [0.01] * 5 for name in kinds}, {"hpa": 0.8, "rule": 0.6}, kinds))
    assert wins["policies"]["rule"]["search_error_pct"] is None


def test_all_replicas_all_the_time_are_a_setting_of_every_policy(tmp_path: Path) -> None:
    """What misses too much with each of its settings could be told to hold all: its cost is known."""
    kinds = {"hpa": "hpa", "rule": "rule", "all": "fixed"}
    missed = {"hpa": [0.03] * 5, "rule": [0.01] * 5, "all": [0.0] * 5}
    wins = wins_of(folder_of(tmp_path, missed, {"hpa": 0.8, "rule": 0.6, "all": 1.0}, kinds))
    hpa = wins["policies"]["hpa"]["cost_pct"]
    assert hpa == pytest.approx(100 - 20 * 2 / 3)
    assert wins["policies"]["rule"]["cost_pct"] == pytest.approx(60)
    assert wins["saving_vs_best_hpa_pct"] == pytest.approx(100 * (1 - 60 / hpa))
    assert wins["policies"]["hpa"]["chosen"]["slo_violation_rate"] == pytest.approx(0.03)  # it is not what was chosen


def test_where_the_worlds_do_not_tell_two_apart_it_is_said(tmp_path: Path) -> None:
    kinds = {"hpa": "hpa", "rule": "rule"}
    wins = wins_of(folder_of(tmp_path, {name: [0.01] * 5 for name in kinds}, {"hpa": 0.8, "rule": 0.6}, kinds))
    assert "rule needs the fewest GPU-seconds" in sentence(wins)
    assert "not told apart" not in sentence(wins)
    assert "so they are not told apart" in sentence({**wins, "saving_vs_best_hpa_low_pct": -1.0})


def test_real_pods_say_whether_the_winner_wins_there(tmp_path: Path) -> None:
    kinds = {"hpa": "hpa", "rule": "rule"}
    folder = folder_of(tmp_path, {name: [0.01] * 5 for name in kinds}, {"hpa": 0.8, "rule": 0.6}, kinds)
    alone = wins_of(folder)
    assert alone["real_kinds"] is alone["real_signs_decided"] is alone["real_signs_agree"] is None
    assert pods_sentence(alone) == ""
    pods = folder / "pods"
    pods.mkdir()
    real = {"a": [0.7, 0.72, 0.71, 0.69], "b": [0.9, 1.1, 1.0, 1.2], "c": [0.8, 0.8, 0.81, 0.8]}
    rows = [
        {"traffic": traffic, "policy": policy, "run_id": f"{traffic}-{policy}-real-{repeat}", "valid": True}
        | {f"replica_seconds_{side}": 100 * (1 if policy == "hpa" else cost) for side in ("real", "sim")}
        | {f"slo_violation_rate_{side}": 0.01 for side in ("real", "sim")}
        for traffic, costs in real.items()
        for policy in ("hpa", "rule")
        for repeat, cost in enumerate(costs, start=1)
    ]
    for row in rows:
        row["replica_seconds_sim"] = (
            110 if (row["traffic"], row["policy"]) == ("c", "rule") else row["replica_seconds_sim"]
        )
    (pods / "differences.json").write_text(json.dumps({"rows": differences_of(rows)}))
    wins = wins_of(folder)
    assert (wins["real_kinds"], wins["real_signs_decided"], wins["real_signs_agree"]) == (3, 2, 1)
    told = pods_sentence(wins)
    assert "over 3 kinds of traffic, the replica-seconds of rule differ by" in told
    assert "Real runs decide 2 differences; the simulated ones have the same sign in 1 of them" in told
    page = write_report(folder).read_text()
    assert "rule on real pods" in page
    assert "| s | emulated | p.json | 200 | 10 |" in (folder / "report.md").read_text()
    assert "All but the last table is simulated" in (folder / "report.md").read_text()
