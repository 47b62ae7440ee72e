"""An evaluation in numbers: each policy beside the baseline, run by run, and which of them no other one beats.

Everything comes from the folder's logs (measurement/scaling_log.py); evaluate.json only says what is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadgen.artifact import read_json
from testbed.errors import ReportError
from testbed.measurement.latency_histogram import quantile_of
from testbed.measurement.misses import slo_violation_rate
from testbed.measurement.scaling_log import COST, ScalingLog, histogram_of
from testbed.statistics import bootstrap_interval, mean_interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Rows = Sequence[Mapping[str, Any]]
Histograms = dict[tuple[str, str], IntArray]  # of latency, all runs of a policy on one traffic: by traffic and policy


def log_name(traffic: str, policy: str) -> str:
    """Of the log of a policy on one traffic, in its evaluation's folder."""
    return f"logs/{traffic}/{policy}.parquet"


def recomputed(folder: Path) -> dict[str, Any]:
    """evaluation.json's content, from the logs alone. ArtifactError or ReportError if a run is missing.

    The headline is the challenger's: gpu_seconds_saving_vs_tuned_hpa_pct with its interval, and
    slo_violation_rate_difference (challenger's rate less the baseline's). The baseline is what the configuration says;
    it is a tuned HPA if that is.
    """
    config = read_json(folder / "evaluate.json", "give a folder of `kis evaluate`")
    rows, oracles = [], dict.fromkeys(config["policies"], True)
    histograms: Histograms = {}
    for traffic in config["traffic"]:
        for policy in config["policies"]:
            name = log_name(traffic, policy)
            log = ScalingLog.read(folder / name)
            if len(log.seeds) < config["seeds"]:
                raise ReportError(
                    f"{folder / name} has {len(log.seeds)} of {config['seeds']} runs: run `kis evaluate` again with "
                    f"--out {folder}"
                )
            oracles[policy] &= log.provenance["policy"]["kind"] == "oracle"
            runs = {seed: log.run(seed) for seed in log.seeds}
            rows += [row_of(traffic, policy, seed, run, name) for seed, run in runs.items()]
            histograms[traffic, policy] = np.sum([histogram_of(run) for run in runs.values()], axis=0)
    oracle = next((policy for policy, is_one in oracles.items() if is_one), None)
    objective, currency = config.get("objective", "gpu_seconds"), config["cluster"].get("currency")
    summary = summary_of(rows, config["baseline"], config["challenger"], oracle, histograms, objective)
    of_money = {} if currency is None else {"objective": objective, "currency": currency}
    return {**summary, **of_money, "rows": rows}


def row_of(traffic: str, policy: str, seed: int, run: pd.DataFrame, log: str) -> dict[str, Any]:
    """One run in numbers. None: nothing was answered (p95_ms), or sent (slo_violation_rate), or power is not known."""
    last = run.iloc[-1]
    histogram = histogram_of(run)
    return {
        "traffic": traffic,
        "policy": policy,
        "seed": seed,
        "requests": int(last["arrived"]),
        "waiting": int(last["arrived"] - last["ok"] - last["error"] - last["timeout"] - last["dropped"]),
        "slo_violation_rate": slo_violation_rate(int(last["missed"]), int(last["decided"])),
        "p95_ms": 1e3 * quantile_of(histogram, 0.95) if histogram.any() else None,
        "gpu_seconds": int(last["gpu_us"]) / 1e6,
        **({"cost": int(last[COST]) / 1e6} if COST in run else {}),
        "changes": int(last["changes"]),
        "energy_j": None if pd.isna(last["energy_mj"]) else int(last["energy_mj"]) / 1e3,
        "log": log,
    }


