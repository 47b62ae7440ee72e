"""Where one run of an experiment missed its target, and why: from its own files, real and simulated alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loadgen.artifact import read_json_lines
from loadgen.request_log import RequestLog
from testbed.autoscaling.post_mortem import Interval, PostMortem, post_mortem
from testbed.autoscaling.simulated import Look

FloatArray = npt.NDArray[np.float64]
Steps = tuple[FloatArray, FloatArray]  # seconds, and what holds from then on

INTERVAL_S = 2.0  # less than a start-up takes
SHOWN = 5  # times of a run
CAUSES = {
    "starting": "pods were starting",
    "lost": "pods were lost",
    "node": "pods waited for a node",
    "no room": "no node had room",
    "early": "scaled down too early",
    "max": "at the most replicas",
    "tolerance": "within the tolerance",
    "stabilised": "held by a stabilisation window",
    "limited": "held by a scaling policy",
    "missing": "the metric was missing",
    "budget": "held by the budget",
    "lagging": "the metric lagged",
    "below": "the metric was below its target",
    "late": "decided late",
    "nothing asked": "no more pods were asked for",
}


def total_of(told: PostMortem) -> int:
    """Misses of the whole run."""
    return sum(one.missed for one in told.episodes) + told.others + told.scattered


def why_text(runs: Iterable[PostMortem]) -> str:
    """Main causes of these runs' misses, with their shares of all, the largest first; "" if there were none."""
    runs = list(runs)
    total, found = sum(map(total_of, runs)), Counter[str]()
    for run in runs:
        for one in run.episodes:
            found[CAUSES[one.cause]] += one.missed
    return ", ".join(f"{cause} {100 * missed / total:.0f} %" for cause, missed in found.most_common())


class Pods(NamedTuple):
    """Over a run: seconds, and the number from then on. pending: those that no node had room for, as sampled."""

    asked: Steps
    ready: Steps
    pending: Steps


def missed_of(
    requests: RequestLog, pods: Pods, looks: Sequence[Look], duration_s: float, target_s: float, most: int
) -> PostMortem:
    """most: replicas that there may be. A request misses at its deadline, answered later or not."""
    return post_mortem(intervals_of(requests, pods, duration_s, target_s), looks, most, SHOWN)


def intervals_of(requests: RequestLog, pods: Pods, duration_s: float, target_s: float) -> list[Interval]:
    """Of INTERVAL_S each, up to the last deadline. A pod that becomes ready within one counts from the next on."""
    scheduled_s = requests.seconds("scheduled_ns")
    edges = np.arange(0.0, duration_s + target_s + INTERVAL_S, INTERVAL_S)
    arrived = np.histogram(scheduled_s, edges)[0]
    missed = np.histogram(scheduled_s[requests.missed(target_s)] + target_s, edges)[0]
    asked, ready, pending = _at(pods.asked, edges[1:]), _at(pods.ready, edges[:-1]), _at(pods.pending, edges[1:])
    waiting = _without_answer(requests, edges[1:])
    return [
        Interval(
            float(edges[k]),
            float(edges[k + 1]),
            int(arrived[k]),
            int(missed[k]),
            int(asked[k]),
            int(ready[k]),
            int(pending[k]),
            waiting=int(waiting[k]),
        )
        for k in range(len(edges) - 1)
    ]


def looks_of(folder: Path, decisions: Sequence[dict[str, Any]], start_unix_s: float) -> list[Look]:
    """What the scaler saw each time, by its journal if it keeps one, else its changes only.

    In journals of before November 2026 `held` has what `refusal` has since.
    """
    journal = folder / "controller.jsonl"
    if not journal.exists():
        return [Look(one["time_s"], one["before"], one["wanted"], one["reason"]) for one in decisions]
    turns = read_json_lines(journal, "make the run again")
    return [
        Look(
            turn["time_s"] - start_unix_s,
            turn["spec_replicas"],
            turn["spec_replicas"] if turn["replicas"] is None else turn["replicas"],
            turn.get("refusal", turn.get("held")) or turn["reason"],
            turn.get("load"),
            turn.get("held") if "refusal" in turn else None,
        )
        for turn in turns
        if turn["spec_replicas"] is not None
    ]


def _at(steps: Steps, times_s: FloatArray) -> FloatArray:
    """The number at each time; the first one for times before it."""
    place = np.searchsorted(steps[0], times_s, side="right") - 1
    return np.asarray(steps[1][place.clip(min=0)])


def _without_answer(requests: RequestLog, times_s: FloatArray) -> npt.NDArray[np.int64]:
    """int64: requests that were scheduled until then and had no answer yet; some never have one."""
    ended_s = np.nan_to_num(requests.seconds("completed_ns"), nan=np.inf)
    begun = np.searchsorted(np.sort(requests.seconds("scheduled_ns")), times_s, side="right")
    return np.asarray(begun - np.searchsorted(np.sort(ended_s), times_s, side="right"))
