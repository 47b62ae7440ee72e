"""Which of two policies is cheaper, on real pods and in KISim: an experiment's differences, paired by repeat.

Runs of two policies with the same traffic and the same number of the repeat are a pair: they had the same arrivals. The
interval of one traffic is over its repeats; of all of it, over the kinds of traffic (the mean of each is one value).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from testbed.statistics import FEWEST_UNITS, mean_interval

COSTS = {"replica_seconds": "%", "slo_violation_rate": "points"}  # in per cent of the second policy's, or of requests


class Pair(NamedTuple):
    """Difference of two policies in one repeat; real and simulated."""

    real: float
    sim: float


def differences_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of pairs.json -> one entry for each two policies, in either order, and each cost: the first less the second.

    real, sim: means over the kinds of traffic, each the mean of its repeats; real_low, real_high: 90 % interval (None:
    fewer than FEWEST_UNITS kinds). kinds: the same of each, over its repeats; decided: its real interval excludes 0;
    agrees: then, whether the simulated difference has the same sign. INVALID runs are left out. Empty: nothing was
    repeated FEWEST_UNITS times.
    """
    by_run = {(row["traffic"], row["policy"], _repeat_of(row)): row for row in rows if row["valid"] is not False}
    traffics, policies = (list(dict.fromkeys(row[name] for row in rows)) for name in ("traffic", "policy"))
    repeats = sorted({repeat for _, _, repeat in by_run})
    found = []
    for first, second in permutations(policies, 2):
        for cost, unit in COSTS.items():
            kinds = []
            for traffic in traffics:
                runs = [
                    (by_run[traffic, first, repeat], by_run[traffic, second, repeat])
                    for repeat in repeats
                    if {(traffic, first, repeat), (traffic, second, repeat)} <= by_run.keys()
                ]
                if len(runs) >= FEWEST_UNITS:
                    kinds.append(_of_kind(traffic, [_difference(a, b, cost, unit) for a, b in runs]))
            if kinds:
                found.append({"first": first, "second": second, "cost": cost, "unit": unit, **_of_all(kinds)})
    return found


def _repeat_of(row: Mapping[str, Any]) -> int:
    return int(str(row["run_id"]).rpartition("-")[2])


def _difference(a: Mapping[str, Any], b: Mapping[str, Any], cost: str, unit: str) -> Pair:
    real, sim = (
        100 * (float(a[name]) / float(b[name]) - 1) if unit == "%" else 100 * (float(a[name]) - float(b[name]))
        for name in (f"{cost}_real", f"{cost}_sim")
    )
    return Pair(real, sim)


def _of_kind(traffic: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    real, sim = ([getattr(pair, side) for pair in pairs] for side in Pair._fields)
    interval = mean_interval(real)
    assert interval is not None  # there are FEWEST_UNITS of them
    decided = interval.low > 0 or interval.high < 0
    return {
        "traffic": traffic,
        "repeats": len(pairs),
        "real": float(np.mean(real)),
        "real_low": interval.low,
        "real_high": interval.high,
        "sim": float(np.mean(sim)),
        "decided": decided,
        "agrees": bool(np.sign(np.mean(sim)) == np.sign(np.mean(real))) if decided else None,
    }


def _of_all(kinds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    interval = mean_interval([kind["real"] for kind in kinds])
    return {
        "real": float(np.mean([kind["real"] for kind in kinds])),
        "real_low": None if interval is None else interval.low,
        "real_high": None if interval is None else interval.high,
        "sim": float(np.mean([kind["sim"] for kind in kinds])),
        "decided": sum(kind["decided"] for kind in kinds),
        "agree": sum(kind["agrees"] is True for kind in kinds),
        "kinds": list(kinds),
    }
