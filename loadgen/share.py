"""One Locust process's share of a replay: made ready, started at the common instant, its figures written."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from loadgen.endpoints import Endpoints
from loadgen.issuer import Issuer, IssuerLimits, Report, Share
from loadgen.job import ReplayError, ReplayJob
from loadgen.request_file import Arrays, read_requests
from loadgen.request_log import STATUSES
from loadgen.row_stream import RowStream
from loadgen.schedule import Schedule
from loadgen.transport import RequestKind, Tensors, Transport, file_tensors, request_tensors
from loadgen.transport_options import make_transport
from loadgen.validity import ClientFigures
from workloads.catalog import TensorSpec
from workloads.files import write_json

MOST_SPINNING = 0.25  # of a client's time, for it to have a real-time priority


@dataclass(frozen=True)
class Instant:
    """Row time 0. The monotonic reading holds on the machine with that boot id; others go by the wall clock."""

    unix_ns: int
    monotonic_ns: int
    boot_id: str

    @classmethod
    def ahead(cls, seconds: float) -> Instant:
        """A moment from now."""
        ahead_ns = round(seconds * 1e9)
        return cls(time.time_ns() + ahead_ns, time.monotonic_ns() + ahead_ns, boot_id())

    def monotonic_here(self) -> int:
        """The instant on this machine's CLOCK_MONOTONIC."""
        if self.boot_id == boot_id():
            return self.monotonic_ns
        return time.monotonic_ns() + self.unix_ns - time.time_ns()


def boot_id() -> str:
    """Differs between machines, and between two starts of one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def take_realtime() -> bool:
    """Run this thread in the lowest real-time priority (SCHED_RR): whatever is measured on the same machine then waits
    for the client, not the client for it. Processes that it starts are ordinary ones.

    False: the system does not allow it (it takes root or CAP_SYS_NICE), or has no such thing.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (AttributeError, OSError):
        return False
    return True


def slice_schedule(
    schedule: Schedule, worker: int, workers: int, until_s: float | None, entries: Mapping[str, int] | None = None
) -> Share:
    """Every `workers`-th request from `worker` on, of those scheduled before `until_s`.

    entries: in a model's file of requests, which are sent in turn; of others, 1.
    """
    models, model_index = np.unique(schedule.model.astype(str), return_inverse=True)
    tokens = np.zeros(len(schedule), dtype=np.int64) if schedule.tokens is None else schedule.tokens
    in_turn = np.array([(entries or {}).get(str(model), 1) for model in models], dtype=np.int64)
    entry = np.arange(len(schedule)) % in_turn[model_index] if len(schedule) else np.zeros(0, dtype=np.int64)
    rows = np.ones(len(schedule), dtype=np.int64) if schedule.rows is None else schedule.rows
    codes, kind_index = np.unique(np.stack([model_index, tokens, entry, rows], axis=1), axis=0, return_inverse=True)
    kinds = tuple(RequestKind(str(models[code[0]]), code[1] or None, *code[2:]) for code in codes.tolist())
    ids = np.arange(worker, len(schedule), workers)
    if until_s is not None:
        ids = ids[schedule.scheduled_ns[ids] < until_s * 1e9]
    return Share(ids, schedule.scheduled_ns[ids], kinds, kind_index.reshape(-1)[ids])


class Client:
    """Ready to replay one share: requests built, connections open, space for the rows reserved."""

    def __init__(self, job: ReplayJob, share: Share, worker: int, workers: int, report: Report) -> None:
        """Raises a KisError if the replay cannot start."""
        missing = [kind.model for kind in share.kinds if kind.model not in job.requests]
        if missing:
            raise ReplayError(f"the schedule asks for model '{missing[0]}', the job describes no requests for it")
        job.raw.mkdir(parents=True, exist_ok=True)
        self._job, self._worker, self._workers = job, worker, workers
        self._scheduled_ns = share.scheduled_ns
        endpoints = Endpoints(job.endpoints, job.balancer, first=worker, step=workers)
        connections = -(-job.max_in_flight // workers)
        tensors = {}
        for kind in share.kinds or map(RequestKind, job.requests):  # of more processes than requests some have none
            tensors[kind] = _tensors(job, kind)
        span_s = float(share.scheduled_ns[-1]) / 1e9 if len(share.scheduled_ns) else 0.0
        self.rows_file = job.raw / f"rows-{worker}.arrows"
        rows = RowStream(self.rows_file, len(share.request_ids), span_s + job.timeout_s)
        self._transport = make_transport(job.transport, tensors, job.timeout_s, connections, job.access)
        _connect(self._transport, endpoints)
        limits = IssuerLimits(connections, job.timeout_s, min(job.drain_s, job.timeout_s), job.spin_s)
        self.issuer = Issuer(share, self._transport, endpoints, rows, report=report, limits=limits)

    @property
    def figures_file(self) -> Path:
        """raw/client-<worker>.json."""
        return self._job.raw / f"client-{self._worker}.json"

    def run(self, start: Instant) -> ClientFigures:
        """Replay the share; its figures are on disk from the start on, so that a kill leaves the clock's origin."""
        figures = ClientFigures(
            worker=self._worker,
            workers=self._workers,
            pid=os.getpid(),
            start_unix_ns=start.unix_ns,
            start_monotonic_ns=start.monotonic_here(),
            realtime=self._spins_little() and take_realtime(),
        )
        self._write(figures)
        self.issuer.run(figures.start_monotonic_ns)
        figures = figures.model_copy(
            update={
                "finished": True,
                "cpu_s": self.issuer.cpu_s,
                "wall_s": self.issuer.wall_s,
                "stopped": self.issuer.stopped,
                "counts": dict(zip(STATUSES, self.issuer.counts, strict=True)),
            }
        )
        self._write(figures)
        self._transport.close()
        return figures

    def _spins_little(self) -> bool:
        """Before everybody else, a client that spins most of the time would leave its server no processor."""
        if not len(self._scheduled_ns):
            return True
        span_s = max(float(self._scheduled_ns[-1]) / 1e9, 1.0)
        return len(self._scheduled_ns) / span_s * self._job.spin_s < MOST_SPINNING

    def _write(self, figures: ClientFigures) -> None:
        write_json(self.figures_file, figures)


@lru_cache(maxsize=8)
def _entries(file: Path, inputs: tuple[TensorSpec, ...]) -> tuple[Arrays, ...]:
    return read_requests(file, inputs)


def _tensors(job: ReplayJob, kind: RequestKind) -> Tensors:
    """Of a request of that kind."""
    shape = job.requests[kind.model]
    if shape.file is not None:
        return file_tensors(shape.inputs, shape.batched, _entries(shape.file, shape.inputs)[kind.entry])
    return request_tensors(
        shape.inputs, shape.batched, job.payload_seed, kind.tokens, values=shape.values, batch=kind.rows
    )


def _connect(transport: Transport, endpoints: Endpoints) -> None:
    """Open connections; at least one endpoint must be there."""
    failures = {}
    for endpoint in endpoints.current:
        try:
            transport.connect(endpoint)
        except OSError as error:
            failures[endpoint] = str(error)
    if len(failures) == len(endpoints.current):
        tried = "; ".join(f"{endpoint} ({why})" for endpoint, why in failures.items()) or "the list is empty"
        raise ReplayError(f"no endpoint can be reached: {tried}: start the server, or give its address")
