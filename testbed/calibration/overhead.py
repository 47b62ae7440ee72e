"""Per-request overhead: what a request spends outside queue and batch, as a distribution that depends on load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from testbed.calibration.after_idle import NO_EFFECT, AfterIdle
from testbed.calibration.evidence import Evidence, FloatArray
from testbed.calibration.ingress_delay import ingress_delay_under_load, who_joined
from testbed.calibration.profile import Overhead, OverheadLevel, RunEffects
from testbed.calibration.run_effects import fit_run_effects
from testbed.calibration.service_time import (
    QUANTILES,
    RATE_WINDOW_S,
    around_log,
    beyond_log_busy,
    counts_by_size,
    inter_batch_gaps,
    mean_inter_batch_gap,
    quantile_table,
    slowness,
)
from testbed.errors import CalibrationError

MOST_LEVELS = 8  # of one kind of service
FEWEST_REQUESTS = 50  # in all; fewer make no distribution
ENOUGH_REQUESTS = 100  # a level needs this many of each kind
LONE_SHARE = 0.05  # where fewer find an idle instance, those that do are the quick ones that were not overtaken


class FittedOverhead(NamedTuple):
    """The overhead and what is read off with it; None: the runs do not tell."""

    overhead: Overhead
    inter_batch_gap_s: float | None  # mean
    timer_slack_s: float | None
    run_effects: RunEffects


def fit_overhead(runs: Sequence[Evidence], mean_s: FloatArray, idle: AfterIdle = NO_EFFECT) -> FittedOverhead:
    """From the runs' logs of batches where there are any, else from requests that were alone in the service."""
    logged = [run for run in runs if run.batches is not None and len(run.batches.frame)]
    if not logged:
        return FittedOverhead(_from_lone_requests(runs, float(mean_s[0])), None, None, RunEffects())
    beyond_log_s = beyond_log_busy(logged, len(mean_s), idle)
    rows = _marked(logged, lambda run: _split(run, beyond_log_s, idle))
    if len(rows) < FEWEST_REQUESTS:
        raise CalibrationError(f"only {len(rows)} answered requests stand in the log of batches: measure longer")
    per_position_s, per_batch_size_s = _lateness_in_batch(rows)
    rows["egress_delay"] -= per_position_s * rows["position"] + per_batch_size_s * (rows["batch_size"] - 1)
    timer_slack_s = _timer_slack(rows)
    rows.loc[rows["delayed"], "ingress_delay"] -= timer_slack_s or 0.0
    gaps = _marked(logged, lambda run: inter_batch_gaps(run, beyond_log_s, idle))
    joined = _marked(logged, who_joined)
    levels = []
    for (replicas, instances), part in rows.groupby(["replicas", "instances"]):
        same = [t[(t["replicas"] == replicas) & (t["instances"] == instances)] for t in (joined, gaps)]
        levels += _levels(part, *same)
    overhead = Overhead(
        window_s=RATE_WINDOW_S,
        levels=tuple(levels),
        per_position_s=per_position_s,
        per_batch_size_s=per_batch_size_s,
    )
    effects = fit_run_effects(rows, gaps, _marked(logged, partial(_mean_factor, mean_s=mean_s, idle=idle)))
    return FittedOverhead(overhead, mean_inter_batch_gap(gaps["inter_batch_gap"].to_numpy()), timer_slack_s, effects)


def _marked(runs: Sequence[Evidence], table_of: Callable[[Evidence], pd.DataFrame]) -> pd.DataFrame:
    """One table of all runs; each row says its run's number and service."""
    tables = []
    for number, run in enumerate(runs):
        service = run.manifest.service
        tables.append(table_of(run).assign(run=number, replicas=service.replicas, instances=service.instances))
    return pd.concat(tables, ignore_index=True)


def _mean_factor(run: Evidence, mean_s: FloatArray, idle: AfterIdle) -> pd.DataFrame:
    """One row: the run's rate, the logarithm of the mean factor on its batches' times, and how long these took."""
    (_, factor), *_ = slowness([run], mean_s, idle)
    _, seconds = counts_by_size([run], len(mean_s))
    row = {"rate": run.schedule.rate_rps, "service": np.log(factor.mean()), "weight": float(seconds.sum())}
    return pd.DataFrame([row])


