"""A service as tritonserver processes on this machine, one a replica, added and removed while requests come.

starting --> ready --> draining --> gone
    |          |                      ^      draining: no longer an endpoint, finishes what it has
    +----------+----------------------+      at once: a server that ends by itself, and stop()
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from loadgen.endpoints import write_endpoints
from testbed.errors import ServingError
from testbed.serving.replica import DRAIN_S, EXIT_S, Launch, ServerReplica
from testbed.serving.server_process import free_ports
from testbed.serving.service import Endpoint, ReplicaEvent, ReplicaState
from testbed.serving.tritonserver import find_tritonserver, make_backend_directory
from workloads.catalog import ModelSpec, ServiceConfig
from workloads.repository import BackendOptions


class LocalService:
    """`with LocalService(folder, spec, service, options) as it:` serves until the block ends; implements `Service`.

    folder: gets each replica's repository and server.log, and endpoints.json: the addresses that take requests
        (`publish` says which of each replica's two), kept current for the load generator.
    options.batch_log_dir: each replica logs into a folder of its name in there.
    http_port: asked for by number; it goes to the first replica, the others take free ones.
    latency_summaries: percentiles on the metrics pages, which cost the server a little.
    """

    def __init__(
        self,
        folder: Path,
        spec: ModelSpec,
        service: ServiceConfig,
        options: BackendOptions,
        *,
        publish: Literal["http", "grpc"] = "http",
        http_port: int | None = None,
        start_timeout_s: float = 180.0,
        latency_summaries: bool = False,
    ) -> None:
        self._folder = folder.resolve()
        self.endpoints_file = self._folder / "endpoints.json"
        self._spec, self._service, self._options = spec, service, options
        self._publish, self._http_port = publish, http_port
        self._start_timeout_s, self._latency_summaries = start_timeout_s, latency_summaries
        self._launch: Launch | None = None  # None: not started, or stopped
        self._changed = threading.Condition()
        self._replicas: list[ServerReplica] = []  # all there ever were, oldest first
        self._events: list[ReplicaEvent] = []
        self._wanted = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the service's replicas and wait until they are ready; ServingError, and nothing left, if one fails."""
        if self._options.backend != "python":
            raise ServingError(
                f"the embedded tritonserver has no {self._options.backend} backend: use backend python, "
                "or give a server that has it with --server"
            )
        server = find_tritonserver()
        if self._http_port is not None:
            free_ports(self._http_port)  # refused here, before anything runs
        backends = make_backend_directory(self._folder / "backends", server)
        self._launch = Launch(
            server,
            backends,
            self._spec,
            self._service,
            self._options,
            self._start_timeout_s,
            self._latency_summaries,
        )
        try:
            self.scale(self._service.replicas)
            self.wait_settled()
            if self._launch is None:
                raise ServingError("the service was stopped while it started")
        except BaseException:
            self.stop()
            raise

    def scale(self, replicas: int) -> None:
        """Ask for this many replicas and return. To shrink, the youngest leave, those not ready yet before them."""
        if replicas < 0:
            raise ServingError(f"cannot scale to {replicas} replicas: give 0 or more")
        with self._changed:
            self._wanted = replicas
            active = self._in_state("starting", "ready")
            for _ in range(replicas - len(active)):
                self._add()
            by_worth = sorted(active, key=lambda replica: (replica.state != "ready", replica.index))
            for replica in by_worth[replicas:]:
                self._enter(replica, "draining", None)
                replica.leave()

    def wait_settled(self, timeout_s: float | None = None) -> None:
        """Wait until no replica is starting or draining; ServingError if fewer are ready than were asked for."""
        if timeout_s is None:
            timeout_s = self._start_timeout_s + DRAIN_S + EXIT_S
        with self._changed:
            if not self._changed.wait_for(lambda: not self._in_state("starting", "draining"), timeout_s):
                raise ServingError(f"replicas are still changing after {timeout_s:g} s: see the logs in {self._folder}")
            if len(self._in_state("ready")) < self._wanted:
                errors = [replica.error for replica in self._replicas if replica.error is not None]
                raise ServingError(errors[-1])

    def endpoints(self) -> list[Endpoint]:
        """The replicas that take requests now, oldest first."""
        with self._changed:
            return [replica.endpoint for replica in self._in_state("ready") if replica.endpoint is not None]

    def events(self) -> list[ReplicaEvent]:
        """Every state that a replica entered so far, in order of time."""
        with self._changed:
            return list(self._events)

    def errors(self) -> dict[str, str]:
        """Replica's name -> why it ended, for those that nobody told to."""
        with self._changed:
            return {replica.name: replica.error for replica in self._replicas if replica.error is not None}

    def stop(self) -> None:
        """End every replica at once, with all that belongs to it. Requests still running are lost; idempotent."""
        with self._changed:
            self._launch, self._wanted = None, 0
            replicas = list(self._replicas)
        for replica in replicas:
            replica.abandon()
        for replica in replicas:
            replica.join()

    def _in_state(self, *states: ReplicaState) -> list[ServerReplica]:
        return [replica for replica in self._replicas if replica.state in states]

    def _add(self) -> None:
        if self._launch is None:
            raise ServingError("the service is not running: start it before scaling")
        index = len(self._replicas)
        http_port = self._http_port if index == 0 else None
        replica = ServerReplica(index, self._folder / f"replica-{index}", self._launch, http_port, self._entered)
        self._replicas.append(replica)
        self._enter(replica, "starting", None)
        replica.start()

    def _entered(self, replica: ServerReplica, state: ReplicaState, start_up_s: float | None) -> None:
        """A replica reports its new state."""
        with self._changed:
            if state == "ready" and replica.state != "starting":
                return  # it was told to leave in this very moment
            self._enter(replica, state, start_up_s)

    def _enter(self, replica: ServerReplica, state: ReplicaState, start_up_s: float | None) -> None:
        replica.state = state
        self._events.append(ReplicaEvent(time.monotonic_ns(), replica.name, state, start_up_s))
        addresses = [getattr(ready.endpoint, self._publish) for ready in self._in_state("ready")]
        write_endpoints(self.endpoints_file, addresses)
        self._changed.notify_all()
