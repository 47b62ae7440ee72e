"""A run's folder while it is being written: what `kis watch` shows of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

from loadgen.endpoints import EndpointError, read_endpoints
from loadgen.job import ReplayError, ReplayJob, read_clients
from loadgen.request_log import RequestLog
from loadgen.row_stream import RowTail
from loadgen.schedule import Schedule
from loadgen.validity import ClientFigures, Verdict
from testbed.reporting import live
from testbed.reporting.live import Decision, Replicas, RunView
from testbed.run_dir import RunManifest
from workloads.errors import KisError
from workloads.files import parse_json, parse_model

M = TypeVar("M", bound=BaseModel)


def read_model(file: Path, kind: type[M]) -> M | None:
    """None: it is not there, or not yet as it will be."""
    try:
        return parse_model(kind, file.read_bytes())
    except (OSError, ValueError):
        return None


class LineTail:
    """The JSON lines of a file as they come, each once; of the last one, what is there of it is left for later."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read(self) -> Iterator[Any]:
        """Since the last call; what is no JSON is left out."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                yield parse_json(line)


class RunReader:
    """One run's folder while it is being written. What was read once is not read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = path / "raw"
        self._tails: dict[int, RowTail] = {}
        self._rows = (np.empty(0, np.int64), np.empty(0), np.empty(0, bool))  # request, completed_s, ok
        self._samples, self._turns = LineTail(self._raw / "metrics.jsonl"), LineTail(path / "controller.jsonl")
        self._schedule: Schedule | None = None
        self._waiting: float | None = None
        self._counts: list[tuple[float, int]] = []  # unix seconds, replicas that a Deployment was asked for
        self._replicas: Replicas | None = None
        self._turn: dict[str, Any] | None = None  # the controller's last
        self._complete: live.Pace | None = None

    def view(self, manifest: RunManifest | None, target_s: float | None, now_s: float) -> RunView:
        """The run as it is now. manifest: its run.json; None: a run of `locust -f`, which has none."""
        job = self._job()
        clients = self._clients()
        begun = clients[0].start_unix_ns / 1e9 if clients else None
        finished = bool(clients) and all(client.finished for client in clients)
        state = manifest.state if manifest is not None else "complete" if finished else "running"
        verdict = manifest.verdict if manifest is not None else read_model(self.path / "verdict.json", Verdict)
        schedule = self._known_schedule(job)
        pace, complete_s = (None, None) if schedule is None else self._pace(state, schedule, clients)
        if clients:
            offset_s = (clients[0].start_unix_ns - clients[0].start_monotonic_ns) / 1e9
            self._read_samples(offset_s)
        return RunView(
            run_id=self.path.name if manifest is None else manifest.run_id,
            what=_what(manifest, job),
            state=state,
            elapsed_s=None if begun is None else now_s - begun,
            duration_s=None if schedule is None else schedule.duration_s,
            requests=None if schedule is None else len(schedule),
            pace=pace,
            target_s=target_s if target_s is not None or manifest is None else live.target_of(manifest),
            waiting=self._waiting if state == "running" else None,
            replicas=(self._replicas or _listed(manifest, job)) if state == "running" else None,
            decision=self._decision(now_s),
            change=live.last_change(self._counts, now_s),
            verdict=None if verdict is None else "VALID" if verdict.valid else f"INVALID: {'; '.join(verdict.reasons)}",
            silent_s=None if finished or begun is None or complete_s is None else now_s - begun - complete_s,
        )

    def _job(self) -> ReplayJob | None:
        with contextlib.suppress(ReplayError):
            return ReplayJob.read(self._raw / "job.json")
        return None

    def _clients(self) -> tuple[ClientFigures, ...]:
        with contextlib.suppress(KisError, OSError):
            return read_clients(self._raw)
        return ()

    def _known_schedule(self, job: ReplayJob | None) -> Schedule | None:
        if self._schedule is None:
            for file in (self.path / "schedule.parquet", *([] if job is None else [job.schedule])):
                with contextlib.suppress(KisError):
                    self._schedule = Schedule.read(file)
                    break
        return self._schedule

    def _pace(
        self, state: str, schedule: Schedule, clients: tuple[ClientFigures, ...]
    ) -> tuple[live.Pace | None, float | None]:
        """Of the rows so far, and the instant (run clock) up to which they are complete."""
        if state != "running" and self._complete is None:
            with contextlib.suppress(KisError):
                self._complete = _of_log(RequestLog.read(self.path / "requests.parquet"), schedule)
        if self._complete is not None:
            return self._complete, None
        for client in clients:
            tail = self._tails.setdefault(client.worker, RowTail(self._raw / f"rows-{client.worker}.arrows"))
            with contextlib.suppress(OSError):
                rows = tail.read()
                completed = rows["completed_ns"].to_numpy(np.float64, na_value=np.nan) / 1e9
                ids = rows["request_id"].to_numpy(np.int64)
                known = (ids >= 0) & (ids < len(schedule))
                ok = (rows["status"].to_numpy() == 0) & np.isfinite(completed)
                new = ids[known], completed[known], ok[known]
                self._rows = tuple(map(np.concatenate, zip(self._rows, new, strict=True)))  # type: ignore[assignment]
        if not self._tails or (complete_ns := min(tail.complete_ns for tail in self._tails.values())) < 0:
            return None, None
        return live.pace_of(schedule.scheduled_s, *self._rows, complete_ns / 1e9), complete_ns / 1e9

    def _read_samples(self, offset_s: float) -> None:
        """offset_s: what makes seconds since 1970 of CLOCK_MONOTONIC."""
        for line in self._samples.read():
            with contextlib.suppress(KeyError, TypeError, ValueError):  # a line that is no reading is left out
                self._read_sample(line, offset_s)

    def _read_sample(self, line: Any, offset_s: float) -> None:
        monotonic_ns, samples = line
        values = {(source, name): value for source, name, _, value, _ in samples if source == "deployment"}
        waits = [float(value) for _, name, _, value, _ in samples if name == "nv_inference_pending_request_count"]
        if waits:
            self._waiting = sum(waits)
        if ("deployment", "spec_replicas") in values:
            spec, ready = (int(values["deployment", f"{name}_replicas"]) for name in ("spec", "ready"))
            time_s = monotonic_ns / 1e9 + offset_s
            self._replicas = Replicas(spec, ready, max(0, spec - ready))
            self._counts.append((time_s, spec))

    def _decision(self, now_s: float) -> Decision | None:
        """The controller's last words; None: another autoscaler, or none."""
        for turn in self._turns.read():
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
                live.decision_of(turn, now_s)
                self._turn = turn
        return None if self._turn is None else live.decision_of(self._turn, now_s)


