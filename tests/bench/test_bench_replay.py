"""How fast the replay harness is by itself. Off by default: `pytest --benchmark-only tests/bench`."""

from __future__ import annotations

import numpy as np
import pytest

from loadgen.job import ReplayJob, RequestShape, run_replay
from loadgen.patterns import Constant
from loadgen.schedule import poisson_schedule
from testbed.serving.local import LocalService
from workloads.catalog import ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions


@pytest.mark.parametrize("rate", [1_000, 3_000, 15_000])
def test_null_transport(benchmark, tmp_path, rate):
    """One process, Locust's statistics included: all requests sent, and how late."""
    poisson_schedule(Constant(rate=rate), 5.0, 1, "null").write(tmp_path / "schedule.parquet")
    job = ReplayJob(
        schedule=tmp_path / "schedule.parquet",
        run_dir=tmp_path,
        endpoints=("127.0.0.1:1",),
        requests={"null": RequestShape(inputs=())},
        transport="null",
    )
    log = benchmark.pedantic(run_replay, args=(job,), rounds=1)
    tell(benchmark, log)
    assert log.counts()["ok"] == len(log)


@pytest.mark.parametrize("rate", [1_000, 3_000])
def test_beside_a_real_server(benchmark, tmp_path, rate):
    """One process beside a real Triton that could answer twice as much: how much is delivered, and how late."""
    spec = find_model("emulated")
    options = BackendOptions(emulated=EmulatedProfile.linear(0.0005, 0.0001, 8))
    poisson_schedule(Constant(rate=rate), 10.0, 1, spec.name).write(tmp_path / "schedule.parquet")
    with LocalService(tmp_path / "serving", spec, ServiceConfig(), options) as service:
        job = ReplayJob(
            schedule=tmp_path / "schedule.parquet",
            run_dir=tmp_path,
            endpoints=service.endpoints_file,
            requests={spec.name: RequestShape(inputs=spec.inputs)},
        )
        log = benchmark.pedantic(run_replay, args=(job,), rounds=1)
    tell(benchmark, log)
    assert log.counts()["ok"] > 0.9 * len(log)


def tell(benchmark, log):
    """The figures of a replay, beside the benchmark's own."""
    completed_s = log.seconds("completed_ns")
    lag_ms = 1e3 * log.lag_s
    benchmark.extra_info.update(
        delivered_rps=round(len(log) / float(np.nanmax(completed_s) - np.nanmin(completed_s))),
        delivered_share=round(log.counts()["ok"] / len(log), 5),
        lag_p50_ms=round(float(np.nanpercentile(lag_ms, 50)), 3),
        lag_p99_ms=round(float(np.nanpercentile(lag_ms, 99)), 3),
        client_cpu_share=round(log.provenance["clients"][0]["cpu_s"] / log.provenance["clients"][0]["wall_s"], 2),
    )
    print(benchmark.name, benchmark.extra_info)
