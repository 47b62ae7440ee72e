"""ScalingLog: what a policy did to a service, run by run, and what it cost; enough to judge it anew without the runs.

A row an interval of a run, with totals since its start, all integers. The last row of a run has its latency histogram
besides (bins of latency_histogram.py, those that are not empty).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from loadgen.artifact import ArtifactError, read_table, write_table
from testbed.measurement.latency_histogram import BINS

KIND, VERSION = "scaling_log", 2
# Of requests, since the run's start; missed and decided: see measurement.misses.
COUNTS = ("arrived", "ok", "error", "timeout", "dropped", "missed", "decided")
SCHEMA = pa.schema(
    [
        pa.field("seed", pa.int64(), nullable=False),  # of the run
        pa.field("time_ns", pa.int64(), nullable=False),  # run clock, the interval's end
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
        pa.field("asked", pa.int32(), nullable=False),  # replicas, now
        pa.field("ready", pa.int32(), nullable=False),
        pa.field("changes", pa.int32(), nullable=False),  # of the number asked for, since the start
        pa.field("gpu_us", pa.int64(), nullable=False),  # microseconds of whole devices that pods held, since the start
        pa.field("energy_mj", pa.int64()),  # millijoules of all devices, since the start; null: power not known
        pa.field("latency_bin", pa.list_(pa.int32())),  # last row of a run only
        pa.field("latency_count", pa.list_(pa.int64())),
    ]
)

COST = "cost_millionths"  # of the currency, of all nodes since the start; a column of logs of nodes with a price
MONEY = pa.field(COST, pa.int64(), nullable=False)


@dataclass(frozen=True)
class ScalingLog:
    """Runs of one policy on one traffic, one after the other."""

    frame: pd.DataFrame
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """One a run, in the order of the file."""
        return [int(seed) for seed in dict.fromkeys(self.frame["seed"])]

    def run(self, seed: int) -> pd.DataFrame:
        """The rows of one run, in order of time."""
        return self.frame[self.frame["seed"] == seed].reset_index(drop=True)

    def write(self, path: Path) -> None:
        """Write the log."""
        table = pa.Table.from_pandas(self.frame, schema=schema_of(self.frame), preserve_index=False)
        write_table(path, table, KIND, VERSION, self.provenance)

    @classmethod
    def read(cls, path: Path) -> ScalingLog:
        """Read it; ArtifactError if there is none."""
        return cls.of_table(*read_table(path, KIND, VERSION, SCHEMA, [MONEY]))

    @classmethod
    def of_table(cls, table: pa.Table, provenance: dict[str, Any]) -> ScalingLog:
        """From a table with SCHEMA's columns."""
        frame = table.to_pandas()
        frame["energy_mj"] = frame["energy_mj"].astype("Int64")
        return cls(frame, provenance)


def schema_of(frame: pd.DataFrame) -> pa.Schema:
    """SCHEMA, with money where the rows have it."""
    return SCHEMA.append(MONEY) if COST in frame else SCHEMA


def scaling_frame(
    seed: int, rows: Sequence[Mapping[str, int | None]], histogram: npt.NDArray[np.int64]
) -> pd.DataFrame:
    """The rows of one run. rows: what SCHEMA has but seed and latency; histogram: int64[BINS] of the whole run."""
    frame = pd.DataFrame(rows)
    frame.insert(0, "seed", seed)
    frame["energy_mj"] = frame["energy_mj"].astype("Int64")
    bins = np.flatnonzero(histogram)
    for name, values in (("latency_bin", bins), ("latency_count", histogram[bins])):
        frame[name] = pd.Series([None] * (len(frame) - 1) + [values.tolist()], dtype=object)
    return frame


def histogram_of(run: pd.DataFrame) -> npt.NDArray[np.int64]:
    """int64[BINS]: the latency histogram of a run. ArtifactError if its last row has none."""
    histogram = np.zeros(BINS, dtype=np.int64)
    last = run.iloc[-1]
    try:
        histogram[np.asarray(last["latency_bin"], dtype=np.int64)] = last["latency_count"]
    except (TypeError, ValueError, IndexError):
        raise ArtifactError(f"a scaling log: run {last['seed']} has no latencies in its last row: run again") from None
    return histogram
