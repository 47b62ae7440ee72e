"""A replay as a value, and running one from an ordinary process: Locust runs in a process of its own.

Locust patches sockets when it is imported; nothing here imports it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field

from loadgen.access import PLAIN, Access
from loadgen.artifact import ArtifactError
from loadgen.client_limits import ClientLimits, TransportName
from loadgen.request_log import RequestLog
from loadgen.row_stream import collect_rows
from loadgen.run_manifest import ClientManifest
from loadgen.schedule import Schedule
from loadgen.timerfd import SPIN_S
from loadgen.validity import ClientFigures, Verdict, judge
from workloads.catalog import Balancer, TensorSpec
from workloads.errors import KisError
from workloads.files import first_wrong, parse_model, read_text, write_json

LOGGER = "kis"  # of what Locust's log tells the user of a run: verdicts, and why one cannot start
ERROR_MARK = f"ERROR/{LOGGER}: "  # in a line of the replay's output: an error for the user follows
LINES_KEPT = 200  # of its output, in memory: an error is at its end, and raw/locust.log has all of it
_START_S = 120.0  # for Locust to start and make ready
_GRACE_S = 60.0  # beyond the run, its timeouts and its drain, before a replay that does not end is killed


class ReplayError(KisError):
    """A replay that cannot start."""


class RequestShape(BaseModel):
    """What a model's requests carry.

    batched: they have a batch dimension (the model's max_batch_size is above 0). values: of inputs, as they were typed.
    file: with the requests themselves, so many entries, sent in turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    inputs: tuple[TensorSpec, ...]
    batched: bool = True
    values: dict[str, str] = {}
    file: Path | None = None
    entries: int = Field(1, ge=1)


class ReplayJob(ClientLimits):
    """Everything that a replay needs; written to raw/job.json. max_in_flight: over all processes."""

    schedule: Path
    run_dir: Path
    endpoints: Path | tuple[str, ...]  # a file that is followed (loadgen.endpoints), or a fixed list
    access: Access = PLAIN
    requests: dict[str, RequestShape]  # by model
    balancer: Balancer = "round_robin"
    transport: TransportName = "http"
    drain_s: float = Field(5.0, ge=0, description="longest wait for outstanding responses when the run is cut short")
    workers: int = Field(1, ge=1, description="number of client processes")
    spin_s: float = Field(SPIN_S, ge=0, le=0.001, description="last part of each wait, spent spinning")
    payload_seed: int = 0
    duration_s: float | None = Field(None, gt=0, description="send only requests scheduled before this time; none: all")
    percentile: float = Field(95.0, gt=50, lt=100, description="latency percentile of the verdict")
    close: bool = Field(True, description="write requests.parquet, verdict.json and run.json at the end")
    manifest: ClientManifest | None = Field(None, description="what run.json says; none: no run.json")

    @property
    def raw(self) -> Path:
        """Where the client processes leave their rows and figures."""
        return self.run_dir / "raw"

    @property
    def entries(self) -> dict[str, int]:
        """Of each model's file of requests."""
        return {model: shape.entries for model, shape in self.requests.items()}

    @classmethod
    def read(cls, path: Path) -> ReplayJob:
        """Read a job file; ReplayError names the first field that is wrong."""
        try:
            return parse_model(cls, read_text(path))
        except OSError as error:
            raise ReplayError(f"{path}: {error.strerror}: give a job file (loadgen.job.ReplayJob)") from None
        except ValueError as error:
            raise ReplayError(f"{path}: {first_wrong(error)}: give a job file (loadgen.job.ReplayJob)") from None


def run_replay(
    job: ReplayJob,
    on_progress: Callable[[float, float], None] | None = None,
    stop: threading.Event | None = None,
) -> RequestLog:
    """Replay `job` with Locust in a process group of its own; every scheduled request is in the log that returns.

    on_progress(elapsed_s, duration_s) is called a few times a second while requests are issued. Setting `stop`, or
    KeyboardInterrupt, ends the run early and still returns the log, with provenance["interrupted"] true.
    provenance also has start_unix_ns and start_monotonic_ns (of row time 0) and clients (ClientFigures as dicts); see
    `client_figures`. Raises ReplayError with the replay's last line if it could not start.
    """
    schedule = Schedule.read(job.schedule)
    _clear(job.raw)
    job_file = job.raw / "job.json"
    write_json(job_file, job.model_copy(update={"close": False}))
    replay = _Process(job, job_file)
    span_s = min(schedule.duration_s, job.duration_s or schedule.duration_s)
    try:
        interrupted = _attend(replay, job, span_s, on_progress, stop)
    finally:
        lines = replay.end()
    if start_of(job.raw) is None and not interrupted:
        errors = [line.partition(ERROR_MARK)[2] for line in lines if ERROR_MARK in line]
        last = next((line for line in reversed(lines) if line), "no output")
        raise ReplayError(errors[-1] if errors else f"the replay could not start: {last}")
    return collect_run(job, schedule, interrupted)


def _attend(
    replay: _Process,
    job: ReplayJob,
    span_s: float,
    on_progress: Callable[[float, float], None] | None,
    stop: threading.Event | None,
) -> bool:
    """Wait for the end of the replay, or of all patience with it; whether it was asked to end early."""
    interrupted = False
    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up:
        try:
            if replay.wait(0.1):
                break
            if stop is not None and stop.is_set() and not interrupted:
                interrupted = True
                replay.interrupt()
            started = start_of(job.raw)
            if started is not None:
                give_up = started / 1e9 + span_s + job.timeout_s + job.drain_s + _GRACE_S
                elapsed_s = (time.monotonic_ns() - started) / 1e9
                if on_progress is not None and elapsed_s >= 0:
                    on_progress(min(elapsed_s, span_s), span_s)
        except KeyboardInterrupt:
            interrupted = True
            replay.interrupt()
    return interrupted


def collect_run(job: ReplayJob, schedule: Schedule, interrupted: bool = False) -> RequestLog:
    """Merge what the client processes left in raw/."""
    clients = read_clients(job.raw)
    log = collect_rows(job.raw, schedule, clients)
    log.provenance.update(
        clients=[client.model_dump() for client in clients],
        start_unix_ns=clients[0].start_unix_ns if clients else None,
        start_monotonic_ns=clients[0].start_monotonic_ns if clients else None,
        interrupted=interrupted or any(client.stopped for client in clients),
        transport=job.transport,
        balancer=job.balancer,
        schedule=schedule.provenance,
    )
    return log


def close_run(job: ReplayJob, schedule: Schedule) -> tuple[RequestLog, Verdict]:
    """Collect, judge, and leave schedule.parquet, requests.parquet, verdict.json and run.json in the run's folder."""
    log = collect_run(job, schedule)
    verdict = judge(schedule, log, client_figures(log), job.percentile)
    try:
        log.write(job.run_dir / "requests.parquet")
        write_json(job.run_dir / "verdict.json", verdict)
        if job.manifest is not None:
            write_json(job.run_dir / "run.json", _closed(job.manifest, log, verdict))
        if job.schedule.resolve() != (job.run_dir / "schedule.parquet").resolve():
            schedule.write(job.run_dir / "schedule.parquet")
    except OSError as error:
        raise ReplayError(f"{job.run_dir}: {error.strerror}: the rows are safe in {job.raw}: free some space") from None
    return log, verdict


def _closed(manifest: ClientManifest, log: RequestLog, verdict: Verdict) -> ClientManifest:
    return manifest.model_copy(
        update={
            "state": "interrupted" if log.provenance["interrupted"] else "complete",
            "start_unix_ns": log.provenance["start_unix_ns"],
            "start_monotonic_ns": log.provenance["start_monotonic_ns"],
            "verdict": verdict,
        }
    )


def client_figures(log: RequestLog) -> tuple[ClientFigures, ...]:
    """What the client processes of a replayed log said of themselves."""
    return tuple(ClientFigures.model_validate(client) for client in log.provenance.get("clients", ()))


def read_clients(raw: Path) -> tuple[ClientFigures, ...]:
    """All raw/client-*.json, by worker; ArtifactError if one is another file."""
    return tuple(sorted(map(_client, raw.glob("client-*.json")), key=lambda client: client.worker))


def _client(path: Path) -> ClientFigures:
    try:
        return parse_model(ClientFigures, read_text(path))
    except ValueError as error:
        raise ArtifactError(f"{path}: {first_wrong(error)}: make the run again") from None


def start_of(raw: Path) -> int | None:
    """CLOCK_MONOTONIC of row time 0, once the first client process has fixed it."""
    clients = read_clients(raw)
    return clients[0].start_monotonic_ns if clients else None


def _clear(raw: Path) -> None:
    """An empty raw folder: rows of an earlier run must not count for this one."""
    try:
        raw.mkdir(parents=True, exist_ok=True)
        for path in [*raw.glob("client-*.json"), *raw.glob("rows-*.arrows")]:
            path.unlink()
    except OSError as error:
        raise ReplayError(f"{raw}: {error.strerror}: choose another run folder") from None


class _Process:
    """Locust in its own process group, its output kept (raw/locust.log too, while the disk has room)."""

    def __init__(self, job: ReplayJob, job_file: Path) -> None:
        command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("replay.py").resolve())]
        command += ["--headless", "--only-summary", "--job", str(job_file.resolve())]
        if job.workers > 1:
            port = str(_free_port())
            command += ["--processes", str(job.workers), "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
            command += ["--master-host", "127.0.0.1", "--master-port", port]
        # Settings that a user keeps for runs of their own must not reach this one.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LOCUST_")}
        environment |= job.access.variables()
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        given = (self._process.stdout, job.raw / "locust.log", self._lines)
        self._reader = threading.Thread(target=keep_output, args=given, daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> bool:
        """True once the process has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def interrupt(self) -> None:
        """As ctrl-c: issue no more, wait for answers, end."""
        self._process.send_signal(signal.SIGINT)  # to Locust's master, which tells its workers

    def end(self) -> list[str]:
        """Leave nothing of the group behind; the last LINES_KEPT lines of output."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(2.0)
        return list(self._lines)


def keep_output(output: IO[bytes], log: Path, kept: deque[str]) -> None:
    """Read to its end what a process prints: every line into the log, while the disk has room, and into `kept`."""
    with contextlib.ExitStack() as stack:
        file = None
        with contextlib.suppress(OSError):
            file = stack.enter_context(log.open("w", buffering=1))
        for line in output:
            text = line.decode("utf-8", "replace").rstrip("\n")
            kept.append(text)
            if file is not None:
                with contextlib.suppress(OSError):
                    file.write(text + "\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
