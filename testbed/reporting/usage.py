"""What a run's batches say: utilisation, batch sizes. From the log of batches, else from Triton's own statistics."""

from __future__ import annotations

from typing import Literal

import numpy as np

from testbed.reporting.loading import LoadedRun

Source = Literal["batches", "metrics"]


def utilisation(run: LoadedRun) -> tuple[float | None, Source | None]:
    """Share of the run's instance time that was busy, and where it was read; (None, None) if not measured.

    Busy time: the increase of `batch_compute_seconds`, which means the same in a real and in a simulated run; without
    it start to end of every batch within the run, from batches.parquet (in a real run that leaves out the backend's
    own cost). Instance time: replicas * instances * duration.
    """
    service, duration_s = run.manifest.service, run.manifest.duration_s
    instance_s = service.replicas * service.instances * duration_s
    if run.metrics is not None:
        increases = run.metrics.increase_by_batch_size("batch_compute_seconds", run.manifest.model)
        if increases:
            return sum(increases.values()) / instance_s, "metrics"
    if run.batches is not None and len(run.batches.frame):
        return run.batches.busy_s(duration_s) / instance_s, "batches"
    return None, None


def batch_counts(run: LoadedRun) -> dict[int, int] | None:
    """Number of batches by batch size, ascending; None if not measured."""
    if run.batches is not None and len(run.batches.frame):
        sizes, counts = np.unique(run.batches.batches()["batch_size"].to_numpy(), return_counts=True)
        return {int(size): int(count) for size, count in zip(sizes, counts, strict=True)}
    if run.metrics is not None:
        increases = run.metrics.increase_by_batch_size("batch_executions", run.manifest.model)
        return {size: round(count) for size, count in increases.items() if round(count)} or None
    return None


def mean_batch(counts: dict[int, int] | None) -> float | None:
    """Mean batch size over batches (not over requests)."""
    if not counts:
        return None
    return sum(size * count for size, count in counts.items()) / sum(counts.values())
