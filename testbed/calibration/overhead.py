"""Per-request overhead: what a request spends outside queue and batch, as a distribution that depends on load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from testbed.calibration.evidence import Evidence, FloatArray
from testbed.calibration.profile import Overhead, OverheadLevel
from testbed.calibration.service_time import logged_mean_by_size, quantile_table
from testbed.errors import CalibrationError

WINDOW_S = 0.25
MOST_LEVELS = 8
ENOUGH_REQUESTS = 100  # a level needs this many requests of each kind


def fit_overhead(runs: Sequence[Evidence], mean_s: FloatArray) -> Overhead:
    """From the runs' logs of batches where there are any, else from requests that were alone in the service."""
    logged = [run for run in runs if run.batches is not None]
    if not logged:
        return _from_lone_requests(runs, float(mean_s[0]))
    beyond_log_s = mean_s - logged_mean_by_size(logged, mean_s)
    rows = pd.concat([_split(run, beyond_log_s, number) for number, run in enumerate(logged)], ignore_index=True)
    if len(rows) < ENOUGH_REQUESTS:
        raise CalibrationError(f"only {len(rows)} answered requests stand in the log of batches: measure longer")
    per_position_s, per_batch_size_s = _lateness_in_batch(rows)
    rows["outflow"] -= per_position_s * rows["position"] + per_batch_size_s * (rows["batch_size"] - 1)
    return Overhead(
        window_s=WINDOW_S,
        levels=_levels(rows),
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


def _levels(rows: pd.DataFrame) -> tuple[OverheadLevel, ...]:
    """Groups of like local rate, each with enough requests; a level without enough inflows takes its neighbour's."""
    count = int(np.clip(len(rows) // (4 * ENOUGH_REQUESTS), 1, MOST_LEVELS))
    edges = np.unique(np.quantile(rows["rate"], np.linspace(0, 1, count + 1)))
    group = np.clip(np.searchsorted(edges, rows["rate"], side="right") - 1, 0, max(len(edges) - 2, 0))
    parts = [part for _, part in rows.groupby(group)]
    inflows = [part["inflow"].dropna().to_numpy() for part in parts]
    enough = [k for k, inflow in enumerate(inflows) if len(inflow) >= ENOUGH_REQUESTS]
    if not enough:
        pooled = np.concatenate(inflows)
        if len(pooled) < 2:
            raise CalibrationError("no request found an idle instance: calibrate at a lower rate as well")
        inflows, enough = [pooled] * len(parts), list(range(len(parts)))
    nearest = [min(enough, key=lambda other, k=k: abs(other - k)) for k in range(len(parts))]  # type: ignore[misc]
    return tuple(
        OverheadLevel(
            rate_rps=float(part["rate"].mean()),
            inflow_quantiles_s=tuple(np.maximum(quantile_table(inflows[nearest[k]]), 0.0).tolist()),
            outflow_quantiles_s=tuple(quantile_table(part["outflow"].to_numpy()).tolist()),
            requests=len(part),
        )
        for k, part in enumerate(parts)
    )


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
