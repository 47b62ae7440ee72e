"""A service in a temporary folder, a client for it, and a look at what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from serving_remains import Remains

from testbed.serving.local import LocalService
from workloads.catalog import ServiceConfig, find_model
from workloads.emulated_profile import EmulatedProfile
from workloads.repository import BackendOptions

Infer = Callable[..., np.ndarray]


@pytest.fixture
def options(tmp_path: Path) -> BackendOptions:
    """An emulated accelerator without noise that takes 2.5 ms for one request and 6 ms for eight."""
    return BackendOptions(
        emulated=EmulatedProfile.linear(0.002, 0.0005, 8, sigma=0), batch_log_dir=tmp_path / "batches", threads=2
    )


@pytest.fixture
def make_service(tmp_path: Path, options: BackendOptions) -> Callable[..., LocalService]:
    def make(model: str = "emulated", config: ServiceConfig | None = None, **more: Any) -> LocalService:
        chosen = more.pop("options", options)
        return LocalService(tmp_path / "service", find_model(model), config or ServiceConfig(), chosen, **more)

    return make


@pytest.fixture
def infer() -> Infer:
    """infer(address, model, {input: array}, request_id) -> the model's one output. Usable from several threads."""

    def call(address: str, model: str, inputs: dict[str, np.ndarray], request_id: str = "") -> np.ndarray:
        datatypes = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}
        tensors = []
        for name, array in inputs.items():
            tensor = tritonclient.http.InferInput(name, list(array.shape), datatypes[array.dtype])
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        client = tritonclient.http.InferenceServerClient(address)  # one a call: it belongs to the thread that made it
        try:
            output: np.ndarray = client.infer(model, tensors, request_id=request_id).as_numpy(
                find_model(model).outputs[0].name
            )
            return output
        finally:
            client.close()

    return call


@pytest.fixture
def together() -> Callable[..., list[Any]]:
    """Run a function on every item at once, a thread each."""

    def run(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        with ThreadPoolExecutor(len(items)) as pool:
            return list(pool.map(function, items))

    return run


@pytest.fixture
def remains_of() -> Callable[[LocalService], Remains]:
    return lambda service: Remains([endpoint.pid for endpoint in service.endpoints() if endpoint.pid is not None])


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait for a condition; fail with its name if it stays false."""

    def wait(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not after {timeout_s} s"
            time.sleep(0.02)

    return wait