def _split(run: Evidence, beyond_log_s: FloatArray, idle: AfterIdle) -> pd.DataFrame:
    """One row a request: rate, position, batch_size, ingress_delay (NaN: it found no idle instance), egress_delay."""
    served = run.served().sort_values(["replica", "instance", "start", "position"], ignore_index=True)
    size = served["batch_size"].to_numpy()
    rate = run.local_rate_rps(RATE_WINDOW_S)[served["request_id"].to_numpy()]
    # The batch before, on the same instance: rows of one batch share their start.
    first = served.drop_duplicates(["replica", "instance", "start"])
    before = first.groupby(["replica", "instance"])["end"].shift(1, fill_value=-np.inf)
    before.name = "before"
    free_at = served.join(before)["before"].ffill().to_numpy()
    around = pd.Series(around_log(first, beyond_log_s, idle), index=first.index, name="around")
    around_s = served.join(around)["around"].ffill().to_numpy()
    rules = run.manifest.service.dynamic_batching
    delay_s = rules.max_queue_delay_s if rules else 0.0
    found_idle = (size == 1) & (free_at + 1e-3 < served["scheduled"])
    ingress_delay = served["start"] - served["scheduled"] - delay_s
    return pd.DataFrame(
        {
            "rate": rate,
            "delayed": delay_s > 0,
            "position": served["position"],
            "batch_size": size,
            "ingress_delay": np.where(found_idle, ingress_delay, np.nan),
            "egress_delay": served["completed"] - served["end"] - beyond_log_s[size - 1] - around_s,
        }
    )


def _lateness_in_batch(rows: pd.DataFrame) -> tuple[float, float]:
    """Seconds per position and per batch size beyond 1: least squares with a level of its own for each run.

    Fitted twice: stalls of the machine (residuals in the last 1 %) are left out of the second fit. Leaving out large
    *values* instead would cut off late positions first.
    """
    if rows["batch_size"].max() < 2:
        return 0.0, 0.0
    kept = np.ones(len(rows), dtype=bool)
    slopes = np.zeros(2)
    for _ in range(2):
        columns = pd.DataFrame(
            {"position": rows["position"], "size": rows["batch_size"] - 1, "out": rows["egress_delay"]}
        )
        centred = (columns[kept] - columns[kept].groupby(rows["run"][kept]).transform("mean")).to_numpy()
        slopes = np.linalg.lstsq(centred[:, :2], centred[:, 2], rcond=None)[0]
        residual = np.full(len(rows), np.inf)
        residual[kept] = centred[:, 2] - centred[:, :2] @ slopes
        kept = residual <= np.quantile(residual[kept], 0.99)
    return float(max(slopes[0], 0.0)), float(slopes[1])


def _timer_slack(rows: pd.DataFrame) -> float | None:
    """Seconds that a queue delay ends late: what lone requests spend more where there is a delay (itself taken out).

    Between runs with and without a delay, at like rates and the same number of replicas; None without both kinds.
    """
    lone = rows.dropna(subset="ingress_delay")
    octave = np.floor(np.log2(lone["rate"])).rename("octave")
    medians = lone.groupby(["replicas", octave, "delayed"])["ingress_delay"].agg(["median", "count"]).unstack("delayed")
    if medians.empty or medians.columns.get_level_values("delayed").nunique() < 2:
        return None
    enough = (medians["count"][True] >= ENOUGH_REQUESTS / 2) & (medians["count"][False] >= ENOUGH_REQUESTS / 2)
    if not enough.any():
        return None
    both = medians[enough]
    weight = np.minimum(both["count"][True], both["count"][False])
    return max(0.0, float(np.average(both["median"][True] - both["median"][False], weights=weight)))


def _levels(rows: pd.DataFrame, joined: pd.DataFrame, gaps: pd.DataFrame) -> list[OverheadLevel]:
    """Levels of one kind of service: groups of like local rate.

    Ingress delay from requests that found an idle instance, or, where load leaves too few of them, from who joined
    which batch; a level with neither takes its neighbour's. Inter-batch gap where enough batches tell of it.
    """
    edges = _edges(rows["rate"].to_numpy())

    def level_of(rate: pd.Series) -> FloatArray:
        return np.clip(np.searchsorted(edges, rate, side="right") - 1, 0, max(len(edges) - 2, 0))

    parts = [part for _, part in rows.groupby(level_of(rows["rate"]))]
    joined_level, gap_level = level_of(joined["rate"]), level_of(gaps["rate"])
    ingress_delays = [_ingress_delay_table(part, joined[joined_level == k]) for k, part in enumerate(parts)]
    known = [k for k, table in enumerate(ingress_delays) if table is not None]
    if not known:
        pooled = rows["ingress_delay"].dropna().to_numpy()
        if len(pooled) < 2:
            raise CalibrationError("no request found an idle instance: calibrate at a lower rate as well")
        ingress_delays, known = [quantile_table(pooled)] * len(parts), list(range(len(parts)))
    levels = []
    for k, part in enumerate(parts):
        ingress_delay = ingress_delays[min(known, key=lambda other: abs(other - k))]
        assert ingress_delay is not None
        inter_batch_gap = _inter_batch_gap_table(gaps["inter_batch_gap"][gap_level == k].to_numpy())
        levels.append(
            OverheadLevel(
                replicas=int(part["replicas"].iloc[0]),
                instances=int(part["instances"].iloc[0]),
                rate_rps=float(part["rate"].mean()),
                ingress_delay_quantiles_s=tuple(np.maximum(ingress_delay, 0.0).tolist()),
                egress_delay_quantiles_s=tuple(quantile_table(part["egress_delay"].to_numpy()).tolist()),
                inter_batch_gap_quantiles_s=inter_batch_gap,
                requests=len(part),
            )
        )
    return levels


