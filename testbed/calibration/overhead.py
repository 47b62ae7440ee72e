"""Per-request overhead: what a request spends outside queue and batch, as a distribution that depends on load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from testbed.calibration.evidence import Evidence, FloatArray
from testbed.calibration.profile import Overhead, OverheadLevel
from testbed.calibration.service_time import QUANTILES, logged_mean_by_size, quantile_table
from testbed.errors import CalibrationError

WINDOW_S = 0.25
MOST_LEVELS = 8
ENOUGH_REQUESTS = 100  # a level needs this many requests of each kind
BUSY_GAP_S = 2e-3  # a batch that starts this soon after another did not wait for a request
REACH_S = 5e-3  # no inflow is longer; what is, is a stall, and part of the outflow's tail


def fit_overhead(runs: Sequence[Evidence], mean_s: FloatArray) -> Overhead:
    """From the runs' logs of batches where there are any, else from requests that were alone in the service."""
    logged = [run for run in runs if run.batches is not None]
    if not logged:
        return _from_lone_requests(runs, float(mean_s[0]))
    beyond_log_s = mean_s - logged_mean_by_size(logged, mean_s)
    rows = pd.concat([_split(run, beyond_log_s, number) for number, run in enumerate(logged)], ignore_index=True)
    if len(rows) < ENOUGH_REQUESTS:
        raise CalibrationError(f"only {len(rows)} answered requests stand in the log of batches: measure longer")
    joined = pd.concat([_joined(run, number) for number, run in enumerate(logged)], ignore_index=True)
    per_position_s, per_batch_size_s = _lateness_in_batch(rows)
    rows["outflow"] -= per_position_s * rows["position"] + per_batch_size_s * (rows["batch_size"] - 1)
    return Overhead(
        window_s=WINDOW_S,
        levels=_levels(rows, joined),
        per_position_s=per_position_s,
        per_batch_size_s=per_batch_size_s,
    )


