"""Where a run of an experiment missed, and why: small runs whose every request and pod is known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from testbed.autoscaling.simulated import Look
from testbed.reporting.missed import INTERVAL_S, Pods, intervals_of, looks_of, missed_of, total_of, why_text

TARGET_S = 0.2


def requests(scheduled_s: list[float], latency_s: list[float]) -> Any:
    """As a RequestLog. A latency of inf: never answered."""
    scheduled, latency = np.array(scheduled_s), np.array(latency_s)
    ended = np.where(np.isinf(latency), np.nan, scheduled + latency)
    columns = {"scheduled_ns": scheduled, "completed_ns": ended}
    return SimpleNamespace(seconds=columns.__getitem__, missed=lambda target_s: ~(latency <= target_s))


def steps(*pairs: tuple[float, float]) -> Any:
    return tuple(np.array(column, dtype=float) for column in zip(*pairs, strict=True))


ONE = steps((0, 1))
NONE = steps((0, 0))


def test_a_request_arrives_when_scheduled_and_misses_at_its_deadline() -> None:
    log = requests([0.5, 1.9, 2.5, 5.0], [0.1, 0.3, float("inf"), 0.1])
    found = intervals_of(log, Pods(ONE, ONE, NONE), 6.0, TARGET_S)
    assert [one.arrived for one in found] == [2, 1, 1, 0]
    assert [one.missed for one in found] == [0, 2, 0, 0]  # the second one's deadline is at 2.1 s
    assert [one.waiting for one in found] == [1, 1, 1, 1]  # at 2 s the second, from then on the one without an answer
    assert [one.end_s - one.start_s for one in found] == [INTERVAL_S] * 4


def test_pods_count_as_asked_for_at_the_end_and_as_ready_from_the_start() -> None:
    asked, ready, pending = steps((0, 2), (3, 4)), steps((0, 2), (5, 4)), steps((1, 0), (3.5, 2), (4.5, 0))
    found = intervals_of(requests([], []), Pods(asked, ready, pending), 8.0, TARGET_S)
    assert [one.asked for one in found] == [2, 4, 4, 4, 4]
    assert [one.ready for one in found] == [2, 2, 2, 4, 4]
    assert [one.pending for one in found] == [0, 2, 0, 0, 0]


def test_causes_are_told_with_their_share_of_all_misses() -> None:
    """Pods that start from 4 to 10 s; at 50 s nobody asks for more; one miss of many at 80 s is scattered."""
    late = [(at, 1.0) for at in np.arange(4.1, 9.9, 0.1)]
    alone = [(at, 1.0) for at in np.arange(50.1, 51.5, 0.1)]
    good = [(at, 0.1) for at in np.arange(80.0, 81.9, 0.05)]
    all_of = sorted([*late, *alone, *good, (81.0, 1.0)])
    log = requests([at for at, _ in all_of], [took for _, took in all_of])
    pods = Pods(steps((0, 1), (4, 3)), steps((0, 1), (11, 3)), NONE)
    found = missed_of(log, pods, [Look(4.0, 1, 3, "", None)], 90.0, TARGET_S, 8)
    assert [one.cause for one in found.episodes] == ["starting", "nothing asked"]
    assert (total_of(found), found.scattered) == (len(late) + len(alone) + 1, 1)
    share = 100 * len(late) / total_of(found)
    assert why_text([found]) == f"pods were starting {share:.0f} %, no more pods were asked for {98.6 - share:.0f} %"
    assert why_text([found, found]) == why_text([found])
    assert why_text([]) == ""


@pytest.mark.parametrize("known", [True, False])
def test_a_journal_tells_every_look_and_changes_are_what_is_left_without_one(tmp_path: Path, known: bool) -> None:
    turn = {"time_s": 105.0, "spec_replicas": 2, "replicas": None, "reason": "calm", "refusal": ""}
    changed = {**turn, "time_s": 107.0, "replicas": 3, "refusal": "at most one"} | ({"load": 1.4} if known else {})
    silent = {**turn, "spec_replicas": None}
    lines = [json.dumps(each) for each in (turn, silent, changed)]
    (tmp_path / "controller.jsonl").write_text("\n".join([*lines, '{"time_s": 1']))
    assert looks_of(tmp_path, [], 100.0) == [
        Look(5.0, 2, 2, "calm"),
        Look(7.0, 2, 3, "at most one", 1.4 if known else None),
    ]
    old = {**turn, "held": "metrics are old"}
    del old["refusal"]
    (tmp_path / "controller.jsonl").write_text(json.dumps(old) + "\n")
    assert looks_of(tmp_path, [], 100.0) == [Look(5.0, 2, 2, "metrics are old")]
    decision = {"time_s": 7.0, "model": "m", "before": 2, "wanted": 3, "reason": "above"}
    assert looks_of(tmp_path / "none", [decision], 100.0) == [Look(7.0, 2, 3, "above")]