def _edges(rate_rps: FloatArray) -> FloatArray:
    """Bounds of the levels: even in the rate's logarithm, each with enough requests (a small one joins the next)."""
    bounds = np.geomspace(rate_rps.min(), rate_rps.max() * (1 + 1e-9), MOST_LEVELS + 1)
    kept = [float(bounds[0])]
    for bound in bounds[1:]:
        if ((rate_rps >= kept[-1]) & (rate_rps < bound)).sum() >= 2 * ENOUGH_REQUESTS:
            kept.append(float(bound))
    if len(kept) > 1:
        kept[-1] = float(bounds[-1])  # the rest joins the last
    else:
        kept.append(float(bounds[-1]))
    return np.array(kept)


def _ingress_delay_table(part: pd.DataFrame, joined: pd.DataFrame) -> FloatArray | None:
    """Quantile function of one level's ingress delay, or None if too few requests tell of it."""
    ingress_delay = part["ingress_delay"].dropna().to_numpy()
    if len(ingress_delay) < LONE_SHARE * len(part) and len(joined) >= 4 * ENOUGH_REQUESTS:
        return ingress_delay_under_load(joined)
    return quantile_table(ingress_delay) if len(ingress_delay) >= ENOUGH_REQUESTS else None


def _inter_batch_gap_table(inter_batch_gap_s: FloatArray) -> tuple[float, ...] | None:
    """Quantile function of inter-batch gaps without negative values (noise of the difference), of the same mean."""
    if len(inter_batch_gap_s) < ENOUGH_REQUESTS:
        return None
    table = quantile_table(inter_batch_gap_s)
    positive = np.maximum(table, 0.0)
    mean, of_positive = (float(np.trapezoid(t, dx=1 / (QUANTILES - 1))) for t in (table, positive))
    if of_positive == 0 or mean <= 0:
        return (0.0, 0.0)
    return tuple((positive * mean / of_positive).tolist())


def _from_lone_requests(runs: Sequence[Evidence], lone_service_s: float) -> Overhead:
    """Latency beyond one batch of one, of requests with no other in flight when they were scheduled."""
    over, rates = [], []
    for run in runs:
        scheduled, completed = run.requests.seconds("scheduled_ns"), run.requests.seconds("completed_ns")
        busy_until = np.concatenate([[-np.inf], np.fmax.accumulate(np.nan_to_num(completed, nan=-np.inf))[:-1]])
        rules = run.manifest.service.dynamic_batching
        delay_s = rules.max_queue_delay_s if rules else 0.0
        following = np.concatenate([scheduled[1:], [np.inf]])
        lone = run.requests.ok & (busy_until < scheduled) & (following > scheduled + delay_s)
        over.append(run.requests.latency_s[lone] - lone_service_s - delay_s)
        rates.append(run.local_rate_rps(RATE_WINDOW_S)[lone])
    pooled = np.concatenate(over)
    if len(pooled) < ENOUGH_REQUESTS:
        raise CalibrationError(
            f"only {len(pooled)} requests were alone in the service (need {ENOUGH_REQUESTS}): "
            "measure longer, or at a lower rate"
        )
    service = runs[0].manifest.service
    level = OverheadLevel(
        replicas=service.replicas,
        instances=service.instances,
        rate_rps=float(np.concatenate(rates).mean()),
        ingress_delay_quantiles_s=(0.0, 0.0),
        egress_delay_quantiles_s=tuple(quantile_table(pooled).tolist()),
        requests=len(pooled),
    )
    return Overhead(window_s=RATE_WINDOW_S, levels=(level,))
