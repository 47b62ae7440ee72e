"""Every transport against a real tritonserver; what the server's own log says of the requests is compared."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from loadgen.discovery import model_tensors
from loadgen.endpoints import read_endpoints
from loadgen.job import ReplayJob, RequestShape, client_figures, run_replay, start_of
from loadgen.patterns import Constant
from loadgen.schedule import poisson_schedule
from loadgen.validity import judge
from testbed.measurement.batch_log import RECORD
from testbed.serving.local import LocalService
from workloads.catalog import ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions

pytestmark = pytest.mark.server


@pytest.fixture
def service(tmp_path):
    options = BackendOptions(
        emulated=EmulatedProfile.linear(0.001, 0.0002, 8, sigma=0), batch_log_dir=tmp_path / "batches", threads=1
    )
    config = ServiceConfig(replicas=2)
    with LocalService(tmp_path / "service", find_model("emulated"), config, options) as service:
        yield service


@pytest.fixture
def make_job(tmp_path, service):
    def make(name: str, seconds: float = 1.5, **settings) -> ReplayJob:
        folder = tmp_path / name
        folder.mkdir()
        poisson_schedule(Constant(rate=100), seconds, 1, "emulated").write(folder / "schedule.parquet")
        served = model_tensors(service.endpoints()[0].http, "emulated")
        requests = {"emulated": RequestShape(inputs=served.inputs, batched=served.batched)}
        settings = {"endpoints": service.endpoints_file} | settings
        return ReplayJob(schedule=folder / "schedule.parquet", run_dir=folder, requests=requests, **settings)

    return make


def served_ids(batches: Path) -> list[int]:
    return sorted(i for file in batches.rglob("*.bin") for i in np.fromfile(file, RECORD)["request_id"].tolist())


def test_every_transport_delivers_each_request_once_under_its_id(service, make_job, tmp_path):
    seen: list[int] = []
    for transport in ("http", "http_shm", "grpc"):
        endpoints = tuple(e.grpc for e in service.endpoints()) if transport == "grpc" else service.endpoints_file
        log = run_replay(make_job(transport, transport=transport, endpoints=endpoints))
        assert log.counts()["ok"] == len(log), log.frame["detail"].value_counts()
        assert log.frame["endpoint"].nunique() == 2
        seen += log.frame["request_id"].tolist()
        assert served_ids(tmp_path / "batches") == sorted(seen)
        regions = [f"kis-{client.pid}-" for client in client_figures(log)]
        assert not [name for name in os.listdir("/dev/shm") if name.startswith(tuple(regions))]


def test_a_server_killed_in_the_run_leaves_errors_and_the_other_replica_goes_on(service, make_job):
    job = make_job("killed", seconds=4)
    victim = service.endpoints()[0]
    unlisted_ns: list[int] = []

    def kill() -> None:
        while start_of(job.raw) is None or time.monotonic_ns() - start_of(job.raw) < 1e9:
            time.sleep(0.01)
        os.kill(victim.pid, signal.SIGKILL)
        while victim.http in read_endpoints(service.endpoints_file):
            time.sleep(0.01)
        unlisted_ns.append(time.monotonic_ns() - start_of(job.raw))

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    log = run_replay(job)
    killing.join()
    counts = log.counts()
    assert counts["ok"] + counts["error"] == len(log)
    last = log.frame[log.frame["sent_ns"] > unlisted_ns[0]]  # the service took the dead one off its list
    assert (last["status"] == "ok").all()
    assert set(log.frame["endpoint"][log.frame["status"] == "error"]) <= {victim.http}
    schedule = poisson_schedule(Constant(rate=100), 4, 1, "emulated")
    verdict = judge(schedule, log, client_figures(log))
    assert verdict.figures["error"] == counts["error"]
