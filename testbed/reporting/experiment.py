"""An experiment in numbers: each real run beside its simulated one, and how well the costs of policies agree.

Everything is computed from the run folders alone. The sim-vs-real correlation coefficient is Pearson's r between a
policy's real and simulated cost (Kadian et al. 2020, "Sim2Real Predictivity").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from loadgen.artifact import read_json
from loadgen.request_log import RequestLog
from testbed.autoscaling.post_mortem import PostMortem
from testbed.errors import ReportError
from testbed.measurement.metric_log import MetricLog
from testbed.reporting.compare import quantile_ms
from testbed.reporting.loading import LoadedRun, load_run
from testbed.reporting.missed import Pods, looks_of, missed_of
from testbed.statistics import next_interval, relative_error_pct, spread_pct

FloatArray = npt.NDArray[np.float64]
READY = ("ready", "serving")  # of a real pod, of a simulated one
AGAIN = "run `kis experiment` again"
COSTS = ("p95_ms", "slo_violation_rate", "replica_seconds")
BARS_PCT = {
    "p95_ms": 10.0,
    "replica_seconds": 5.0,
}  # how far a pair's simulated mean should be from the real one at most


class Cost(NamedTuple):
    """What one run cost. slo_violation_rate: of all requests, over the target or not answered. Replica-seconds: of all
    pods from asked for to gone, within the schedule's span."""

    requests: int
    errors: int  # timeouts too
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    slo_violation_rate: float
    replica_seconds: float
    changes: int


@dataclass(frozen=True)
class ExperimentRun:
    """One run, real or simulated."""

    run: LoadedRun
    decisions: list[dict[str, Any]]
    cost: Cost
    draws: list[dict[str, Any]]  # costs of all simulated runs (see simulate_pair); empty: a real run
    adaptation: list[dict[str, Any]]  # its steps; none if the policy is not adapted, or there was nothing to do
    faults: list[dict[str, Any]]  # that were made to happen, of a real run
    missed: PostMortem  # where it missed its target, and why


@dataclass(frozen=True)
class PairOfRuns:
    """One traffic under one policy: the real runs, and a simulated one for each."""

    traffic: str
    policy: str
    real: tuple[ExperimentRun, ...]
    sim: tuple[ExperimentRun, ...]


@dataclass(frozen=True)
class Experiment:
    """Everything that the folder holds."""

    name: str
    config: dict[str, Any]
    target_s: float
    pairs: tuple[PairOfRuns, ...]


def read_experiment(folder: Path) -> Experiment:
    """ArtifactError or ReportError if something is missing. Pairs that have not been run are left out."""
    config = read_json(folder / "experiment.json", AGAIN)
    target_s = float(config["cluster"]["models"][0]["latency_target_s"])
    pairs = []
    for traffic in config["traffic"]:
        for policy in config["policies"]:
            both = [
                [folder / "runs" / f"{traffic}-{policy}-{kind}-{k}" for kind in ("real", "sim")]
                for k in range(1, config["repeats"] + 1)
            ]
            done = [
                [_side(path, target_s, most_of(config, policy)) for path in paths]
                for paths in both
                if all((path / "decisions.json").exists() for path in paths)
            ]
            if done:
                real, sim = zip(*done, strict=True)
                pairs.append(PairOfRuns(traffic, policy, real, sim))
    if not pairs:
        raise ReportError(f"{folder} has no pair of a real and a simulated run yet: run `kis experiment` again")
    return Experiment(folder.resolve().name, config, target_s, tuple(pairs))


def most_of(config: dict[str, Any], policy: str) -> int:
    """Replicas that this policy may ask for."""
    most = int(config["cluster"]["models"][0]["max_replicas"])
    return min(most, int(config["policies"][policy].get("max_replicas") or most))


def _side(path: Path, target_s: float, most: int) -> ExperimentRun:
    run, decisions = load_run(path), read_json(path / "decisions.json", AGAIN)
    if run.metrics is None:
        raise ReportError(f"{path} has no metrics.parquet: make the run again")
    cost = cost_of(run.requests, run.metrics, run.manifest.duration_s, len(decisions), target_s)
    draws, adaptation, faults = (
        read_json(file, AGAIN) if (file := path / f"{name}.json").exists() else []
        for name in ("draws", "adaptation", "faults")
    )
    looks = looks_of(path, decisions, (run.manifest.start_unix_ns or 0) / 1e9)
    missed = missed_of(run.requests, pods_of(run, decisions), looks, run.manifest.duration_s, target_s, most)
    return ExperimentRun(run, decisions, cost, draws, adaptation, faults, missed)


