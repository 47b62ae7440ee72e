"""Batches of many runs in one table, a row a batch, in order of run, replica, instance and time.

`start`: units since the end of the batch before of the same instance; `length`: units; `request_id`: one a request,
less the one before of the run; `position`: of each request, less its place in the list (0, unless a foreign request was
left out).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from testbed.archive.coding import IntArray, from_steps, in_units, steps
from testbed.archive.requests import Coded
from testbed.measurement.batch_log import SCHEMA, BatchLog

_INSTANCE = ["run", "replica", "instance"]
_BATCH = [*_INSTANCE, "start", "end", "batch_size"]


def encode_batches(logs: Mapping[str, BatchLog], unit_ns: int) -> Coded:
    """By run; times to the nearest unit."""
    rows = pd.concat([log.frame.assign(run=run) for run, log in logs.items()], ignore_index=True)
    start, end = (in_units(rows[name].to_numpy(dtype=np.int64), unit_ns) for name in ("start_ns", "end_ns"))
    places = {run: place for place, run in enumerate(logs)}
    rows = rows.assign(start=start, end=end, place=rows["run"].map(places))
    rows = rows.sort_values(["place", "replica", "instance", "start_ns", "position"], kind="stable", ignore_index=True)
    begins = (rows[_BATCH] != rows[_BATCH].shift()).any(axis=1) | (rows["position"] <= rows["position"].shift())
    first = np.flatnonzero(begins)
    batches = rows.iloc[first]
    offsets = pa.array([*first, len(rows)], pa.int32())
    ids = steps(rows["request_id"].to_numpy(), [rows["run"].to_numpy(dtype=object)])
    place = np.arange(len(rows)) - np.repeat(first, np.diff([*first, len(rows)]))
    instance = [batches[name].to_numpy() for name in _INSTANCE]
    table = pa.table(
        {
            "run": pa.array(batches["run"], pa.string()).dictionary_encode(),
            "replica": pa.array(batches["replica"], pa.int64()),
            "instance": pa.array(batches["instance"], pa.int64()),
            "start": pa.array(_gaps(batches["start"].to_numpy(), batches["end"].to_numpy(), instance), pa.int64()),
            "length": pa.array(batches["end"] - batches["start"], pa.int64()),
            "batch_size": pa.array(batches["batch_size"], pa.int64()),
            "request_id": pa.ListArray.from_arrays(offsets, pa.array(ids, pa.int64())),
            "position": pa.ListArray.from_arrays(offsets, pa.array(rows["position"] - place, pa.int64())),
        }
    )
    return Coded(table, {"unit_ns": unit_ns, "provenance": {run: log.provenance for run, log in logs.items()}})


def decode_batches(coded: Coded) -> dict[str, BatchLog]:
    """By run."""
    table, unit_ns = coded.table, coded.header["unit_ns"]
    batches = table.drop_columns(["request_id", "position"]).to_pandas()
    batches["run"] = batches["run"].astype(object)
    instance = [batches[name].to_numpy() for name in _INSTANCE]
    length = batches["length"].to_numpy()
    end = from_steps(batches["start"].to_numpy() + length, instance)
    batches["start_ns"], batches["end_ns"] = (end - length) * unit_ns, end * unit_ns
    counts = table["request_id"].combine_chunks().value_lengths().to_numpy()
    rows = batches.loc[np.repeat(batches.index.to_numpy(), counts)].reset_index(drop=True)
    ids, positions = (table[name].combine_chunks().flatten().to_numpy() for name in ("request_id", "position"))
    rows["request_id"] = from_steps(ids, [rows["run"].to_numpy()])
    rows["position"] = positions + np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    of_run = dict(iter(rows.groupby("run", sort=False)))
    order = ["start_ns", "replica", "instance", "position"]
    return {
        run: BatchLog(
            of_run.get(run, rows.iloc[:0])[SCHEMA.names].sort_values(order, kind="stable", ignore_index=True),
            provenance,
        )
        for run, provenance in coded.header["provenance"].items()
    }


def _gaps(start: IntArray, end: IntArray, instance: list[np.ndarray]) -> IntArray:
    """Units from the end of the batch before of the same instance to each start."""
    before = pd.Series(end).groupby(instance, sort=False).shift(fill_value=0)
    gaps: IntArray = start - before.to_numpy(dtype=np.int64)
    return gaps
