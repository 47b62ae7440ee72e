"""Interference of replicas on one device is read off a simulated GPU that has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.evidence import Evidence
from testbed.calibration.sharing import fit_interference
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.run_dir import Device, RunManifest
from tests.oracles.cluster_worlds import cluster, flat_profile, simulate
from workloads.catalog import ServiceConfig

MEAN_S = [0.010, 0.012, 0.014, 0.016]


def evidence(kind: dict[str, Any], replicas: int, rate: float) -> Evidence:
    """A run of replicas on one simulated GPU, as calibration would read it."""
    arrivals = np.cumsum(np.random.default_rng(replicas).exponential(1 / rate, round(60 * rate)))
    config = cluster(gpus=1, gpu_kind=kind, replicas=replicas, max_batch_size=4)
    sim = simulate(config, arrivals, flat_profile(MEAN_S))
    sim.advance(float(arrivals[-1]) + 10)
    rows = sim.all_rows()
    frame = pd.DataFrame({name: rows[name] for name in ("instance", "start_ns", "end_ns", "batch_size", "position")})
    frame["request_id"], frame["replica"] = rows["id"], rows["pod"]
    manifest = RunManifest(
        run_id=f"k{replicas}",
        kind="simulated",
        state="complete",
        model="m",
        weights="none",
        device=Device(kind="emulated", name="flat"),
        service=ServiceConfig(replicas=replicas, max_batch_size=4),
        pattern="constant",
        seed=0,
        duration_s=60.0,
    )
    empty = Schedule(np.array([], dtype=np.int64), np.array([], dtype=object), 60.0)
    return Evidence(manifest, empty, RequestLog(pd.DataFrame()), MetricLog.from_rows([]), BatchLog(frame))


def test_mps_interference_comes_back() -> None:
    kind = {"sharing": "mps", "shares": 3, "interference": [1.0, 1.2, 1.5]}
    runs = [evidence(kind, replicas, 120.0 * replicas) for replicas in (1, 2, 3)]
    assert fit_interference(runs, np.array(MEAN_S)) == pytest.approx((1.0, 1.2, 1.5), rel=0.01)


def test_slices_that_are_isolated_show_none() -> None:
    runs = [evidence({"sharing": "mig", "shares": 2}, replicas, 120.0 * replicas) for replicas in (1, 2)]
    assert fit_interference(runs, np.array(MEAN_S)) == pytest.approx((1.0, 1.0), rel=1e-6)


def test_one_replica_tells_nothing() -> None:
    assert fit_interference([evidence({}, 1, 100.0)], np.array(MEAN_S)) == ()
