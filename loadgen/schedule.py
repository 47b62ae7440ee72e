"""Schedule: the absolute, seeded arrival times of a run. What makes one: a pattern and a seed, or a trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from loadgen.artifact import ArtifactError, read_table, write_table

KIND, VERSION = "schedule", 1
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """Arrivals on the run clock (nanoseconds since the run's start), ascending; the row number is the request id.

    scheduled_ns: int64[n]; model: str[n] names the model that each request asks for; duration_s: the span that the
    schedule covers (the last arrival may be earlier); provenance: pattern, parameters, seed or trace.
    """

    scheduled_ns: IntArray
    model: npt.NDArray[np.object_]
    duration_s: float
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.model) != len(self.scheduled_ns):
            raise ArtifactError(f"a schedule with {len(self.scheduled_ns)} times has {len(self.model)} models")
        if len(self) and (self.scheduled_ns[0] < 0 or (np.diff(self.scheduled_ns) < 0).any()):
            raise ArtifactError("a schedule's times must be >= 0 and ascending")

    def __len__(self) -> int:
        return len(self.scheduled_ns)

    @property
    def scheduled_s(self) -> FloatArray:
        """Arrival times in seconds."""
        return self.scheduled_ns / 1e9

    @property
    def rate_rps(self) -> float:
        """Mean rate over the whole span."""
        return len(self) / self.duration_s

    def write(self, path: Path) -> None:
        """Write schedule.parquet."""
        table = pa.table(
            {"scheduled_ns": pa.array(self.scheduled_ns, pa.int64()), "model": pa.array(self.model, pa.string())}
        )
        write_table(path, table, KIND, VERSION, {**self.provenance, "duration_s": self.duration_s})

    @classmethod
    def read(cls, path: Path) -> Schedule:
        """Read schedule.parquet."""
        table, provenance = read_table(path, KIND, VERSION)
        model = table["model"].to_numpy(zero_copy_only=False).astype(object)
        duration_s = provenance.pop("duration_s")
        return cls(table["scheduled_ns"].to_numpy(), model, duration_s, provenance)