def pods_of(run: LoadedRun, decisions: Sequence[Mapping[str, Any]]) -> Pods:
    """Of a run with metrics: asked for and ready as told, pending as sampled."""
    assert run.metrics is not None
    pending = run.metrics.select("deployment", "pending_replicas").sort_values("time_s", kind="stable")
    return Pods(
        asked_replicas(run, decisions),
        ready_replicas(run.metrics, run.manifest.duration_s),
        (pending["time_s"].to_numpy(), pending["value"].to_numpy()),
    )


def asked_replicas(run: LoadedRun, decisions: Sequence[Mapping[str, Any]]) -> tuple[FloatArray, FloatArray]:
    """Steps of the number of replicas that the scaler asked for: as `ready_replicas`."""
    duration_s = run.manifest.duration_s
    changes = [decision for decision in decisions if decision["time_s"] <= duration_s]
    counts = [run.manifest.service.replicas, *(change["wanted"] for change in changes)]
    times = [0.0, *(change["time_s"] for change in changes), duration_s]
    return np.array(times), np.array([*counts, counts[-1]], dtype=float)


def cost_of(requests: RequestLog, metrics: MetricLog, duration_s: float, changes: int, target_s: float) -> Cost:
    """Of one run."""
    latency_s, missed = requests.latency_s, requests.missed(target_s)
    return Cost(
        requests=len(requests),
        errors=int((~requests.ok).sum()),
        p50_ms=quantile_ms(latency_s, 0.50),
        p95_ms=quantile_ms(latency_s, 0.95),
        p99_ms=quantile_ms(latency_s, 0.99),
        slo_violation_rate=float(missed.mean()) if len(missed) else 0.0,
        replica_seconds=replica_seconds(metrics, duration_s),
        changes=changes,
    )


def replica_seconds(metrics: MetricLog, duration_s: float) -> float:
    """Pod-seconds within [0, duration_s], from a pod's first state until it is gone."""
    total = 0.0
    for _, samples in metrics.select("replica", "state").groupby("replica", sort=False):
        gone = samples.loc[samples["state"] == "gone", "time_s"]
        end_s = min(duration_s, float(gone.min())) if len(gone) else duration_s
        total += max(0.0, end_s - max(0.0, float(samples["time_s"].min())))
    return total


def ready_replicas(metrics: MetricLog, duration_s: float) -> tuple[FloatArray, FloatArray]:
    """Steps of the number of ready pods: seconds, count from then on; the first at 0, the last at duration_s."""
    rows = metrics.select("replica", "state").sort_values("time_s", kind="stable")
    ready: dict[str, bool] = {}
    times, counts = [0.0], [0]
    for time_s, replica, state in zip(rows["time_s"], rows["replica"], rows["state"], strict=True):
        ready[replica] = state in READY
        count = sum(ready.values())
        if time_s <= 0:
            counts[0] = count
        elif count != counts[-1] and time_s <= duration_s:
            times.append(float(time_s))
            counts.append(count)
    return np.array([*times, duration_s]), np.array([*counts, counts[-1]], dtype=float)


def rows_of(experiment: Experiment) -> list[dict[str, Any]]:
    """One row a real run: both costs, and the errors of the simulated one in per cent of the real.

    A simulated cost is the mean of all simulated runs: what is to be expected of the next real one. Where a policy goes
    one of two ways, a middle run would be one of them.
    """
    rows = []
    for pair in experiment.pairs:
        spread = {name: spread_pct([getattr(side.cost, name) for side in pair.real]) for name in COSTS}
        for side, counterpart in zip(pair.real, pair.sim, strict=True):
            verdict = side.run.manifest.verdict
            row: dict[str, Any] = {
                "traffic": pair.traffic,
                "policy": pair.policy,
                "run_id": side.run.manifest.run_id,
                "simulated": counterpart.run.manifest.run_id,
                "valid": None if verdict is None else verdict.valid,
                "requests": side.cost.requests,
            }
            for name in ("errors", "changes", "p50_ms", "p95_ms", "p99_ms", "slo_violation_rate", "replica_seconds"):
                row[f"{name}_real"], row[f"{name}_sim"] = getattr(side.cost, name), _mean(counterpart, name)
            for name in ("p50_ms", "p95_ms", "p99_ms", "replica_seconds"):
                row[f"{name}_error_pct"] = relative_error_pct(row[f"{name}_sim"], row[f"{name}_real"])
            row |= {f"{name}_spread_pct": value for name, value in spread.items()}
            for name in COSTS:
                row[f"{name}_sim_low"], row[f"{name}_sim_high"] = _range_of(counterpart.draws, name)
            rows.append(row)
    return rows


def summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and worst errors, and Pearson's r of each cost over all pairs, and over the policies of each traffic."""
    traffics = list(dict.fromkeys(row["traffic"] for row in rows))
    return {
        "real_runs": len(rows),
        "errors_pct": {name: _errors(rows, name) for name in ("p50_ms", "p95_ms", "p99_ms", "replica_seconds")},
        "pairs": {name: pairs_within(rows, name) for name in BARS_PCT},
        "within_simulated_range": {name: _within(rows, name) for name in COSTS},
        "pearson": {
            name: {"all": pearson_of(rows, name)}
            | {traffic: pearson_of([row for row in rows if row["traffic"] == traffic], name) for traffic in traffics}
            for name in COSTS
        },
    }


def _mean(counterpart: ExperimentRun, name: str) -> float | None:
    """Over the simulated runs of the service as it is on average, in which there is a value."""
    known = [draw[name] for draw in counterpart.draws if draw[name] is not None and not draw["another_run"]]
    return float(np.mean(known)) if known else None


def _range_of(draws: list[dict[str, Any]], name: str) -> tuple[float | None, float | None]:
    """That holds the next real run in 90 % of the cases; None: too few simulated runs to say."""
    interval = next_interval([draw[name] for draw in draws if draw[name] is not None and draw["another_run"]])
    return (None, None) if interval is None else (interval.low, interval.high)


def _within(rows: list[dict[str, Any]], name: str) -> float | None:
    """Share of the real runs that lie in the range of the simulated ones, by half a per cent at least."""
    known = [row for row in rows if row[f"{name}_sim_low"] is not None and row[f"{name}_real"] is not None]
    inside = [0.995 * row[f"{name}_sim_low"] <= row[f"{name}_real"] <= 1.005 * row[f"{name}_sim_high"] for row in known]
    return sum(inside) / len(known) if known else None


def _errors(rows: list[dict[str, Any]], name: str) -> dict[str, float | None]:
    known = [abs(row[f"{name}_error_pct"]) for row in rows if row[f"{name}_error_pct"] is not None]
    return {"median": float(np.median(known)) if known else None, "worst": max(known, default=None)}


def pearson_of(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Over the pairs' means of their runs; None for fewer than three, or if one side does not vary."""
    return correlation("pearson", means_of_pairs(rows, name))


def correlation(kind: Literal["pearson", "spearman"], means: FloatArray) -> float | None:
    """Of two columns; None for fewer than three rows, or if one column does not vary."""
    if len(means) < 3 or np.ptp(means, axis=0).min() == 0:
        return None
    if kind == "spearman":
        return float(stats.spearmanr(means[:, 0], means[:, 1]).statistic)
    return float(np.corrcoef(means[:, 0], means[:, 1])[0, 1])


def means_of_pairs(rows: Sequence[Mapping[str, Any]], name: str) -> FloatArray:
    """float[pairs, 2]: real and simulated cost of each pair, means over its repeats."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        real, sim = row[f"{name}_real"], row[f"{name}_sim"]
        if real is not None and sim is not None:
            pairs.setdefault((row["traffic"], row["policy"]), []).append((real, sim))
    return np.array([np.mean(pair, axis=0) for pair in pairs.values()]).reshape(-1, 2)


def pairs_within(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """How many pairs are within the bar, by the means of their repeats."""
    means = means_of_pairs(rows, name).tolist()
    errors = [abs(error) for real, sim in means if (error := relative_error_pct(sim, real)) is not None]
    within = sum(error <= BARS_PCT[name] for error in errors)
    worst = max(errors, default=None)
    return {"bar_pct": BARS_PCT[name], "pairs": len(means), "within": within, "worst_pct": worst}