def summary_of(
    rows: Rows,
    baseline: str,
    challenger: str,
    oracle: str | None,
    histograms: Histograms,
    objective: str = "gpu_seconds",
) -> dict[str, Any]:
    """Means of each policy, its paired differences from the baseline with 90 % intervals, and the Pareto front.

    saving_pct: of GPU-seconds, in per cent of the baseline's, all runs together; saving_mean_over_kinds_pct: mean of
    the savings of each kind of traffic. Intervals: kinds of traffic are drawn again, with all their seeds; None: there
    are fewer than three. p95_ms: of the answered requests of all runs together. per_traffic: the same for each traffic,
    over its seeds. distance_to_oracle_pct: GPU-seconds beyond the oracle's, in per cent of those; not there without an
    oracle. objective: what is compared in place of GPU-seconds: `cost` is money.
    """
    summaries = _policies(rows, baseline, histograms, objective)
    points = np.array([[each["slo_violation_rate"], each[objective]] for each in summaries.values()])
    best = front(points)
    headline = summaries[challenger]
    traffics = list(dict.fromkeys(row["traffic"] for row in rows))
    summary = {
        f"{objective}_saving_vs_tuned_hpa_pct": headline["saving_pct"],
        "interval_low_pct": headline["saving_low_pct"],
        "interval_high_pct": headline["saving_high_pct"],
        "mean_over_kinds_pct": headline["saving_mean_over_kinds_pct"],
        "interval_over": "kinds of traffic" if len(traffics) > 1 else "seeds",
        "slo_violation_rate_difference": headline["slo_violation_rate_difference"],
        "simulated": True,
        "baseline": baseline,
        "challenger": challenger,
        "policies": summaries,
        "per_traffic": {
            traffic: _policies([row for row in rows if row["traffic"] == traffic], baseline, histograms, objective)
            for traffic in traffics
        },
        "pareto_front": [policy for policy, on in zip(summaries, best, strict=True) if on],
        "hypervolume": hypervolume(points),
    }
    if oracle is not None:
        summary["distance_to_oracle_pct"] = {
            policy: _distance(_sums(rows, policy, oracle, objective)) for policy in summaries if policy != oracle
        }
    return summary


def _policies(rows: Rows, baseline: str, histograms: Histograms, objective: str) -> dict[str, dict[str, Any]]:
    """Each policy's figures over these rows, in the order in which they come."""
    summaries = {}
    for policy in dict.fromkeys(row["policy"] for row in rows):
        own = [row for row in rows if row["policy"] == policy]
        table = table_of(own, policy)
        summaries[policy] = {
            "slo_violation_rate": float(table[:, 0].mean()),
            "gpu_seconds": float(table[:, 1].mean()),
            **(
                {"cost": float(table_of(own, policy, "cost")[:, 1].mean())} if all("cost" in row for row in own) else {}
            ),
            "p95_ms": _p95_ms([histograms[of] for of in dict.fromkeys((row["traffic"], policy) for row in own)]),
            "energy_j": _mean_if_known([row["energy_j"] for row in own]),
            "changes": float(np.mean([row["changes"] for row in own])),
            **_paired(rows, policy, baseline, objective),
        }
    return summaries


def _p95_ms(histograms: Sequence[IntArray]) -> float | None:
    """Of the answered requests of all runs together; None: none was answered. A mean of P95s would be no P95."""
    together = np.sum(histograms, axis=0)
    return 1e3 * quantile_of(together, 0.95) if together.any() else None


def _mean_if_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def table_of(rows: Rows, policy: str, objective: str = "gpu_seconds") -> FloatArray:
    """float[n, 2]: share missed and GPU-seconds, or money, of a policy's runs, in the order of traffic and seed."""
    own = sorted((row for row in rows if row["policy"] == policy), key=lambda row: (row["traffic"], row["seed"]))
    return np.array(
        [[1.0 if row["slo_violation_rate"] is None else row["slo_violation_rate"], row[objective]] for row in own]
    )


class Sums(NamedTuple):
    """Of each unit of a comparison, float64[units]: sums over its pairs of runs, and how many those are.

    A unit is a kind of traffic with all its seeds, or one seed where there is one kind only.
    """

    pairs: FloatArray
    spent: FloatArray  # GPU-seconds, or money
    their_spent: FloatArray
    more_missed: FloatArray  # shares, mine less theirs

    def more_pct(self, units: IntArray) -> FloatArray:
        """GPU-seconds beyond theirs, in per cent of those, of units drawn int64[..., n]."""
        ours, theirs = self.spent[units].sum(axis=-1), self.their_spent[units].sum(axis=-1)
        return np.asarray(100 * (ours / theirs - 1))

    def missed_difference(self, units: IntArray) -> FloatArray:
        """Mean over the pairs of runs."""
        return np.asarray(self.more_missed[units].sum(axis=-1) / self.pairs[units].sum(axis=-1))


