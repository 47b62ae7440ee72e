"""`kis watch`: reads what others write, seldom and little, and draws it. What is shown is in testbed.reporting.live."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import typer
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from loadgen.endpoints import EndpointError, read_endpoints
from loadgen.job import ReplayError, ReplayJob, read_clients
from loadgen.request_log import RequestLog
from loadgen.row_stream import RowTail
from loadgen.schedule import Schedule
from loadgen.validity import ClientFigures, Verdict
from testbed.cli import options
from testbed.cli.console import console, stop_event
from testbed.config import CalibrateConfig
from testbed.controller.health import DECISION_PATH, HEALTH_PATH
from testbed.errors import ClusterError, ConfigError
from testbed.pipeline.time_limit import plan_of
from testbed.reporting import live
from testbed.reporting.live import Decision, Frame, Replicas, RunView, duration, milliseconds
from testbed.run_dir import RunManifest
from workloads.errors import KisError

if TYPE_CHECKING:
    from testbed.autoscaling.live.deployment import DeploymentStatus

M = TypeVar("M", bound=BaseModel)
REPORTS = ("report.html", "report.md")
TIMEOUT_S = 2.0  # of a page
PREFIX = "kis_controller_"
KINDS = (
    *(live.PROGRESS, "run.json", "raw/job.json", "runs", "config.json", "experiment.json", "report.md"),
    *("tuned.json", "seeds.json", "adaptation.json", "plan.json"),
)
# Loopback and the cluster's addresses: a proxy from the environment has no place there.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Source(Protocol):
    """Something that is watched."""

    def frame(self) -> Frame:
        """What it tells now. KisError if it is not there at all."""


def watch(
    target: Annotated[
        str,
        typer.Argument(
            help="A results folder, a run's folder, or http://HOST:PORT/metrics of a controller, or deployment/NAME."
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="One frame, then end.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds from one look to the next.")] = 2.0,
    target_ms: Annotated[
        float | None, typer.Option(help=r"Latency target. \[default: the experiment's, or the catalog's]", min=0.001)
    ] = None,
    namespace: Annotated[str, typer.Option(help="Of the deployment.")] = "default",
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Reads only, at the lowest priority. Ends when nothing runs there any more, or with ctrl-c.

    Example: [bold]kis watch results/20260101-120000-calibrate[/bold]
    """
    source = _source(target, None if target_ms is None else target_ms / 1e3, namespace, kubeconfig)
    frame = source.frame()
    if once:
        console.print(drawn(frame))
        return
    os.nice(19)  # what is measured goes first
    stop = stop_event()
    with Live(drawn(frame), console=console, auto_refresh=False) as screen:
        while frame.running and not stop.wait(every):
            frame = source.frame()
            screen.update(drawn(frame), refresh=True)


def _source(target: str, target_s: float | None, namespace: str, kubeconfig: Path | None) -> Source:
    if target.startswith(("http://", "https://")):
        return PageSource(target)
    if target.startswith("deployment/"):
        return _deployment(target.removeprefix("deployment/"), namespace, kubeconfig)
    folder = Path(target)
    if not folder.is_dir():
        raise ConfigError(
            f"{target} is no folder: give a results folder or a run's folder, http://HOST:PORT/metrics of a "
            "controller, or deployment/NAME"
        )
    if not any((folder / name).exists() for name in KINDS):
        raise ConfigError(f"{target} is no folder that kis writes results into: it has no {', no '.join(KINDS[:4])}")
    return FolderSource(folder, target_s)


