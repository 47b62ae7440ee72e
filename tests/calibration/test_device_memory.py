"""Memory of a GPU is told apart into servers and instances where the runs can tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.device_use import fit_device_memory
from testbed.calibration.evidence import Evidence
from testbed.measurement.metric_log import MetricLog
from testbed.run_dir import Device, RunManifest
from workloads.catalog import ServiceConfig

MB = 1_000_000


def run(replicas: int, instances: int, used_mb: list[float]) -> Evidence:
    """NVML readings of a run."""
    manifest = RunManifest(
        run_id=f"r{replicas}-n{instances}",
        kind="real",
        state="complete",
        model="m",
        weights="none",
        device=Device(kind="gpu", name="flat"),
        service=ServiceConfig(replicas=replicas, instances=instances),
        pattern="constant",
        seed=0,
        duration_s=60.0,
    )
    rows = [(k, "nvml", "memory_used", {"gpu": "0"}, value * MB, "bytes") for k, value in enumerate(used_mb)]
    empty = Schedule(np.array([], dtype=np.int64), np.array([], dtype=object), 60.0)
    return Evidence(manifest, empty, RequestLog(pd.DataFrame()), MetricLog.from_rows(rows), None)


def test_servers_and_instances_come_back() -> None:
    runs = [run(r, n, [100.0, 500 + r * (300 + n * 200)]) for r, n in ((1, 1), (1, 2), (4, 1))]
    memory = fit_device_memory(runs)
    assert memory is not None
    assert memory.server_bytes == pytest.approx(300 * MB)
    assert memory.instance_bytes == pytest.approx(200 * MB)


def test_one_kind_of_service_counts_everything_as_its_own() -> None:
    memory = fit_device_memory([run(2, 1, [900.0]), run(2, 1, [1000.0])])
    assert memory is not None
    assert (memory.server_bytes, memory.instance_bytes) == (500 * MB, 0.0)


def test_no_gpu_no_memory() -> None:
    assert fit_device_memory([run(1, 1, [])]) is None
