"""What each load did to the machine: utilisation, power, CPU; cold starts; and what load adds to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from testbed.calibration.evidence import Evidence, FloatArray
from testbed.calibration.profile import Contention, LoadPoint, ServerCpu
from testbed.calibration.service_time import batch_statistics
from testbed.measurement.gpu_readings import mean_power_w, mean_reading

KEPT_CONFIDENCE = 0.975  # that contention is not chance


def fit_contention(runs: Sequence[Evidence], mean_s: FloatArray) -> Contention:
    """Seconds that each request/s adds to a batch: the runs' mean excess over mean_s, regressed on their rate.

    Weighted by batches. No contention if there are fewer than four runs or one rate only, or if the slope could be 0
    (Student's t, 97.5 %): runs at different times differ on a shared machine anyway.
    """
    rate, excess, weight = [], [], []
    for run in runs:
        table = batch_statistics(run)
        table = table[(table["batch_executions"] > 0) & (table.index <= len(mean_s))]
        if table.empty:
            continue
        count = table["batch_executions"].to_numpy()
        beyond = table["batch_compute_seconds"].to_numpy() - count * mean_s[table.index.to_numpy() - 1]
        rate.append(run.schedule.rate_rps)
        excess.append(float(beyond.sum() / count.sum()))
        weight.append(float(count.sum()))
    x, y, w = np.array(rate), np.array(excess), np.array(weight)
    if len(x) < 4 or np.ptp(x) < 0.2 * x.mean():
        return Contention()
    base = float(np.average(x, weights=w))
    spread = float(np.average((x - base) ** 2, weights=w))
    slope = float(np.average((x - base) * y, weights=w)) / spread
    left = y - np.average(y, weights=w) - slope * (x - base)
    deviation = float(np.sqrt(np.average(left**2, weights=w) / spread / (len(x) - 2)))
    if slope < student_t.ppf(KEPT_CONFIDENCE, len(x) - 2) * deviation:
        return Contention()
    return Contention(seconds_per_rps=slope, base_rps=base)


def cold_starts(runs: Sequence[Evidence]) -> tuple[float, ...]:
    """Start-up seconds (process start to ready) of every replica that was seen to start, each once."""
    starts: dict[tuple[str, float], float] = {}
    for run in runs:
        for _, row in run.metrics.select("replica", "start_up_seconds").iterrows():
            starts[(str(row["replica"]), float(row["value"]))] = float(row["value"])
    return tuple(starts.values())


def load_points(runs: Sequence[Evidence]) -> tuple[LoadPoint, ...]:
    """One point a run, by rate."""
    return tuple(sorted((_load_point(run) for run in runs), key=lambda point: point.rate_rps))


def fit_server_cpu(runs: Sequence[Evidence]) -> ServerCpu | None:
    """Least squares of the cores that each replica's server used on the rate that it had, run by run."""
    rate, cores = [], []
    for run in runs:
        rows = _during(run, run.metrics.select("process", "cpu_seconds"))
        rows = rows[rows["role"].str.startswith("server:")] if len(rows) else rows
        for _, samples in rows.groupby("role") if len(rows) else ():
            span_s = float(samples["time_s"].iloc[-1] - samples["time_s"].iloc[0])
            if span_s > 0:
                cores.append(float(samples["value"].iloc[-1] - samples["value"].iloc[0]) / span_s)
                rate.append(run.schedule.rate_rps / run.manifest.service.replicas)
    if len(rate) < 2 or np.ptp(rate) < 0.2 * np.mean(rate):
        return None
    slope, idle = np.polyfit(rate, cores, 1)
    if slope < 0:
        return None
    return ServerCpu(idle_cores=max(0.0, float(idle)), seconds_per_request=float(slope))


def _load_point(run: Evidence) -> LoadPoint:
    service, gpus, duration_s = run.manifest.service, run.manifest.gpu_uuids, run.schedule.duration_s
    utilisation = None
    if run.batches is not None:
        utilisation = run.batches.busy_s(duration_s) / (duration_s * service.replicas * service.instances)
    return LoadPoint(
        rate_rps=run.schedule.rate_rps,
        utilisation=utilisation,
        device_utilisation=mean_reading(run.metrics, "utilisation", gpus, 0, duration_s),
        power_w=mean_power_w(run.metrics, gpus, 0, duration_s),
        machine_cpu=_busy_cores(run),
    )


def _busy_cores(run: Evidence) -> float | None:
    rows = _during(run, run.metrics.select("process", "cpu_seconds", role="machine"))
    if len(rows) < 2:
        return None
    span_s = float(rows["time_s"].iloc[-1] - rows["time_s"].iloc[0])
    return float(rows["value"].iloc[-1] - rows["value"].iloc[0]) / span_s


def _during(run: Evidence, rows: pd.DataFrame) -> pd.DataFrame:
    """Without what was sampled while the client started or the last answers came."""
    return rows[(rows["time_s"] >= 0) & (rows["time_s"] <= run.schedule.duration_s)]
