"""BatchLog: which batch each request ran in, from the backend's own log (real) or from the kernel (simulated).

The backends that ship with us append one record a request to a file of their instance; a server of the user's has no
such log, and then the run has no batches.parquet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from loadgen.artifact import read_table, write_table

KIND, VERSION = "batch_log", 1

# One record in a backend's log file. Times are CLOCK_MONOTONIC; start: entry of execute(), end: just before it returns.
# request_id is -1 if the client sent no number. position: place in the batch, 0 first.
RECORD = np.dtype(
    [("request_id", "<i8"), ("start_ns", "<i8"), ("end_ns", "<i8"), ("batch_size", "<i4"), ("position", "<i4")]
)

SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.int64(), nullable=False),
        pa.field("replica", pa.int64(), nullable=False),
        pa.field("instance", pa.int64(), nullable=False),
        pa.field("start_ns", pa.int64(), nullable=False),  # run clock
        pa.field("end_ns", pa.int64(), nullable=False),
        pa.field("batch_size", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class BatchLog:
    """One row a request that ran, ordered by start, then replica, instance, position."""

    frame: pd.DataFrame
    provenance: dict[str, Any] = field(default_factory=dict)

    def batches(self) -> pd.DataFrame:
        """One row a batch (the rows with position 0)."""
        return self.frame[self.frame["position"] == 0].reset_index(drop=True)

    def busy_s(self, duration_s: float) -> float:
        """Seconds that instances were inside batches between the run's start and its end, summed over instances."""
        batches = self.batches()
        start, end = (batches[c].to_numpy(dtype=float).clip(0, duration_s * 1e9) for c in ("start_ns", "end_ns"))
        return float((end - start).sum()) / 1e9

    def write(self, path: Path) -> None:
        """Write batches.parquet."""
        write_table(
            path, pa.Table.from_pandas(self.frame, schema=SCHEMA, preserve_index=False), KIND, VERSION, self.provenance
        )

    @classmethod
    def read(cls, path: Path) -> BatchLog:
        """Read batches.parquet."""
        table, provenance = read_table(path, KIND, VERSION, SCHEMA)
        return cls(table.to_pandas(), provenance)