def _sums(rows: Rows, policy: str, other: str, objective: str) -> Sums:
    own, theirs = table_of(rows, policy, objective), table_of(rows, other, objective)
    ordered = sorted({(row["traffic"], row["seed"]) for row in rows if row["policy"] == policy})
    kinds = [traffic for traffic, _ in ordered]
    units = kinds if len(set(kinds)) > 1 else list(range(len(ordered)))
    number = np.unique(np.array(units), return_inverse=True)[1]
    columns = (np.ones(len(own)), own[:, 1], theirs[:, 1], own[:, 0] - theirs[:, 0])
    return Sums(*(np.bincount(number, weights=column).astype(np.float64) for column in columns))


def _paired(rows: Rows, policy: str, baseline: str, objective: str) -> dict[str, float | None]:
    sums = _sums(rows, policy, baseline, objective)
    more, least, most = _more_pct(sums)
    difference, low, high = _with_interval(len(sums.pairs), sums.missed_difference)
    by_unit = _less_of_units(sums)
    spread = None if by_unit is None else mean_interval(by_unit)
    return {
        "saving_pct": _less(more),
        "saving_low_pct": _less(most),
        "saving_high_pct": _less(least),
        "saving_mean_over_kinds_pct": None if by_unit is None else float(by_unit.mean()),
        "saving_mean_over_kinds_low_pct": spread.low if spread else None,
        "saving_mean_over_kinds_high_pct": spread.high if spread else None,
        "slo_violation_rate_difference": difference,
        "slo_violation_rate_difference_low": low,
        "slo_violation_rate_difference_high": high,
    }


def _less_of_units(sums: Sums) -> FloatArray | None:
    """The saving in each unit by itself, in per cent; None: one held nothing at all."""
    if (sums.their_spent <= 0).any():
        return None
    return np.asarray(0.0 - sums.more_pct(np.arange(len(sums.pairs))[:, None]))


def _distance(sums: Sums) -> dict[str, float | None]:
    value, low, high = _more_pct(sums)
    return {"value": value, "low": low, "high": high}


def _more_pct(sums: Sums) -> tuple[float | None, float | None, float | None]:
    """GPU-seconds beyond theirs, in per cent of those, with its interval; None: they held nothing at all."""
    if (sums.their_spent <= 0).any():
        return None, None, None
    return _with_interval(len(sums.pairs), sums.more_pct)


def _less(value: float | None) -> float | None:
    return None if value is None else 0.0 - value  # never a negative zero


def _with_interval(units: int, statistic: Callable[[IntArray], FloatArray]) -> tuple[float, float | None, float | None]:
    """A statistic and its 90 % interval; None: too few units for one."""
    interval = bootstrap_interval(units, statistic)
    return float(statistic(np.arange(units))), *(interval or (None, None))


def front(points: FloatArray) -> npt.NDArray[np.bool_]:
    """bool[n]: no other point is as good in both columns and better in one. Less is better."""
    as_good = np.all(points[None] <= points[:, None], axis=2)
    better = np.any(points[None] < points[:, None], axis=2)
    return np.asarray(~np.any(as_good & better, axis=1))


def hypervolume(points: FloatArray) -> float:
    """Share of the box between the origin and the worst of each column that the front dominates (two columns)."""
    worst = points.max(axis=0)
    if (worst <= 0).any():
        return 0.0
    ordered = points[front(points)] / worst
    ordered = ordered[np.argsort(ordered[:, 0])]
    edges = np.append(ordered[:, 0], 1.0)
    return float(np.sum(np.diff(edges) * (1.0 - np.minimum.accumulate(ordered[:, 1]))))