def _of_log(log: RequestLog, schedule: Schedule) -> live.Pace:
    """Of a run that is over: the whole of it, no window."""
    latency_s = log.latency_s[log.ok]
    unsent = log.frame["status"].to_numpy() == "unsent"
    return live.Pace(
        answered=int(log.ok.sum()),
        failed=int((~log.ok & ~unsent).sum()),
        offered_rps=None,
        answered_rps=len(latency_s) / schedule.duration_s,
        p95_s=None,
        p95_so_far_s=float(np.percentile(latency_s, 95)) if len(latency_s) else None,
        window_s=None,
        unsent=int(unsent.sum()),
    )


def _what(manifest: RunManifest | None, job: ReplayJob | None) -> str:
    if manifest is not None:
        return f"{manifest.model} on {manifest.device.name}, {manifest.pattern}"
    return "" if job is None else ", ".join(job.requests)


def _listed(manifest: RunManifest | None, job: ReplayJob | None) -> Replicas | None:
    """Of a service on this machine: what its file of endpoints lists."""
    if manifest is None or job is None or not isinstance(job.endpoints, Path):
        return None
    with contextlib.suppress(EndpointError):
        ready, wanted = len(read_endpoints(job.endpoints)), manifest.service.replicas
        return Replicas(wanted, ready, max(0, wanted - ready))
    return None
