"""What `kis watch` watches: a folder that others write into, a controller's page, a Deployment. It reads little."""

from __future__ import annotations

import contextlib
import os
import platform
import time
import urllib.error
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from loadgen.access import PLAIN, Access
from loadgen.refused import why_no_tls, why_status
from testbed.config import CalibrateConfig
from testbed.controller.health import DECISION_PATH, HEALTH_PATH
from testbed.errors import ClusterError, ConfigError
from testbed.measurement.triton_metrics import families_of, open_page
from testbed.pipeline.run_reader import RunReader, read_model
from testbed.pipeline.time_limit import plan_of
from testbed.progress import PROGRESS, Progress
from testbed.reporting import live
from testbed.reporting.live import Decision, Frame, Replicas
from testbed.run_dir import RunManifest
from workloads.files import parse_json

if TYPE_CHECKING:
    from testbed.autoscaling.live.deployment import DeploymentStatus

REPORTS = ("report.html", "report.md")
TIMEOUT_S = 2.0  # of a page
PREFIX = "kis_controller_"
KINDS = (
    *(PROGRESS, "run.json", "raw/job.json", "runs", "config.json", "experiment.json", "report.md"),
    *("tuned.json", "seeds.json", "adaptation.json", "plan.json"),
)


class Source(Protocol):
    """Something that is watched."""

    def frame(self) -> Frame:
        """What it tells now. KisError if it is not there at all."""


def source_of(
    target: str, target_s: float | None, namespace: str, kubeconfig: Path | None, access: Access = PLAIN
) -> Source:
    """What the target names. target_s: of the latency, for a folder; access: to a page. ConfigError if it is none."""
    if target.startswith(("http://", "https://")):
        return PageSource(target, access)
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
        progress = read_model(self._folder / PROGRESS, Progress)
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
                manifest = read_model(path / "run.json", RunManifest)
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


def _lives(progress: Progress) -> bool:
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
    calibration = read_model(folder / "config.json", CalibrateConfig)
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


def _read_json(file: Path) -> Any:
    try:
        return parse_json(file.read_bytes())
    except (OSError, ValueError):
        return None


class PageSource:
    """A controller's page, with the decision that it tells beside it. ConfigError if there is none at the start."""

    def __init__(self, url: str, access: Access = PLAIN) -> None:
        self._access = access
        bare = url.rstrip("/")
        self._url = bare if bare.endswith("/metrics") else f"{bare}/metrics"
        self._base = self._url.removesuffix("/metrics")
        self._last: live.ControllerView | None = None

    def frame(self) -> Frame:
        """See Source."""
        try:
            self._last = self._view()
        except (OSError, HTTPException, ValueError, OverflowError) as error:
            reason = getattr(error, "reason", error)
            if self._last is None:
                status = error.code if isinstance(error, urllib.error.HTTPError) else 0
                if (why := why_no_tls(reason) or why_status(status, self._access)) is not None:
                    raise ConfigError(f"{self._url}: {why}") from None
                raise ConfigError(
                    f"{self._url} does not answer ({reason}): is metrics_port of the controller set, and is it up?"
                ) from None
            return Frame(self._url, True, controller=self._last, problems=(f"no answer any more ({reason})",))
        health = self._health()
        return Frame(self._url, True, controller=self._last, problems=() if health is None else (health,))

    def _view(self) -> live.ControllerView:
        families = families_of(self._get(self._url))
        told = [sample for family in families for sample in family.samples if sample.name.startswith(PREFIX)]
        samples = {sample.name.removeprefix(PREFIX): (sample.labels, sample.value) for sample in told}
        if not samples:
            raise ConfigError(f"{self._url} is not a controller's page: it has no {PREFIX}decisions_total")
        names = sorted({each.labels["deployment"] for each in told if "deployment" in each.labels})
        if len(names) > 1:
            raise ConfigError(f"{self._url} is of several deployments ({', '.join(names)}): watch deployment/NAME")
        return live.controller_of(samples, self._decision())

    def _decision(self) -> Decision | None:
        with contextlib.suppress(
            OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError
        ):  # an older controller
            return live.decision_of(parse_json(self._get(f"{self._base}{DECISION_PATH}")), time.time())
        return None

    def _health(self) -> str | None:
        """What /healthz says if it is not well."""
        try:
            self._get(f"{self._base}{HEALTH_PATH}")
        except urllib.error.HTTPError as error:
            return error.read(200).decode(errors="replace").strip()
        except (OSError, HTTPException, ValueError):
            return None
        return None

    def _get(self, url: str) -> str:
        with open_page(url, TIMEOUT_S, self._access) as answer:
            text: str = answer.read(1 << 22).decode()
        return text


class DeploymentSource:
    """A Deployment, whoever scales it. look: at it; events: all on it, as (unix seconds, reason, message)."""

    def __init__(
        self, name: str, look: Callable[[], DeploymentStatus], events: Callable[[], list[tuple[float, str, str]]]
    ) -> None:
        self._name, self._look, self._events = name, look, events
        self._last: live.ControllerView | None = None
        self._seen_s = 0.0

    def frame(self) -> Frame:
        """See Source. ClusterError if it cannot be seen at the start."""
        try:
            status = self._look()
            events = self._events()
        except ClusterError as error:
            if self._last is None:
                raise
            seen = f"seen {live.duration(time.time() - self._seen_s)} ago; {error}"
            return Frame(f"deployment {self._name}", True, controller=self._last, problems=(seen,))
        spec, ready = status.spec_replicas, len(status.addresses)
        pending = sum(pod.phase == "Pending" and not pod.deleting for pod in status.pods)
        now_s = self._seen_s = time.time()
        self._last = live.ControllerView(
            self._name,
            replicas=Replicas(spec, ready, max(0, spec - ready)),
            pending=pending,
            decision=live.last_told(events, now_s),
            change=live.last_scaling(events, now_s),
        )
        problems = live.problems_of(status.not_ready)
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
