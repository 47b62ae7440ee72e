"""What NVML read of the GPUs that served in a run."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from testbed.measurement.metric_log import MetricLog

MOST_OF_IT = 0.75  # of a time span lies between the first and the last reading of energy, or they say too little


def readings(metrics: MetricLog, name: str, uuids: Collection[str]) -> pd.DataFrame:
    """NVML's rows of one metric, of the GPUs of these UUIDs; of the only GPU where the run does not name one.

    Empty if NVML saw several GPUs and the run does not say which of them served.
    """
    rows = metrics.select("nvml", name)
    if rows.empty:
        return rows
    if uuids and "gpu_uuid" in rows:
        bare = {_bare(uuid) for uuid in uuids}
        return rows[rows["gpu_uuid"].map(_bare).isin(bare)]
    return rows if rows["gpu"].nunique() == 1 else rows.iloc[:0]


def mean_reading(metrics: MetricLog, name: str, uuids: Collection[str], begin_s: float, end_s: float) -> float | None:
    """Mean over a time span, and over the GPUs. None: not measured."""
    rows = _between(readings(metrics, name, uuids), begin_s, end_s)
    return None if rows.empty else float(rows.groupby("gpu")["value"].mean().mean())


def mean_power_w(metrics: MetricLog, uuids: Collection[str], begin_s: float, end_s: float) -> float | None:
    """Watts over a time span, summed over the GPUs, by the energy that they counted. None: not measured.

    NVML's power is a mean over the second before (nvmlDeviceGetPowerUsage, since Ampere), which in a run of seconds is
    a tenth too low; it is used where a GPU counts no energy. None too if the readings miss a quarter of the span.
    """
    energy = _between(readings(metrics, "energy", uuids), begin_s, end_s)
    if len(energy) and float(np.ptp(energy["time_s"])) >= MOST_OF_IT * (end_s - begin_s):
        return float(sum(_slope(rows) for _, rows in energy.groupby("gpu") if len(rows) > 1))
    if len(energy):
        return None
    power = _between(readings(metrics, "power", uuids), begin_s, end_s)
    return None if power.empty else float(power.groupby("gpu")["value"].mean().sum())


def _between(rows: pd.DataFrame, begin_s: float, end_s: float) -> pd.DataFrame:
    return rows if rows.empty else rows[(rows["time_s"] >= begin_s) & (rows["time_s"] <= end_s)]


def _slope(rows: pd.DataFrame) -> float:
    first, last = rows.iloc[0], rows.iloc[-1]
    return float((last["value"] - first["value"]) / (last["time_s"] - first["time_s"]))


def _bare(uuid: str) -> str:
    """Without its kind: CUDA names a MIG instance as NVML does, but for the prefix."""
    return uuid.removeprefix("GPU-").removeprefix("MIG-")
