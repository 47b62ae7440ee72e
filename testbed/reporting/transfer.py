"""Does what wins in the simulator win on the real service? An experiment's policies, by their costs on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.reporting.experiment import srcc_of

COSTS = {"slo_miss": "missed_share", "replica_seconds": "replica_seconds"}  # name here -> in an experiment's rows


def transfer_of(rows: Sequence[Mapping[str, Any]], experiment: str) -> dict[str, Any]:
    """transfer.json: one row for each policy and pattern, means of its real and of its simulated repeats, and the SRCC.

    in_order: share of the pairs of policies under the same pattern that differ on both sides, in which both agree on
    who is better. runs: the folders, in the experiment's, that a row is computed from.
    """
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        pairs.setdefault((row["traffic"], row["policy"]), []).append(row)
    told = []
    for (pattern, policy), mine in pairs.items():
        one: dict[str, Any] = {"policy": policy, "pattern": pattern}
        for name, key in COSTS.items():
            one[f"{name}_real"] = float(np.mean([row[f"{key}_real"] for row in mine]))
            one[f"{name}_sim"] = float(np.mean([row[f"{key}_sim"] for row in mine]))
        one["valid"] = all(row["valid"] is True for row in mine)
        one["runs"] = [f"runs/{row[key]}" for row in mine for key in ("run_id", "simulated")]
        told.append(one)
    return {
        "experiment": experiment,
        "policies": list(dict.fromkeys(row["policy"] for row in told)),
        **{f"srcc_{name}": srcc_of(rows, key) for name, key in COSTS.items()},
        **{f"in_order_{name}": in_order(told, name) for name in COSTS},
        "rows": told,
    }


def in_order(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """See transfer_of; None: no two policies differ on both sides."""
    agree = [
        (one[f"{name}_real"] < other[f"{name}_real"]) == (one[f"{name}_sim"] < other[f"{name}_sim"])
        for k, one in enumerate(rows)
        for other in rows[k + 1 :]
        if one["pattern"] == other["pattern"]
        and one[f"{name}_real"] != other[f"{name}_real"]
        and one[f"{name}_sim"] != other[f"{name}_sim"]
    ]
    return sum(agree) / len(agree) if agree else None
