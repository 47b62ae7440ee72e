"""MetricLog: samples over time on the run clock, written by measurement and by simulation alike.

Sources and names in use (docs/reference/metrics.md defines each):
  triton   nv_inference_* as Triton exports them (cumulative counters in its own units), labels model, endpoint;
           nv_gpu_*, nv_energy_consumption where the server has GPUs, labels gpu_uuid, endpoint;
           batch_executions (count, cumulative) labels model, endpoint, batch_size;
           batch_compute_seconds (s, cumulative: compute_input + infer + output per execution) same labels
  nvml     utilisation, memory_busy (ratio), memory_used (bytes), power (watt), energy (joule, cumulative), sm_clock,
           memory_clock (hertz), temperature (celsius), throttle_reasons (bits); labels gpu, gpu_uuid
  process  cpu_seconds (s, cumulative), memory_rss (bytes); label role = server:<endpoint> | client:<worker> | machine;
           the machine has cpu_seconds (busy) and steal_seconds (s, cumulative), no memory
  replica  state (1 when entered); labels replica, state = starting|ready|draining|gone; start_up_seconds (s)
  deployment, device: simulated clusters only
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from loadgen.artifact import ArtifactError, read_table, write_table
from workloads.files import parse_json

KIND, VERSION = "metric_log", 1
SCHEMA = pa.schema(
    [
        pa.field("time_ns", pa.int64(), nullable=False),  # run clock
        pa.field("source", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("labels", pa.string(), nullable=False),  # JSON object with sorted keys, string values
        pa.field("value", pa.float64(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
    ]
)

# (source, name, labels, value, unit).
Sample = tuple[str, str, dict[str, str], float, str]

# A sample at its time: (time_ns, source, name, labels, value, unit), what MetricLog.from_rows takes.
MetricRow = tuple[int, str, str, dict[str, str], float, str]


def _labels(text: str) -> dict[str, str]:
    try:
        labels = parse_json(text)
        if not are_labels(labels):
            raise ValueError("no object of texts, or one has the name of a column")
    except ValueError as error:
        raise ArtifactError(f"metrics with the labels {text}: {error}: make the run again") from None
    return dict(labels)


def are_labels(value: Any) -> bool:
    """Texts by name, none of which a column of SCHEMA has."""
    texts = isinstance(value, dict) and all(isinstance(inner, str) for inner in value.values())
    return texts and not value.keys() & {*SCHEMA.names, "time_s"}


def label_text(labels: dict[str, str]) -> str:
    """The one spelling of a label set."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class MetricLog:
    """Samples in time order. What was not measured has no row."""

    frame: pd.DataFrame
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: list[MetricRow], provenance: dict[str, Any] | None = None) -> MetricLog:
        """From (time_ns, source, name, labels, value, unit), in any order."""
        texts = {id(row[3]): label_text(row[3]) for row in {id(row[3]): row for row in rows}.values()}  # many share one
        frame = pd.DataFrame(
            [(t, source, name, texts[id(labels)], float(value), unit) for t, source, name, labels, value, unit in rows],
            columns=SCHEMA.names,
        )
        frame = frame.astype({"time_ns": "int64", "value": "float64"})
        return cls(frame.sort_values("time_ns", kind="stable", ignore_index=True), provenance or {})

    def select(self, source: str, name: str, **labels: str) -> pd.DataFrame:
        """Rows of one metric whose labels include the given ones; adds a column per label and `time_s`."""
        rows = self.frame[(self.frame["source"] == source) & (self.frame["name"] == name)].copy()
        known = {text: _labels(text) for text in rows["labels"].unique()}
        parsed = pd.DataFrame([known[text] for text in rows["labels"]], index=rows.index)
        rows = rows.join(parsed)
        for key, value in labels.items():
            rows = rows[rows[key] == value] if key in rows else rows.iloc[:0]
        rows["time_s"] = rows["time_ns"] / 1e9
        return rows

    def increase_by_batch_size(self, name: str, model: str) -> dict[int, float]:
        """Increase over the log of a cumulative `triton` metric, by batch size, summed over endpoints.

        A server that has run no batch yet has no row by batch size; its page is in the log from the first reading on.
        So a size that is missing in its endpoint's first reading counts from 0.
        """
        rows = self.select("triton", name, model=model)
        if not {"endpoint", "batch_size"} <= set(rows.columns):
            return {}
        pages = self.select("triton", "nv_inference_count", model=model)
        first_page_ns = dict(pages.groupby("endpoint")["time_ns"].min()) if "endpoint" in pages else {}
        total: dict[int, float] = {}
        for endpoint, samples in rows.groupby("endpoint"):
            first_ns = samples["time_ns"].min()
            first_ns = min(first_ns, first_page_ns.get(endpoint, first_ns))
            for size, of_size in samples.groupby("batch_size"):
                if not str(size).isdecimal():
                    raise ArtifactError(f"metrics of {name}: the batch size {size!r} is no number: make the run again")
                total[int(str(size))] = total.get(int(str(size)), 0.0) + _increase(of_size, first_ns)
        return dict(sorted(total.items()))

    def executed(self, model: str) -> int | None:
        """Requests that the servers executed during the log, whoever sent them; None: no reading tells."""
        by_size = self.increase_by_batch_size("batch_executions", model)
        return round(sum(size * batches for size, batches in by_size.items())) if by_size else None

    def write(self, path: Path) -> None:
        """Write metrics.parquet."""
        write_table(
            path, pa.Table.from_pandas(self.frame, schema=SCHEMA, preserve_index=False), KIND, VERSION, self.provenance
        )

    @classmethod
    def read(cls, path: Path) -> MetricLog:
        """Read metrics.parquet."""
        table, provenance = read_table(path, KIND, VERSION, SCHEMA)
        return cls(table.to_pandas(), provenance)


def _increase(samples: pd.DataFrame, first_ns: int) -> float:
    """Sum of a counter's steps; a step down is a restart from zero."""
    values = samples["value"].to_numpy(dtype=float)
    before = values[0] if samples["time_ns"].iloc[0] == first_ns else 0.0
    steps = np.diff(values, prepend=before)
    return float(np.where(steps < 0, values, steps).sum())