def _read(file: Path, kind: type[M]) -> M | None:
    """None: it is not there, or not yet as it will be."""
    try:
        return kind.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
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
                yield json.loads(line)


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
        verdict = manifest.verdict if manifest is not None else _read(self.path / "verdict.json", Verdict)
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
        with contextlib.suppress(ValueError, OSError):
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
                new = rows["request_id"].to_numpy(np.int64), completed, rows["status"].to_numpy() == 0
                self._rows = tuple(map(np.concatenate, zip(self._rows, new, strict=True)))  # type: ignore[assignment]
        if not self._tails or (complete_ns := min(tail.complete_ns for tail in self._tails.values())) < 0:
            return None, None
        return live.pace_of(schedule.scheduled_s, *self._rows, complete_ns / 1e9), complete_ns / 1e9

    def _read_samples(self, offset_s: float) -> None:
        """offset_s: what makes seconds since 1970 of CLOCK_MONOTONIC."""
        for line in self._samples.read():
            monotonic_ns, samples = line
            values = {(source, name): value for source, name, _, value, _ in samples if source == "deployment"}
            waits = [value for _, name, _, value, _ in samples if name == "nv_inference_pending_request_count"]
            if waits:
                self._waiting = sum(waits)
            if ("deployment", "spec_replicas") in values:
                spec, ready = (int(values["deployment", f"{name}_replicas"]) for name in ("spec", "ready"))
                self._replicas = Replicas(spec, ready, max(0, spec - ready))
                self._counts.append((monotonic_ns / 1e9 + offset_s, spec))

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
    return live.Pace(
        answered=int(log.ok.sum()),
        failed=int((~log.ok).sum()),
        offered_rps=None,
        answered_rps=len(latency_s) / schedule.duration_s,
        p95_s=None,
        p95_so_far_s=float(np.percentile(latency_s, 95)) if len(latency_s) else None,
        window_s=None,
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


class FolderSource:
    """A results folder, or one run's. target_s: instead of the experiment's and the catalog's."""

    def __init__(self, folder: Path, target_s: float | None) -> None:
        self._folder, self._target_s = folder, target_s
        self._readers: dict[tuple[Path, int], RunReader] = {}  # with the inode: a run that is made again is another
        self._manifests: dict[Path, tuple[int, RunManifest]] = {}  # with the file's time of change

    def frame(self) -> Frame:
        """See Source."""
        now_s = time.time()
        runs = {path: manifest for path in self._run_folders() if (manifest := self._manifest(path)) is not None}
        shown = self._shown(runs)
        plan = _plan(self._folder)
        target_s = self._target_s or plan.target_s
        reader = None if shown is None else self._reader(shown)
        view = None if reader is None else reader.view(runs.get(reader.path), target_s, now_s)
        progress = _read(self._folder / live.PROGRESS, live.Progress)
        return live.frame_of_folder(
            str(self._folder),
            now_s,
            progress,
            alive=progress is not None and _lives(progress),
            manifests=list(runs.values()),
            aside=sum(1 for _ in self._folder.glob("invalid/*/run.json")),
            planned=plan.seconds,
            view=view,
            changed_s=None if shown is None else now_s - _changed(shown),
            report=next((str(file) for file in map(self._folder.joinpath, REPORTS) if file.exists()), None),
        )

    def _reader(self, path: Path) -> RunReader | None:
        """None: the run has just been put aside."""
        with contextlib.suppress(OSError):
            return self._readers.setdefault((path, path.stat().st_ino), RunReader(path))
        return None

    def _run_folders(self) -> list[Path]:
        if (self._folder / "run.json").exists():
            return [self._folder]
        files = [*self._folder.glob("runs/*/run.json"), *self._folder.glob("*/runs/*/run.json")]  # the demo's
        return [file.parent for file in sorted(files)]

    def _manifest(self, path: Path) -> RunManifest | None:
        """run.json, read again when it has changed."""
        with contextlib.suppress(OSError):
            changed_ns = (path / "run.json").stat().st_mtime_ns
            if self._manifests.get(path, (0,))[0] != changed_ns:
                manifest = _read(path / "run.json", RunManifest)
                if manifest is not None:
                    self._manifests[path] = changed_ns, manifest
            return self._manifests[path][1] if path in self._manifests else None
        return None

    def _shown(self, runs: dict[Path, RunManifest]) -> Path | None:
        """The run that is made now, else the real one that was made last; a folder of `locust -f` itself."""
        if not runs:
            return self._folder if (self._folder / "raw" / "job.json").exists() else None
        real = [path for path, manifest in runs.items() if manifest.kind == "real"]
        running = [path for path in real if runs[path].state == "running"]
        return max(running or real, key=_changed, default=None)


def _changed(run: Path) -> float:
    with contextlib.suppress(OSError):
        return (run / ("run.json" if (run / "run.json").exists() else "raw/job.json")).stat().st_mtime
    return 0.0


def _lives(progress: live.Progress) -> bool:
    """Is the process there? One of another machine is taken to be."""
    if progress.host != platform.node():
        return True
    try:
        os.kill(progress.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Plan(NamedTuple):
    """What a folder's configuration tells. seconds: by real run, at least; target_s: of the latency."""

    seconds: dict[str, float]
    target_s: float | None = None


def _plan(folder: Path) -> Plan:
    """Of a calibration and of an experiment; any other tells nothing."""
    calibration = _read(folder / "config.json", CalibrateConfig)
    if calibration is not None:
        return Plan({step: seconds for step, seconds in plan_of(calibration).items() if ": " not in step})
    experiment = _read_json(folder / "experiment.json")
    try:
        seconds = {
            f"{traffic}-{policy}-real-{repeat}": float(settings.get("duration_s") or 0.0)
            for traffic, settings in experiment["traffic"].items()
            for policy in experiment["policies"]
            for repeat in range(1, experiment["repeats"] + 1)
        }
        return Plan(seconds, experiment["cluster"]["models"][0].get("latency_target_s"))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return Plan({})


class PageSource:
    """A controller's page, with the decision that it tells beside it. ConfigError if there is none at the start."""

    def __init__(self, url: str) -> None:
        bare = url.rstrip("/")
        self._url = bare if bare.endswith("/metrics") else f"{bare}/metrics"
        self._base = self._url.removesuffix("/metrics")
        self._last: live.ControllerView | None = None

    def frame(self) -> Frame:
        """See Source."""
        try:
            self._last = self._view()
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if self._last is None:
                raise ConfigError(
                    f"{self._url} does not answer ({reason}): is metrics_port of the controller set, and is it up?"
                ) from None
            return Frame(self._url, True, controller=self._last, problems=(f"no answer any more ({reason})",))
        health = self._health()
        return Frame(self._url, True, controller=self._last, problems=() if health is None else (health,))

    def _view(self) -> live.ControllerView:
        families = text_string_to_metric_families(_get(self._url))
        samples = {
            sample.name.removeprefix(PREFIX): (sample.labels, sample.value)
            for family in families
            for sample in family.samples
            if sample.name.startswith(PREFIX)
        }
        if not samples:
            raise ConfigError(f"{self._url} is not a controller's page: it has no {PREFIX}decisions_total")
        return live.controller_of(samples, self._decision())

    def _decision(self) -> Decision | None:
        with contextlib.suppress(OSError, HTTPException, ValueError, KeyError, TypeError):  # an older controller
            return live.decision_of(json.loads(_get(f"{self._base}{DECISION_PATH}")), time.time())
        return None

    def _health(self) -> str | None:
        """What /healthz says if it is not well."""
        try:
            _get(f"{self._base}{HEALTH_PATH}")
        except urllib.error.HTTPError as error:
            return error.read(200).decode(errors="replace").strip()
        except (OSError, HTTPException, ValueError):
            return None
        return None


class DeploymentSource:
    """A Deployment, whoever scales it. look: at it; events: all on it, as (unix seconds, reason, message)."""

    def __init__(
        self, name: str, look: Callable[[], DeploymentStatus], events: Callable[[], list[tuple[float, str, str]]]
    ) -> None:
        self._name, self._look, self._events = name, look, events
        self._last: live.ControllerView | None = None

    def frame(self) -> Frame:
        """See Source. ClusterError if it cannot be seen at the start."""
        try:
            status = self._look()
            told = live.last_told(self._events(), time.time())
        except ClusterError as error:
            if self._last is None:
                raise
            return Frame(self._name, True, controller=self._last, problems=(str(error),))
        spec, ready = status.spec_replicas, len(status.addresses)
        pending = sum(pod.phase == "Pending" and not pod.deleting for pod in status.pods)
        self._last = live.ControllerView(
            self._name, replicas=Replicas(spec, ready, max(0, spec - ready)), pending=pending, decision=told
        )
        problems = tuple(f"{pod} is not ready: {why}" for pod, why in sorted(status.not_ready.items()))
        return Frame(f"deployment {self._name}", True, controller=self._last, problems=problems)


def _deployment(name: str, namespace: str, kubeconfig: Path | None) -> DeploymentSource:
    from kubernetes import client  # noqa: PLC0415 - takes a second, for who watches a folder too

    from testbed.autoscaling.live.deployment import DeploymentView  # noqa: PLC0415
    from testbed.serving.kubernetes_api import AsClusterError, api_client  # noqa: PLC0415

    api = api_client(kubeconfig)
    core: Any = client.CoreV1Api(api)
    selector = f"involvedObject.kind=Deployment,involvedObject.name={name}"

    def events() -> list[tuple[float, str, str]]:
        with AsClusterError(f"events of {namespace}/{name}", "may this account list events?"):
            items = core.list_namespaced_event(namespace, field_selector=selector, _request_timeout=TIMEOUT_S).items
        stamped = [(item.last_timestamp or item.event_time, item.reason, item.message) for item in items]
        return [(stamp.timestamp(), reason, message) for stamp, reason, message in stamped if stamp is not None]

    return DeploymentSource(f"{namespace}/{name}", DeploymentView(api, namespace, name, TIMEOUT_S).look, events)


def _get(url: str) -> str:
    with _direct.open(url, timeout=TIMEOUT_S) as answer:
        text: str = answer.read(1 << 22).decode()
    return text


def drawn(frame: Frame) -> RenderableType:
    """For a terminal, of 80 columns too."""
    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    if frame.share is not None:
        rows.add_row("", ProgressBar(total=1.0, completed=frame.share, width=50))
    for label, text in _rows(frame):
        rows.add_row(label, text)
    return Group(f"[bold]{escape(frame.title)}[/bold]  {time.strftime('%H:%M:%S')}", rows)


def _rows(frame: Frame) -> Iterator[tuple[str, str]]:
    """Label and text, with markup."""
    if frame.phase is not None:
        yield "now", escape(frame.phase)
    if frame.spent_s is not None:
        yield "time", _times(frame)
    if not frame.running:
        yield "now", "nothing is running here"
    if frame.run is not None:
        yield from _rows_of_run(frame.run)
    if frame.tally is not None:
        yield from _rows_of_tally(frame.tally)
    if frame.controller is not None:
        yield from _rows_of_controller(frame.controller)
    if frame.report is not None:
        yield "report", escape(frame.report)
    for problem in frame.problems:
        yield "[red]problem[/red]", f"[red]{escape(problem)}[/red]"


def _times(frame: Frame) -> str:
    parts = [f"{duration(frame.spent_s or 0.0)} so far"]
    if frame.left_s is not None:
        parts.append(f"about {duration(frame.left_s)} left of this")
    if frame.all_left_s is not None:
        parts.append(f"at least {duration(frame.all_left_s)} for the runs to come")
    return ", ".join(parts)


def _rows_of_run(run: RunView) -> Iterator[tuple[str, str]]:
    over = "" if run.state == "running" else f", {run.state}"
    yield "run", escape(f"{run.run_id}{over}")
    if run.what:
        yield "", escape(run.what)
    if run.elapsed_s is not None and run.duration_s is not None and run.left_s is not None:
        yield "", f"{duration(run.elapsed_s)} of {duration(run.duration_s)}, {duration(run.left_s)} left"
    if run.pace is not None:
        yield from _rows_of_pace(run.pace, run.requests, run.target_s)
    if run.waiting is not None:
        yield "waiting", f"{run.waiting:.0f} in the server's queues"
    if run.replicas is not None:
        yield "replicas", _replicas(run.replicas)
    if run.decision is not None:
        yield "decision", _decided(run.decision)
    if run.change is not None:
        yield "change", _decided(run.change)
    if run.verdict is not None:
        yield "verdict", _coloured(run.verdict, run.verdict == "VALID")


def _rows_of_pace(pace: live.Pace, requests: int | None, target_s: float | None) -> Iterator[tuple[str, str]]:
    failed = f"[red]{pace.failed} failed[/red]" if pace.failed else "0 failed"
    yield "requests", f"{pace.answered} answered, {failed}" + ("" if requests is None else f", of {requests}")
    if pace.answered_rps is not None:
        offered = "" if pace.offered_rps is None else f", {pace.offered_rps:.1f}/s offered, {_window(pace)}"
        yield "rate", f"{pace.answered_rps:.1f}/s answered{offered}"
    if pace.p95_so_far_s is not None:
        yield "P95", _latencies(pace, target_s)


def _latencies(pace: live.Pace, target_s: float | None) -> str:
    def against(seconds: float | None) -> str:
        text = milliseconds(seconds)
        return text if target_s is None or seconds is None else _coloured(text, seconds <= target_s)

    recent = "" if pace.p95_s is None else f"{against(pace.p95_s)} {_window(pace)}, "
    whole = against(pace.p95_so_far_s) + (" so far" if recent else "")
    return f"{recent}{whole}" + ("" if target_s is None else f"; target {milliseconds(target_s)}")


def _window(pace: live.Pace) -> str:
    return f"in the last {pace.window_s or 0.0:.0f} s"


def _coloured(text: str, good: bool) -> str:
    return f"[{'green' if good else 'red'}]{escape(text)}[/]"


def _replicas(replicas: Replicas) -> str:
    return f"{replicas.ready} ready, {replicas.starting} starting, {replicas.wanted} asked for"


def _decided(decision: Decision) -> str:
    because = f": {decision.because}" if decision.because else ""
    return escape(f"{decision.text}, {duration(max(0.0, decision.age_s))} ago{because}")


def _rows_of_tally(tally: live.Tally) -> Iterator[tuple[str, str]]:
    invalid = f"[red]{tally.invalid} INVALID[/red]" if tally.invalid else "0 INVALID"
    parts = [f"[green]{tally.valid} VALID[/green]", invalid]
    parts += [f"{tally.aside} put aside"] if tally.aside else []
    parts += [f"{tally.simulated} simulated"] if tally.simulated else []
    parts += [f"{tally.to_come} to come"] if tally.to_come else []
    yield "runs", ", ".join(parts)
    for reason in tally.reasons[-3:]:
        yield "", f"[red]{escape(reason)}[/red]"


def _rows_of_controller(view: live.ControllerView) -> Iterator[tuple[str, str]]:
    how = "" if view.acting is None else ", acts" if view.acting else ", does not act (a shadow, or not the leader)"
    yield "deployment", escape(view.deployment + ("" if view.policy is None else f" under {view.policy}{how}"))
    if view.replicas is not None:
        yield "replicas", _replicas(view.replicas)
    if view.wanted is not None:
        yield "wanted", f"{view.wanted} by the policy"
    for label, count, text in (
        ("pending", view.pending, "pods have not started"),
        ("silent", view.silent, "ready pods tell nothing"),
    ):
        if count:
            yield label, f"[red]{count} {text}[/red]"
    if view.decision is not None:
        yield "decision", _decided(view.decision)
    if view.decisions is not None:
        yield "so far", f"{view.decisions} decisions, {view.patches or 0} changes, {view.holds or 0} held back"
