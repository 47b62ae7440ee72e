"""Metrics of many runs in one table, series by series: a series is one metric of one label set in one run.

`time`: units since the reading before; `step`: the value less the one before, times `scale`; where the values of a
series are no whole numbers at any scale, `value` has them and `step` is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from testbed.archive.coding import from_steps, in_units, scale_of, steps
from testbed.archive.requests import Coded
from testbed.measurement.metric_log import SCHEMA, MetricLog

_SERIES = ["run", "source", "name", "labels"]


def encode_metrics(logs: Mapping[str, MetricLog], unit_ns: int, keep_every: int = 1) -> Coded:
    """By run; times to the nearest unit, values but for what floating point added to sums (`scale_of`).

    keep_every: of Triton's cumulative counters, that many readings to one that is kept; the first and the last of each
    are, so that increases over the run stay.
    """
    frame = pd.concat([log.frame.assign(run=run) for run, log in logs.items()], ignore_index=True)
    places = {run: place for place, run in enumerate(logs)}
    frame = frame.assign(place=frame["run"].map(places)).sort_values(
        ["place", "source", "name", "labels", "time_ns"], kind="stable", ignore_index=True
    )
    if keep_every > 1:
        frame = frame[_kept(frame, keep_every)].reset_index(drop=True)
    series = frame.groupby(_SERIES, sort=False).ngroup().to_numpy()
    scale = frame.groupby(series)["value"].transform(lambda of: scale_of(of.to_numpy()) or 0).to_numpy(dtype=np.int64)
    whole, value = scale > 0, frame["value"].to_numpy(dtype=np.float64)
    step = pd.array([pd.NA] * len(frame), dtype="Int64")
    step[whole] = steps(np.rint(value * scale)[whole].astype(np.int64), [series[whole]])
    time = in_units(frame["time_ns"].to_numpy(dtype=np.int64), unit_ns)
    names = {name: pa.array(frame[name], pa.string()).dictionary_encode() for name in (*_SERIES, "unit")}
    table = pa.table(
        {
            **names,
            "time": pa.array(steps(time, [series]), pa.int64()),
            "scale": pa.array(scale, pa.int64()).dictionary_encode(),
            "step": pa.array(step, pa.int64()),
            "value": pa.array(np.where(whole, 0.0, value), pa.float64(), mask=whole),
        }
    )
    header = {"unit_ns": unit_ns, "keep_every": keep_every}
    return Coded(table, {**header, "provenance": {run: log.provenance for run, log in logs.items()}})


def decode_metrics(coded: Coded) -> dict[str, MetricLog]:
    """By run, in order of time."""
    frame = coded.table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    for name in (*_SERIES, "unit"):
        frame[name] = frame[name].astype(object)
    series = frame.groupby(_SERIES, sort=False).ngroup().to_numpy()
    scale = frame["scale"].to_numpy(dtype=np.int64)
    whole, value = scale > 0, frame["value"].to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    step = frame["step"].to_numpy(dtype=np.int64, na_value=0)
    value[whole] = from_steps(step[whole], [series[whole]]) / scale[whole]
    time = from_steps(frame["time"].to_numpy(dtype=np.int64), [series]) * coded.header["unit_ns"]
    frame = frame.assign(time_ns=time, value=value)
    of_run = dict(iter(frame.groupby("run", sort=False)))
    return {
        run: MetricLog(
            of_run.get(run, frame.iloc[:0])[SCHEMA.names].sort_values("time_ns", kind="stable", ignore_index=True),
            provenance,
        )
        for run, provenance in coded.header["provenance"].items()
    }


def _kept(frame: pd.DataFrame, keep_every: int) -> npt.NDArray[np.bool_]:
    """bool[n]: rows of counters of Triton's that are kept, and all others. Rows are in order of series and time.

    All counters of one page are kept from the same readings, so that they still fit each other.
    """
    grouped = frame.groupby(_SERIES, sort=False)["value"]
    ends = (grouped.cumcount() == 0) | (grouped.cumcount(ascending=False) == 0)
    grows = grouped.transform(lambda of: bool(of.is_monotonic_increasing)).astype(bool)
    reading = frame.groupby(["run", _endpoints(frame)], sort=False)["time_ns"].rank(method="dense").to_numpy()
    kept = (frame["source"] != "triton") | ~grows | ends
    every: npt.NDArray[np.bool_] = kept.to_numpy(dtype=np.bool_) | (reading % keep_every == 1)
    return every


def _endpoints(frame: pd.DataFrame) -> pd.Series:
    """Of each row, from its labels; empty where they name none."""
    endpoint = {text: json.loads(text).get("endpoint", "") for text in frame["labels"].unique()}
    return frame["labels"].map(endpoint).rename("endpoint")
