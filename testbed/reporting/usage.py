"""What a run's batches say: utilisation, batch sizes. From the log of batches, else from Triton's own statistics."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from testbed.measurement.metric_log import MetricLog
from testbed.reporting.loading import LoadedRun

Source = Literal["batches", "metrics"]


def utilisation(run: LoadedRun) -> tuple[float | None, Source | None]:
    """Share of the run's instance time that was busy, and where it was read; (None, None) if not measured.

    Busy time: start to end of every batch within the run, from batches.parquet; without it the increase of
    `batch_compute_seconds`. Instance time: replicas * instances * duration.
    """
    service, duration_s = run.manifest.service, run.manifest.duration_s
    instance_s = service.replicas * service.instances * duration_s
    if run.batches is not None and len(run.batches.frame):
        batches = run.batches.batches()
        start, end = (batches[column].to_numpy(dtype=float).clip(0, duration_s * 1e9) for column in _SPAN)
        return float((end - start).sum() / 1e9 / instance_s), "batches"
    if run.metrics is not None:
        increases = _increase_by_batch_size(run.metrics, "batch_compute_seconds", run.manifest.model)
        if increases:
            return sum(increases.values()) / instance_s, "metrics"
    return None, None


def batch_counts(run: LoadedRun) -> dict[int, int] | None:
    """Number of batches by batch size, ascending; None if not measured."""
    if run.batches is not None and len(run.batches.frame):
        sizes, counts = np.unique(run.batches.batches()["batch_size"].to_numpy(), return_counts=True)
        return {int(size): int(count) for size, count in zip(sizes, counts, strict=True)}
    if run.metrics is not None:
        increases = _increase_by_batch_size(run.metrics, "batch_executions", run.manifest.model)
        return {size: round(count) for size, count in increases.items() if round(count)} or None
    return None


def mean_batch(counts: dict[int, int] | None) -> float | None:
    """Mean batch size over batches (not over requests)."""
    if not counts:
        return None
    return sum(size * count for size, count in counts.items()) / sum(counts.values())


_SPAN = ("start_ns", "end_ns")


def _increase_by_batch_size(log: MetricLog, name: str, model: str) -> dict[int, float]:
    """Increase over the run of a cumulative metric, by batch size, summed over endpoints."""
    rows = log.select("triton", name, model=model)
    if not {"endpoint", "batch_size"} <= set(rows.columns):
        return {}
    # A server that has run no batch yet has no row by batch size, but its page is in the log from the first reading on.
    pages = log.select("triton", "nv_inference_count", model=model)
    first_page_ns = dict(pages.groupby("endpoint")["time_ns"].min()) if "endpoint" in pages else {}
    total: dict[int, float] = {}
    for name_of, endpoint in rows.groupby("endpoint"):
        first_ns = endpoint["time_ns"].min()
        first_ns = min(first_ns, first_page_ns.get(name_of, first_ns))
        for size, samples in endpoint.groupby("batch_size"):
            total[int(str(size))] = total.get(int(str(size)), 0.0) + _increase(samples, first_ns)
    return dict(sorted(total.items()))


def _increase(samples: pd.DataFrame, first_ns: int) -> float:
    """Sum of a counter's steps; a step down is a restart from zero.

    A size that is missing in its endpoint's first sample had not been executed before, so it starts from zero.
    """
    values = samples["value"].to_numpy(dtype=float)
    before = values[0] if samples["time_ns"].iloc[0] == first_ns else 0.0
    steps = np.diff(values, prepend=before)
    return float(np.where(steps < 0, values, steps).sum())
