"""One replica's life, in a thread of its own: start, watch, drain, end."""

from __future__ import annotations

import http.client
import math
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from testbed.errors import ServingError
from testbed.serving.server_process import ServerProcess, free_ports, last_error
from testbed.serving.service import Endpoint, ReplicaState
from testbed.serving.tritonserver import Tritonserver, server_command, server_environment
from workloads.catalog import ModelSpec, ServiceConfig
from workloads.errors import KisError
from workloads.repository import BackendOptions, write_repository

START_ATTEMPTS = 3
# What may not happen again: a free port may be taken between our look and the server's bind, and the python backend now
# and then aborts over a mutex in shared memory (triton-inference-server/server#8882).
START_AGAIN = ("already in use", "lock_exception")
PROBE_TIMEOUT_S = 2.0
POLL_S = 0.02
WATCH_S = 0.1
QUIET_S = 1.0  # so long without a change before a draining server is asked to exit,
QUIET_BATCHES = 5  # and so many times its mean batch
EXIT_S = 5.0  # so long from there to the kill
DRAIN_S = 30.0  # a balancer that still sends after this does not read the endpoints


@dataclass(frozen=True)
class Launch:
    """What every replica of a service is started from."""

    server: Tritonserver
    backends: Path
    spec: ModelSpec
    service: ServiceConfig
    options: BackendOptions
    start_timeout_s: float
    latency_summaries: bool = False


class ServerReplica(threading.Thread):
    """A tritonserver from start to end. `report` is called at each change of state, from this thread.

    `state` belongs to whoever gets the reports; `error` says why a replica ended that nobody told to.
    """

    def __init__(
        self,
        index: int,
        folder: Path,
        launch: Launch,
        http_port: int | None,
        report: Callable[[ServerReplica, ReplicaState, float | None], None],
    ) -> None:
        super().__init__(name=f"replica-{index}", daemon=True)
        self.index = index
        self.state: ReplicaState = "starting"
        self.endpoint: Endpoint | None = None
        self.error: str | None = None
        self.batch_log_dir = None if launch.options.batch_log_dir is None else launch.options.batch_log_dir / self.name
        self._folder, self._launch, self._http_port, self._report = folder, launch, http_port, report
        self._log = folder / "server.log"
        self._leave, self._abandon = threading.Event(), threading.Event()
        self._process: ServerProcess | None = None

    def leave(self) -> None:
        """Finish what was accepted, then end."""
        self._leave.set()

    def abandon(self) -> None:
        """End at once."""
        self._abandon.set()
        self._leave.set()

    def run(self) -> None:
        """The thread."""
        try:
            process = self._start_up()
            if process is not None:
                self._watch(process)
        except (KisError, OSError) as error:
            self.error = f"{self.name} of {self._launch.spec.name}: {error}"
        finally:
            if self._process is not None:
                self._process.kill()
            self._report(self, "gone", None)

    def _start_up(self) -> ServerProcess | None:
        """The running server, its model ready; None if told to leave before that."""
        launch = self._launch
        options = launch.options.model_copy(update={"batch_log_dir": self.batch_log_dir, "replica": self.index})
        repository = write_repository(self._folder / "models", launch.spec, launch.service, options)
        again = START_AGAIN if self._http_port is None else START_AGAIN[1:]
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                return self._start_once(repository)
            except ServingError as error:
                if attempt == START_ATTEMPTS or not any(reason in str(error) for reason in again):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _start_once(self, repository: Path) -> ServerProcess | None:
        launch, ports = self._launch, free_ports(self._http_port)
        gpu = launch.options.device == "gpu"
        prefix = f"kis-{uuid.uuid4().hex[:12]}-"
        command = server_command(
            launch.server,
            launch.backends,
            repository,
            ports,
            shm_prefix=prefix,
            gpu=gpu,
            latency_summaries=launch.latency_summaries,
        )
        started = time.monotonic()
        process = ServerProcess(command, server_environment(launch.options.threads, gpu), self._log, prefix)
        self._process = process
        http, grpc, metrics = (f"127.0.0.1:{port}" for port in (ports.http, ports.grpc, ports.metrics))
        while not self._leave.wait(POLL_S):
            if not process.running():
                raise ServingError(f"the server died during start-up: {last_error(self._log)} (log: {self._log})")
            if is_ready(http, launch.spec.name):
                self.endpoint = Endpoint(self.name, http, grpc, metrics, process.pid)
                self._report(self, "ready", time.monotonic() - started)
                return process
            if time.monotonic() - started > launch.start_timeout_s:
                raise ServingError(f"not ready after {launch.start_timeout_s:g} s (log: {self._log})")
        return None

    def _watch(self, process: ServerProcess) -> None:
        while not self._leave.wait(WATCH_S):
            if not process.running():
                raise ServingError(f"the server ended by itself: {last_error(self._log)} (log: {self._log})")
        if not self._abandon.is_set():
            self._drain(process)

    def _drain(self, process: ServerProcess) -> None:
        """Wait until the server is quiet, ask it to exit, and give it a moment for what nobody could see.

        Requests that run are in no count of Triton's, so quiet lasts several batches. Triton exits only when every
        client has closed its connections, and clients keep theirs for the next request: most servers are killed then.
        """
        quiet_since, deadline, before = time.monotonic(), time.monotonic() + DRAIN_S, None
        while process.running() and time.monotonic() < deadline and not self._abandon.wait(WATCH_S):
            load = None if self.endpoint is None else server_load(self.endpoint.metrics)
            if load is None or load != before or load.waiting > 0:
                quiet_since, before = time.monotonic(), load
            elif time.monotonic() - quiet_since >= max(QUIET_S, QUIET_BATCHES * load.compute_s):
                break
        process.terminate()
        deadline = time.monotonic() + EXIT_S
        while process.running() and time.monotonic() < deadline and not self._abandon.wait(WATCH_S):
            pass


@dataclass(frozen=True)
class ServerLoad:
    """What a server did since its start, and what waits in it now. Requests that run are in neither count."""

    waiting: int
    done: int
    compute_s: float  # mean time that a done request spent in its batch; 0 if none is done


def is_ready(address: str, model: str) -> bool:
    """True if the server at host:port answers that it and the model are ready."""
    return all(_get(address, path)[0] == 200 for path in ("/v2/health/ready", f"/v2/models/{model}/ready"))


def server_load(address: str) -> ServerLoad | None:
    """What the metrics port at host:port tells; None if it does not answer, or is no page of metrics."""
    status, body = _get(address, "/metrics")
    if status != 200:
        return None
    totals: defaultdict[str, float] = defaultdict(float)
    try:
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    totals[sample.name.removesuffix("_total")] += sample.value
    except (ValueError, OverflowError):
        return None
    succeeded = totals["nv_inference_request_success"]
    compute_us = sum(totals[f"nv_inference_compute_{part}_duration_us"] for part in ("input", "infer", "output"))
    return ServerLoad(
        waiting=int(totals["nv_inference_pending_request_count"]),
        done=int(succeeded + totals["nv_inference_request_failure"]),
        compute_s=compute_us / succeeded / 1e6 if succeeded else 0.0,
    )


def _get(address: str, path: str) -> tuple[int, str]:
    """(status, body); status 0 if nothing answers there."""
    connection = http.client.HTTPConnection(address, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
