"""Does what wins in the simulator win on the real service? An experiment's policies, by their costs on both."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from testbed.reporting.experiment import correlation, means_of_pairs, pairs_within, pearson_of

COSTS = ("slo_violation_rate", "replica_seconds")


def transfer_of(rows: Sequence[Mapping[str, Any]], experiment: str, fixed: Collection[str]) -> dict[str, Any]:
    """transfer.json: one row for each policy and pattern, means of its real and of its simulated repeats, and how they
    correlate (Pearson).

    in_order: share of the pairs of policies under the same pattern that differ on both sides, in which both agree on
    who is better; in_order_beyond_spread: of those whose real runs do not overlap. runs: the folders, in the
    experiment's, that a row is computed from. real_repeats: the same figures of the first real runs against the second
    ones: how well the real system predicts itself; None: no second ones.
    pairs: how many; p95_within_10_pct, replica_seconds_within_5_pct: how many of them are that near, real and simulated
    mean. without_fixed: correlations over the pairs of policies that do scale. fixed: the names of those that do not.
    """
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        pairs.setdefault((row["traffic"], row["policy"]), []).append(row)
    means, repeated = [], []
    for (pattern, policy), pair in pairs.items():
        mean: dict[str, Any] = {"policy": policy, "pattern": pattern}
        for name in COSTS:
            mean[f"{name}_real"] = float(np.mean([row[f"{name}_real"] for row in pair]))
            mean[f"{name}_sim"] = float(np.mean([row[f"{name}_sim"] for row in pair]))
            mean[f"{name}_real_runs"] = [float(row[f"{name}_real"]) for row in pair]
        mean["valid"] = all(row["valid"] is True for row in pair)
        if len(pair) > 1:
            repeated.append({"policy": policy, "pattern": pattern, "traffic": pattern} | _against_each_other(*pair[:2]))
        mean["runs"] = [f"runs/{row[key]}" for row in pair for key in ("run_id", "simulated")]
        means.append(mean)
    return {
        "experiment": experiment,
        "policies": list(dict.fromkeys(row["policy"] for row in means)),
        **_agreement(rows, means),
        **{f"in_order_beyond_spread_{name}": in_order(means, name, beyond_spread=True) for name in COSTS},
        **_nearness(rows, fixed),
        "real_repeats": _agreement(repeated, repeated) | _nearness(repeated, fixed) if repeated else None,
        "rows": means,
    }


def _against_each_other(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two real runs as if the second were the simulated one."""
    sides = {"real": first, "sim": second}
    return {f"{name}_{side}": run[f"{name}_real"] for side, run in sides.items() for name in ("p95_ms", *COSTS)}


def _agreement(rows: Sequence[Mapping[str, Any]], means: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Of an experiment's rows, and of their means by policy and pattern."""
    return {f"pearson_{name}": pearson_of(rows, name) for name in COSTS} | {
        f"in_order_{name}": in_order(means, name) for name in COSTS
    }


def _nearness(rows: Sequence[Mapping[str, Any]], fixed: Collection[str]) -> dict[str, Any]:
    """How near the pairs' means are, and how both sides go together over the policies that do scale."""
    scaled = [row for row in rows if row["policy"] not in fixed]
    kinds: tuple[Literal["pearson", "spearman"], ...] = ("pearson", "spearman")
    correlations = {
        f"{kind}_{name}": correlation(kind, means_of_pairs(scaled, name)) for name in COSTS for kind in kinds
    }
    return {
        "pairs": pairs_within(rows, "replica_seconds")["pairs"],
        "p95_within_10_pct": pairs_within(rows, "p95_ms")["within"],
        "replica_seconds_within_5_pct": pairs_within(rows, "replica_seconds")["within"],
        "without_fixed": correlations,
    }


def in_order(rows: Sequence[Mapping[str, Any]], name: str, *, beyond_spread: bool = False) -> float | None:
    """See transfer_of; None: no two policies differ on both sides."""
    agree = [
        (row[f"{name}_real"] < other[f"{name}_real"]) == (row[f"{name}_sim"] < other[f"{name}_sim"])
        for k, row in enumerate(rows)
        for other in rows[k + 1 :]
        if row["pattern"] == other["pattern"]
        and not any(_equal(row[f"{name}_{side}"], other[f"{name}_{side}"]) for side in ("real", "sim"))
        and not (beyond_spread and _overlap(row[f"{name}_real_runs"], other[f"{name}_real_runs"]))
    ]
    return sum(agree) / len(agree) if agree else None


def _equal(first: float, other: float) -> bool:
    """But for how sums are rounded: that would be an order that nothing has decided."""
    return math.isclose(first, other, rel_tol=1e-9, abs_tol=1e-12)


def _overlap(first: Sequence[float], other: Sequence[float]) -> bool:
    return max(min(first), min(other)) <= min(max(first), max(other))
