"""BatchLog from the files in which our backends note every request that they ran.

Layout: <folder>/<replica>/<instance>.bin, records of batch_log.RECORD one after the other. Both names end in their
number: replica-3/resnet50_0_1.bin is instance 1 of replica 3.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from loadgen.artifact import ArtifactError
from loadgen.request_log import RequestLog
from testbed.measurement.batch_log import RECORD, SCHEMA, BatchLog

_NUMBER_AT_THE_END = re.compile(r"(?:^|[-_])(\d+)$")
_ORDER = ["start_ns", "replica", "instance", "position"]


def read_batch_files(folder: Path, start_monotonic_ns: int, *, measured_only: bool = False) -> BatchLog:
    """All records below `folder`, on the run clock. A replica's index is at the end of its folder's name.

    A last record that a kill cut short is left out. measured_only leaves out what is no request of the schedule:
    batches that began before the run's start (warm-up) and requests without a number. ArtifactError if a file is
    misnamed, or if two files claim the same instance.
    """
    frames: dict[tuple[int, int], pd.DataFrame] = {}
    for file in sorted(folder.glob("*/*.bin")):
        key = (_number(file, file.parent.name, "replica"), _number(file, file.stem, "instance"))
        if key in frames:
            raise ArtifactError(f"{file}: replica {key[0]} has another file of instance {key[1]}: keep one model a run")
        frames[key] = _read(file).assign(replica=key[0], instance=key[1])
    if not frames:
        return BatchLog(pd.DataFrame({name: pd.Series(dtype="int64") for name in SCHEMA.names}))
    rows = pd.concat(frames.values(), ignore_index=True)
    rows[["start_ns", "end_ns"]] -= start_monotonic_ns
    if measured_only:
        rows = rows[(rows["start_ns"] >= 0) & (rows["request_id"] >= 0)]
    rows = rows.sort_values(_ORDER, kind="stable", ignore_index=True)
    return BatchLog(rows[SCHEMA.names].astype("int64"))


def without_foreign(batches: BatchLog, log: RequestLog) -> tuple[BatchLog, int]:
    """The batches without requests that this log's client cannot have sent, and how many those were.

    Foreign: its number is not in the log, or came before, or it ran before it was sent or after it was answered.
    Another client used the server.
    """
    known = log.frame.set_index("request_id")
    rows = known[["sent_ns", "completed_ns", "status"]].reindex(batches.frame["request_id"])
    sent, completed = (rows[name].to_numpy(dtype=float, na_value=np.nan) for name in ("sent_ns", "completed_ns"))
    late = (rows["status"] == "ok").to_numpy() & (batches.frame["end_ns"].to_numpy() > completed)
    kept = batches.frame[(batches.frame["start_ns"].to_numpy() >= sent) & ~late]
    kept = kept[~kept["request_id"].duplicated()].reset_index(drop=True)
    return BatchLog(kept, batches.provenance), len(batches.frame) - len(kept)


def _number(file: Path, name: str, what: str) -> int:
    match = _NUMBER_AT_THE_END.search(name)
    if match is None:
        raise ArtifactError(f"{file}: '{name}' names no {what}: expected one that ends in its number")
    return int(match[1])


def _read(file: Path) -> pd.DataFrame:
    data = file.read_bytes()
    whole = len(data) - len(data) % RECORD.itemsize
    return pd.DataFrame(np.frombuffer(data[:whole], RECORD))
