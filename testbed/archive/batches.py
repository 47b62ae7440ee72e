"""Batches of many runs in one table, in order of run, replica, instance and time.

`start`: units since the batch before of the same instance (0 for the further requests of a batch); `length`: units,
less those of the row before; `request_id`: less that of the row before.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from testbed.archive.coding import from_steps, in_units, steps
from testbed.archive.requests import Coded
from testbed.measurement.batch_log import SCHEMA, BatchLog

_INSTANCE = ["run", "replica", "instance"]


def encode_batches(logs: Mapping[str, BatchLog], unit_ns: int) -> Coded:
    """By run; times to the nearest unit."""
    frame = pd.concat([log.frame.assign(run=run) for run, log in logs.items()], ignore_index=True)
    start, end = (in_units(frame[name].to_numpy(dtype=np.int64), unit_ns) for name in ("start_ns", "end_ns"))
    frame = frame.assign(start=start, length=end - start, place=_places(list(logs), frame["run"]))
    frame = frame.sort_values(["place", "replica", "instance", "start_ns", "position"], kind="stable")
    run = frame["run"].to_numpy(dtype=object)
    instance = [frame[name].to_numpy() for name in _INSTANCE]
    table = pa.table(
        {
            "run": pa.array(run, pa.string()).dictionary_encode(),
            "replica": pa.array(frame["replica"], pa.int64()),
            "instance": pa.array(frame["instance"], pa.int64()),
            "start": pa.array(steps(frame["start"].to_numpy(), instance), pa.int64()),
            "length": pa.array(steps(frame["length"].to_numpy(), [run]), pa.int64()),
            "batch_size": pa.array(frame["batch_size"], pa.int64()),
            "position": pa.array(frame["position"], pa.int64()),
            "request_id": pa.array(steps(frame["request_id"].to_numpy(), [run]), pa.int64()),
        }
    )
    return Coded(table, {"unit_ns": unit_ns, "provenance": {run: log.provenance for run, log in logs.items()}})


def decode_batches(coded: Coded) -> dict[str, BatchLog]:
    """By run."""
    frame, unit_ns = coded.table.to_pandas(), coded.header["unit_ns"]
    frame["run"] = frame["run"].astype(object)
    run = [frame["run"].to_numpy()]
    start = from_steps(frame["start"].to_numpy(), [frame[name].to_numpy() for name in _INSTANCE])
    frame["start_ns"] = start * unit_ns
    frame["end_ns"] = (start + from_steps(frame["length"].to_numpy(), run)) * unit_ns
    frame["request_id"] = from_steps(frame["request_id"].to_numpy(), run)
    found = dict(iter(frame.groupby("run", sort=False)))
    order = ["start_ns", "replica", "instance", "position"]
    return {
        run: BatchLog(
            found.get(run, frame.iloc[:0])[SCHEMA.names].sort_values(order, kind="stable", ignore_index=True),
            provenance,
        )
        for run, provenance in coded.header["provenance"].items()
    }


def _places(runs: list[str], of: pd.Series) -> pd.Series:
    """The number of each row's run, in the order of the folder."""
    return of.map({run: place for place, run in enumerate(runs)})
