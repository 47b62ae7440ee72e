"""Serving's decisions that need no server."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from testbed.errors import ServingError
from testbed.measurement.machine import detect_device
from testbed.serving import replica
from testbed.serving.replica import ServerReplica
from testbed.serving.server_process import free_ports, last_error
from testbed.serving.tritonserver import find_tritonserver, server_environment


def test_a_platform_without_a_server_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(ServingError, match=r"no tritonserver for Darwin arm64 .*--server http://host:8000"):
        find_tritonserver()
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(ServingError, match="pip install --no-deps nvidia-pytriton=="):
        find_tritonserver()


def test_a_python_that_the_wheel_has_no_stub_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Future(tuple[int, ...]):
        major, minor = 3, 99

    monkeypatch.setattr(sys, "version_info", Future((3, 99, 0)))
    with pytest.raises(ServingError, match=r"no triton_python_backend_stub for Python 3\.99: use Python 3\.11"):
        find_tritonserver()


def test_the_embedding_option_is_refused_for_a_backend_the_server_lacks(make_service: Any, options: Any) -> None:
    service = make_service("resnet50", options=options.model_copy(update={"backend": "onnxruntime"}))
    with pytest.raises(ServingError, match="no onnxruntime backend"):
        service.start()


def test_the_stub_finds_this_python_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/driver")
    on_cpu, on_gpu = server_environment(3, gpu=False), server_environment(3, gpu=True)
    assert on_cpu["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert on_cpu["OMP_NUM_THREADS"] == "3"
    assert "/opt/driver" not in on_cpu["LD_LIBRARY_PATH"]
    assert on_gpu["LD_LIBRARY_PATH"].split(":")[-1] == "/opt/driver"


def test_the_log_line_that_tells_most_is_chosen(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    failure = r"failed to load 'bert' version 1: Internal: ValueError: no\n\nAt:\n  model.py(3): initialize"
    log.write_text(
        'I1124 08:00:30.1 71 metrics.cc:770] "Collecting CPU metrics"\n'
        f'E1124 08:00:31.2 71 model_lifecycle.cc:642] "{failure}"\n'
        'E1124 08:00:31.9 71 pb_stub.cc:1] "something that followed"\n'
        "error: creating server: Internal - failed to load all models\n"
    )
    assert last_error(log) == "failed to load 'bert' version 1: Internal: ValueError: no"
    log.write_text("E1124 08:00:31.9 71 main.cc:1] first\nE1124 08:00:32.0 71 main.cc:1] last\nerror: x\n")
    assert last_error(log) == "last"
    log.write_text("ld.so: cannot open shared object file\n\n")
    assert last_error(log) == "ld.so: cannot open shared object file"
    log.write_text("")
    assert last_error(log) == "it wrote nothing to its log"
    log.write_text(
        'E1128 11:36:09.175474 25019 server.cc:241] "CudaDriverHelper has not been initialized."\n'
        "terminate called after throwing an instance of 'boost::interprocess::lock_exception'\n"
        "  what():  boost::interprocess::lock_exception\n"
    )
    assert last_error(log) == "boost::interprocess::lock_exception"


@pytest.mark.parametrize(
    ("port", "reason", "tries"),
    [
        (None, "boost::interprocess::lock_exception", 3),
        (8000, "boost::interprocess::lock_exception", 3),
        (None, "bind: Address already in use", 3),
        (8000, "bind: Address already in use", 1),
        (None, "failed to load 'm' version 1", 1),
    ],
)
def test_a_start_is_tried_again_only_where_it_may_go_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port: int | None, reason: str, tries: int
) -> None:
    started: list[Path] = []

    def start(_: ServerReplica, repository: Path) -> None:
        started.append(repository)
        raise ServingError(f"the server died during start-up: {reason}")

    monkeypatch.setattr(ServerReplica, "_start_once", start)
    monkeypatch.setattr(replica, "write_repository", lambda *_: tmp_path)
    options: Any = SimpleNamespace(batch_log_dir=None, model_copy=lambda update: None)
    launch: Any = SimpleNamespace(options=options, spec=SimpleNamespace(name="m"), service=None)
    with pytest.raises(ServingError, match="died during start-up"):
        ServerReplica(1, tmp_path, launch, port, lambda *_: None)._start_up()
    assert len(started) == tries


def test_free_ports_are_three_different_ones() -> None:
    ports = free_ports(None)
    assert len({ports.http, ports.grpc, ports.metrics}) == 3


def test_without_a_driver_the_device_is_the_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("processor\t: 0\nmodel name\t: Imaginary 9000\nmodel name\t: Imaginary 9000\n")
    device = detect_device(cpu_info)
    assert device.kind == "cpu"
    assert device.name.startswith("Imaginary 9000, ")
    cpu_info.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert detect_device(cpu_info).name.startswith(f"{platform.machine()}, ")


def test_with_a_driver_the_device_is_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"Init": None, "Shutdown": None, "DeviceGetCount": 1, "DeviceGetHandleByIndex": 7}.items():
        monkeypatch.setattr(pynvml, f"nvml{name}", lambda *_, value=value: value)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: f"GPU {handle}")
    assert detect_device().model_dump() == {"kind": "gpu", "name": "GPU 7"}