def _split(run: Evidence, beyond_log_s: FloatArray, number: int) -> pd.DataFrame:
    """One row a request: run, rate, position, batch_size, inflow (NaN unless it found an idle instance), outflow."""
    served = run.served().sort_values(["replica", "instance", "start", "position"], ignore_index=True)
    size = served["batch_size"].to_numpy()
    rate = run.local_rate_rps(WINDOW_S)[served["request_id"].to_numpy()]
    # The batch before, on the same instance: rows of one batch share their start.
    first = served.drop_duplicates(["replica", "instance", "start"])
    before = first.groupby(["replica", "instance"])["end"].shift(1, fill_value=-np.inf)
    before.name = "before"
    free_at = served.join(before)["before"].ffill().to_numpy()
    rules = run.manifest.service.dynamic_batching
    delay_s = rules.max_queue_delay_s if rules else 0.0
    found_idle = (size == 1) & (free_at + 1e-3 < served["scheduled"])
    inflow = served["start"] - served["scheduled"] - delay_s
    return pd.DataFrame(
        {
            "run": number,
            "rate": rate,
            "position": served["position"],
            "batch_size": size,
            "inflow": np.where(found_idle, inflow, np.nan),
            "outflow": served["completed"] - served["end"] - beyond_log_s[size - 1],
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
        columns = pd.DataFrame({"position": rows["position"], "size": rows["batch_size"] - 1, "out": rows["outflow"]})
        centred = (columns[kept] - columns[kept].groupby(rows["run"][kept]).transform("mean")).to_numpy()
        slopes = np.linalg.lstsq(centred[:, :2], centred[:, 2], rcond=None)[0]
        residual = np.full(len(rows), np.inf)
        residual[kept] = centred[:, 2] - centred[:, :2] @ slopes
        kept = residual <= np.quantile(residual[kept], 0.99)
    return float(max(slopes[0], 0.0)), float(slopes[1])


def _levels(rows: pd.DataFrame, joined: pd.DataFrame) -> tuple[OverheadLevel, ...]:
    """Groups of like local rate. Inflow from requests that found an idle instance, or, where load leaves too few of
    them, from who joined which batch; a level with neither takes its neighbour's."""
    count = int(np.clip(len(rows) // (4 * ENOUGH_REQUESTS), 1, MOST_LEVELS))
    edges = np.unique(np.quantile(rows["rate"], np.linspace(0, 1, count + 1)))

    def level_of(rate: pd.Series) -> FloatArray:
        return np.clip(np.searchsorted(edges, rate, side="right") - 1, 0, max(len(edges) - 2, 0))

    parts = [part for _, part in rows.groupby(level_of(rows["rate"]))]
    joined_level = level_of(joined["rate"])
    tables = [_inflow_table(part, joined[joined_level == k]) for k, part in enumerate(parts)]
    known = [k for k, table in enumerate(tables) if table is not None]
    if not known:
        pooled = rows["inflow"].dropna().to_numpy()
        if len(pooled) < 2:
            raise CalibrationError("no request found an idle instance: calibrate at a lower rate as well")
        tables, known = [quantile_table(pooled)] * len(parts), list(range(len(parts)))
    levels = []
    for k, part in enumerate(parts):
        table = tables[min(known, key=lambda other: abs(other - k))]
        assert table is not None
        levels.append(
            OverheadLevel(
                rate_rps=float(part["rate"].mean()),
                inflow_quantiles_s=tuple(np.maximum(table, 0.0).tolist()),
                outflow_quantiles_s=tuple(quantile_table(part["outflow"].to_numpy()).tolist()),
                requests=len(part),
            )
        )
    return tuple(levels)


def _inflow_table(part: pd.DataFrame, joined: pd.DataFrame) -> FloatArray | None:
    """Quantile function of one level's inflow, or None if too few requests tell of it."""
    inflow = part["inflow"].dropna().to_numpy()
    if len(inflow) >= ENOUGH_REQUESTS:
        return quantile_table(inflow)
    if len(joined) < 4 * ENOUGH_REQUESTS:
        return None
    ordered = joined.sort_values("before_start")
    share = isotonic_regression(ordered["in_time"].to_numpy(dtype=float)).x
    # F rises from 0 to 1 over the reach; np.interp wants it strictly rising.
    level = np.concatenate([[0.0], share, [1.0]]) + np.linspace(0, 1e-9, len(share) + 2)
    value = np.concatenate([[0.0], ordered["before_start"].to_numpy(), [REACH_S]])
    return np.asarray(np.interp(np.linspace(0, 1, QUANTILES), level, value))


def _joined(run: Evidence, number: int) -> pd.DataFrame:
    """Who was in time for a batch: one row for each batch of a busy instance and each request shortly before it.

    A batch that starts right after another, and is not full, takes all that is in the queue. So a request scheduled
    x before its start is in it (or in an earlier one) exactly if the request's inflow was at most x: P(in_time | x)
    is the inflow's distribution under load, where no request finds an idle instance.
    """
    served = run.served()
    largest = run.manifest.service.max_batch_size
    rate = run.local_rate_rps(WINDOW_S)
    found = []
    for _, one in served.groupby("replica"):
        batches = one.drop_duplicates(["instance", "start"]).sort_values("start")
        gap = batches["start"] - batches.groupby("instance")["end"].shift(1)
        starts = batches["start"][(gap < BUSY_GAP_S) & (batches["batch_size"] < largest)].to_numpy()
        order = one.sort_values("scheduled")
        scheduled, start = order["scheduled"].to_numpy(), order["start"].to_numpy()
        first, last = np.searchsorted(scheduled, starts - REACH_S), np.searchsorted(scheduled, starts)
        batch = np.repeat(np.arange(len(starts)), last - first)
        ranges = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        request = np.concatenate([np.empty(0, dtype=np.int64), *ranges])
        found.append(
            pd.DataFrame(
                {
                    "run": number,
                    "rate": rate[order["request_id"].to_numpy()[request]],
                    "before_start": starts[batch] - scheduled[request],
                    "in_time": start[request] <= starts[batch],
                }
            )
        )
    return pd.concat(found, ignore_index=True)


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
        rates.append(run.local_rate_rps(WINDOW_S)[lone])
    pooled = np.concatenate(over)
    if len(pooled) < ENOUGH_REQUESTS:
        raise CalibrationError(
            f"only {len(pooled)} requests were alone in the service (need {ENOUGH_REQUESTS}): calibrate at a lower rate"
        )
    level = OverheadLevel(
        rate_rps=float(np.concatenate(rates).mean()),
        inflow_quantiles_s=(0.0, 0.0),
        outflow_quantiles_s=tuple(quantile_table(pooled).tolist()),
        requests=len(pooled),
    )
    return Overhead(window_s=WINDOW_S, levels=(level,))
