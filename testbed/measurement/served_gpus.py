"""On which GPUs a run's models were, by UUID: NVML's order is not always CUDA's.

Who tells, in this order: the backends that ship with us, a file an instance; the server's metrics page, where it shows
one GPU only; NVML, by the server's processes. If nobody does, the GPU is not known, and nothing is measured of it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from testbed.measurement.gpu_metrics import GpuSource
from testbed.measurement.metric_log import MetricLog


def served_gpus(
    batch_logs: Path | None, metrics: MetricLog, gpus: GpuSource | None, pids: Collection[int]
) -> tuple[str, ...]:
    """Sorted UUIDs; empty: none, or not known.

    batch_logs: of the run's servers; None: they are not ours. gpus: None: this machine's are not the ones that serve.
    pids: of the servers.
    """
    by_backends = set() if batch_logs is None else {file.read_text().strip() for file in batch_logs.glob("*/*.gpu")}
    if by_backends:
        return tuple(sorted(by_backends))
    page = metrics.select("triton", "nv_gpu_memory_used_bytes")
    on_page = set(page["gpu_uuid"]) if "gpu_uuid" in page else set()
    if len(on_page) == 1:
        return tuple(on_page)
    return () if gpus is None else tuple(sorted(gpus.used_by(pids)))
