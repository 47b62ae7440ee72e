"""Replicas come and go while requests do, and whatever kills a server, nothing of it stays."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from serving_remains import Remains, alive

from loadgen.endpoints import read_endpoints
from testbed.errors import ServingError
from testbed.serving.local import LocalService
from workloads.catalog import ServiceConfig, TensorSpec, find_model
from workloads.emulated_profile import EmulatedProfile

pytestmark = pytest.mark.server

ONE = np.ones((1, 4), np.float32)


class Stream:
    """A few clients that follow the endpoints file, as a balancer does; counts answers, keeps failures."""

    def __init__(self, endpoints_file: Path, infer: Any) -> None:
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        self._file, self._infer, self._stop = endpoints_file, infer, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(k,)) for k in range(6)]

    def _run(self, turn: int) -> None:
        while not self._stop.wait(0.01):
            current = read_endpoints(self._file)
            chosen = current[turn % len(current)]
            turn += 1
            try:
                assert (self._infer(chosen, "emulated", {"x": ONE}) == 1).all()
                self.answers[chosen] = self.answers.get(chosen, 0) + 1
            except Exception as error:  # whatever it is, the test shows it
                self.failures.append(f"{chosen}: {error!r}")

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_scaling_up_and_down_under_load_fails_no_request(
    make_service: Any, options: Any, infer: Any, remains_of: Any, eventually: Any
) -> None:
    slow = options.model_copy(update={"emulated": EmulatedProfile.linear(0.1, 0, 8)})  # something is always in flight
    with make_service(options=slow) as service:
        (first,) = service.endpoints()
        with Stream(service.endpoints_file, infer) as stream:
            service.scale(3)
            service.wait_settled(90)
            three = service.endpoints()
            remains = remains_of(service)
            addresses = {one.http for one in three}
            eventually(lambda: set(stream.answers) == addresses, "all three answer")
            kept = http.client.HTTPConnection(three[1].http)  # a client's pool keeps its connections
            kept.request("GET", "/v2/health/live")
            assert kept.getresponse().read() == b""
            service.scale(1)
            assert service.endpoints() == [first]  # the oldest stays; the others are out of the file at once
            assert read_endpoints(service.endpoints_file) == (first.http,)
            service.wait_settled(90)
            kept.close()
            before = stream.answers[first.http]
            eventually(lambda: stream.answers[first.http] > before, "the one that is left answers")
        assert stream.failures == []
        assert len({one.name for one in three}) == 3
        states = {
            name: [event.state for event in service.events() if event.replica == name]
            for name in ("replica-0", "replica-1", "replica-2")
        }
        assert states["replica-0"] == ["starting", "ready"]
        assert states["replica-1"] == states["replica-2"] == ["starting", "ready", "draining", "gone"]
        times = [event.time_ns for event in service.events()]
        assert times == sorted(times)
        assert all((event.start_up_s is not None) == (event.state == "ready") for event in service.events())
    assert remains.all_gone()
    assert read_endpoints(service.endpoints_file) == ()
    assert service.errors() == {}


def test_a_killed_server_is_noticed_and_replaced_when_asked(
    make_service: Any, remains_of: Any, eventually: Any, infer: Any
) -> None:
    with make_service(config=ServiceConfig(replicas=2)) as service:
        remains = remains_of(service)
        victim, survivor = service.endpoints()
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: service.endpoints() == [survivor], "the death is noticed")
        assert read_endpoints(service.endpoints_file) == (survivor.http,)
        assert service.events()[-1].replica == victim.name
        assert "ended by itself" in service.errors()[victim.name]
        with pytest.raises(ServingError, match=f"{victim.name} of emulated: the server ended by itself"):
            service.wait_settled(90)
        assert infer(survivor.http, "emulated", {"x": ONE}).tolist() == [[1.0] * 4]
        service.scale(2)
        service.wait_settled(90)
        assert [endpoint.name for endpoint in service.endpoints()] == ["replica-1", "replica-2"]
    assert remains.all_gone()


def test_a_killed_guard_leaves_nothing_behind(make_service: Any, remains_of: Any, eventually: Any) -> None:
    with make_service() as service:
        remains = remains_of(service)
        psutil.Process(service.endpoints()[0].pid).parent().kill()
        eventually(lambda: service.endpoints() == [], "the death is noticed")
        eventually(remains.all_gone, "nothing is left")
        assert remains.all_gone()


OWNER = """
import sys, time
from pathlib import Path
from testbed.serving.local import LocalService
from workloads.catalog import ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions
options = BackendOptions(emulated=EmulatedProfile.linear(0.002, 0.0005, 8))
with LocalService(Path(sys.argv[1]), find_model("emulated"), ServiceConfig(), options) as service:
    print(service.endpoints()[0].pid, flush=True)
    time.sleep(60)
"""


def test_servers_go_when_their_owner_is_killed(tmp_path: Path, eventually: Any) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        remains = Remains([int(owner.stdout.readline())])
        assert not remains.all_gone()
    finally:
        owner.kill()
        owner.communicate()
    eventually(remains.all_gone, "servers and shared memory are gone")


def test_a_fixed_port_is_used_and_a_taken_one_refused(make_service: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=rf"port {port} cannot be used \(Address already in use\)"):
            make_service(http_port=port).start()
    with make_service(http_port=port) as service:
        assert service.endpoints()[0].http == f"127.0.0.1:{port}"


def test_a_server_that_dies_during_start_up_says_why(make_service: Any, options: Any, tmp_path: Path) -> None:
    broken = options.model_copy(update={"emulated": options.emulated.model_copy(update={"seed": -1})})
    with pytest.raises(ServingError, match=r"died during start-up: failed to load 'emulated'.*ValueError.*server\.log"):
        make_service(options=broken).start()
    spec = find_model("emulated")
    odd = spec.model_copy(update={"inputs": (TensorSpec(name="x", datatype="FP33", shape=(4,)),)})
    with pytest.raises(ServingError, match=r"died during start-up: .*failed to read text proto"):
        LocalService(tmp_path / "odd", odd, ServiceConfig(), options).start()


def test_stopping_amid_a_start_up_leaves_nothing(make_service: Any, eventually: Any) -> None:
    service = make_service("bert")
    refusals: list[str] = []

    def start() -> None:
        try:
            service.start()
        except ServingError as error:
            refusals.append(str(error))

    starting = threading.Thread(target=start)
    starting.start()
    eventually(lambda: bool(service.events()), "the start-up began")
    servers: list[psutil.Process] = []

    def loads() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            servers[:] = [child for child in psutil.Process().children(recursive=True) if "triton" in child.name()]
        return any("stub" in server.name() for server in servers)

    eventually(loads, "the server runs, and so does its stub, which takes seconds to load this model")
    service.stop()
    starting.join(60)
    assert refusals == ["the service was stopped while it started"]
    eventually(lambda: not any(map(alive, servers)), "the server and its stub are gone")
    assert [event.state for event in service.events()] == ["starting", "gone"]
