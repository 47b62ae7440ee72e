"""RequestLog: one row a request, real or simulated. Latency counts from the scheduled time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from loadgen.artifact import read_table, write_table

KIND, VERSION = "request_log", 1
Status = Literal["ok", "error", "timeout", "dropped", "unsent"]
STATUSES: tuple[Status, ...] = ("ok", "error", "timeout", "dropped", "unsent")

SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.int64(), nullable=False),  # row number in the schedule
        pa.field("model", pa.string(), nullable=False),
        pa.field("endpoint", pa.string()),  # null: never sent
        pa.field("scheduled_ns", pa.int64(), nullable=False),  # run clock: nanoseconds since the run's start
        pa.field("sent_ns", pa.int64()),  # null: never sent
        pa.field("completed_ns", pa.int64()),  # null: no answer
        pa.field("status", pa.string(), nullable=False),
        pa.field("detail", pa.string()),  # why, if not ok
    ]
)


@dataclass(frozen=True)
class RequestLog:
    """All requests of a run, sorted by request_id; `frame` has SCHEMA's columns with nullable integers (pandas Int64).

    status: ok (answered), error (refused or failed), timeout (no answer in time), dropped (the in-flight limit was
    reached, so it was not sent), unsent (the run ended before its time came).
    """

    frame: pd.DataFrame
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """bool[n]: answered without error."""
        return (self.frame["status"] == "ok").to_numpy(dtype=bool)

    def seconds(self, column: Literal["scheduled_ns", "sent_ns", "completed_ns"]) -> npt.NDArray[np.float64]:
        """A time column in seconds on the run clock; NaN where it is missing."""
        return self.frame[column].to_numpy(dtype=np.float64, na_value=np.nan) / 1e9

    @property
    def latency_s(self) -> npt.NDArray[np.float64]:
        """completed - scheduled for ok requests, NaN for all others."""
        return np.where(self.ok, self.seconds("completed_ns") - self.seconds("scheduled_ns"), np.nan)

    def missed(self, target_s: float) -> npt.NDArray[np.bool_]:
        """bool[n]: not answered within target_s of its time: later, failed, or never sent."""
        latency_s = self.latency_s
        return ~np.isfinite(latency_s) | (np.nan_to_num(latency_s, nan=0.0) > target_s)

    @property
    def lag_s(self) -> npt.NDArray[np.float64]:
        """sent - scheduled: how late the client was; NaN if never sent."""
        return self.seconds("sent_ns") - self.seconds("scheduled_ns")

    def counts(self) -> dict[Status, int]:
        """Requests by status, every status present."""
        counted = self.frame["status"].value_counts()
        return {status: int(counted.get(status, 0)) for status in STATUSES}

    def write(self, path: Path) -> None:
        """Write requests.parquet."""
        write_table(
            path, pa.Table.from_pandas(self.frame, schema=SCHEMA, preserve_index=False), KIND, VERSION, self.provenance
        )

    @classmethod
    def read(cls, path: Path) -> RequestLog:
        """Read requests.parquet."""
        table, provenance = read_table(path, KIND, VERSION, SCHEMA)
        nullable = {pa.int64(): pd.Int64Dtype()}
        return cls(table.to_pandas(types_mapper=nullable.get), provenance)
