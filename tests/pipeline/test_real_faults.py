"""Faults of a real server in the middle of a run: every request is accounted for, and the verdict says it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from tritonclient.utils import triton_to_np_dtype

from loadgen.endpoints import address as http_address
from loadgen.patterns import make_pattern
from loadgen.request_log import RequestLog
from loadgen.row_stream import read_rows
from loadgen.schedule import poisson_schedule
from testbed.config import ClientConfig, ServeConfig
from testbed.pipeline.real_run import run_real
from testbed.pipeline.target import Target, remote, served
from testbed.pipeline.traffic import Identity
from testbed.run_dir import RunDir
from workloads.catalog import ServiceConfig
from workloads.emulated_profile import EmulatedProfile

pytestmark = pytest.mark.server
RATE, SECONDS = 100.0, 6.0
STALL_S = 5.0
LONG_S = 60.0  # what is waited for has come long before


def run_with_fault(
    tmp_path: Path,
    fault: Callable[[Target], None],
    seconds: float = SECONDS,
    seen_as: Callable[[Target], Target] = lambda ours: ours,
) -> RunDir:
    """Replay a steady rate; the fault strikes two seconds into it. seen_as: how the run knows the server."""
    emulated = EmulatedProfile.linear(0.002, 0.0005, 8)
    serve = ServeConfig(model="emulated", emulated=emulated, service=ServiceConfig())
    schedule = poisson_schedule(make_pattern("constant", rate=RATE), seconds, 1, "emulated")
    with served(serve, tmp_path / "serving") as target:
        started = threading.Event()

        def strike() -> None:
            started.wait()
            time.sleep(2.0)
            fault(target)

        thread = threading.Thread(target=strike)
        thread.start()
        run = run_real(
            seen_as(target),
            schedule,
            tmp_path / "run",
            Identity("fault", "constant", {"rate": RATE}, 1),
            ClientConfig(timeout_s=2.0),
            sample_period_s=1.0,
            on_progress=lambda share: started.set(),
        )
        thread.join()
    assert len(RequestLog.read(run.requests)) == len(schedule)
    return run


def theirs(ours: Target) -> Target:
    """The same server as one of the user's: no log of batches."""
    address = ours.addresses()[0]
    return remote(address.http_url, None, address.metrics_url)


def another_client(target: Target) -> None:
    """30 requests for the same model."""
    (tensor,) = target.inputs
    sent = triton.InferInput(tensor.name, [1, *tensor.shape], tensor.datatype)
    sent.set_data_from_numpy(np.zeros([1, *tensor.shape], dtype=triton_to_np_dtype(tensor.datatype)))
    with contextlib.closing(triton.InferenceServerClient(http_address(target.addresses()[0].http_url))) as client:
        for _ in range(30):
            client.infer(target.model, [sent])


@pytest.mark.parametrize("seen_as", [lambda ours: ours, theirs], ids=["with a log", "of the user's"])
def test_requests_of_another_client_make_the_run_invalid(tmp_path: Path, seen_as: Callable[[Target], Target]) -> None:
    verdict = run_with_fault(tmp_path, another_client, seen_as=seen_as).manifest.verdict
    assert verdict is not None
    assert not verdict.valid
    assert [reason for reason in verdict.reasons if "used the server" in reason or "used the model" in reason]


def server_pid(target: Target) -> int:
    return next(iter(target.pids().values()))


def test_a_server_killed_mid_run_leaves_errors_and_an_invalid_verdict(tmp_path: Path) -> None:
    run = run_with_fault(tmp_path, lambda target: os.kill(server_pid(target), signal.SIGKILL))
    counts = RequestLog.read(run.requests).counts()
    assert counts["ok"] > 0
    assert counts["error"] + counts["dropped"] > RATE  # nobody answers for about four seconds
    assert sum(counts.values()) == len(RequestLog.read(run.requests))
    verdict = run.manifest.verdict
    assert verdict is not None
    assert not verdict.valid
    assert run.batches.exists()  # what the backend had logged is kept


def test_a_server_that_stalls_is_a_wait_in_the_latency_and_timeouts_beyond_it(tmp_path: Path) -> None:
    def stall(target: Target) -> None:
        # The server alone: one that wakes together with its backend's process may take that for dead, and restarts it.
        os.kill(server_pid(target), signal.SIGSTOP)
        time.sleep(STALL_S)
        os.kill(server_pid(target), signal.SIGCONT)

    run = run_with_fault(tmp_path, stall, seconds=STALL_S + 4)
    log = RequestLog.read(run.requests)
    counts = log.counts()
    assert counts["timeout"] > 0.5 * (STALL_S - 2) * RATE  # all but those of its last two seconds waited over two
    assert log.latency_s[log.ok].max() > 1.0, counts  # those of its last two seconds were answered after it
    assert counts["unsent"] == 0  # open loop: the stall held nothing back
    verdict = run.manifest.verdict
    assert verdict is not None
    assert not verdict.valid


CAMPAIGN = """
serve:
  model: emulated
  emulated: {mean_s: [0.002, 0.003], sigma: 0.05}
  service: {max_batch_size: 2}
traffic: {pattern: constant, parameters: {rate: 20}, duration_s: 60}
"""


def clients_of(folder: Path) -> list[psutil.Process]:
    """Load generators whose job lies in the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "locust" in words and any(str(folder) in word for word in words):
            found.append(process)
    return found


def answered(raw: Path) -> int:
    """Requests whose rows a client has written so far."""
    return sum(len(read_rows(file)[0]) for file in raw.glob("rows-*.arrows"))


def wait_for(what: Callable[[], object]) -> bool:
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_kis_that_is_ended_leaves_no_client_behind(tmp_path: Path, number: int) -> None:
    """It would go on sending, to whoever gets the server's port next."""
    (tmp_path / "c.yaml").write_text(CAMPAIGN)
    kis = [str(Path(sys.executable).with_name("kis")), "measure", "c.yaml", "--out", "run"]
    process = subprocess.Popen(kis, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: answered(tmp_path / "run/raw") > 10)
        assert len(clients_of(tmp_path)) == 1
        process.send_signal(number)
        process.wait(LONG_S)
        assert wait_for(lambda: not clients_of(tmp_path))
    finally:
        process.kill()
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert RunDir(tmp_path / "run").manifest.state == "interrupted"
        assert RequestLog.read(tmp_path / "run/requests.parquet").counts()["ok"] > 10


def test_what_an_overloaded_run_left_in_the_queue_is_no_load_of_the_next_one(tmp_path: Path) -> None:
    serve = ServeConfig(model="emulated", emulated=EmulatedProfile.linear(0.1, 0.01, 8), service=ServiceConfig())
    runs = []
    with served(serve, tmp_path / "serving") as target:
        # Its clients give up at once, of what takes the server about ten seconds; the next ones wait.
        for name, rate, timeout_s in (("overloaded", 400.0, 0.5), ("next", 5.0, 30.0)):
            schedule = poisson_schedule(make_pattern("constant", rate=rate), 1.2, 1, "emulated")
            identity = Identity(name, "constant", {"rate": rate}, 1, percentile=None)
            client = ClientConfig(timeout_s=timeout_s)
            runs.append(run_real(target, schedule, tmp_path / name, identity, client, 1.0))
    overloaded, after = (RequestLog.read(run.requests) for run in runs)
    assert overloaded.counts()["timeout"] > 200
    assert after.counts()["ok"] == len(after)
    assert after.latency_s.max() < 2.0  # nothing stood before them
