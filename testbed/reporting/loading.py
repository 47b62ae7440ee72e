"""Which runs of a results folder belong together: a real run, its simulated counterpart, and the real repeats.

And what a run's batches say: utilisation, batch sizes. From the log of batches, else from Triton's own statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.errors import ReportError
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.run_dir import RunDir, RunManifest, run_dirs


@dataclass(frozen=True)
class LoadedRun:
    """One run's artefacts in memory; metrics and batches are None where the run has no such file."""

    path: Path
    manifest: RunManifest
    schedule: Schedule
    requests: RequestLog
    metrics: MetricLog | None = None
    batches: BatchLog | None = None


@dataclass(frozen=True)
class Pair:
    """A real run, the simulated run of the same schedule, and the other real runs of that schedule."""

    real: LoadedRun
    sim: LoadedRun
    repeats: tuple[LoadedRun, ...]


@dataclass(frozen=True)
class PairPaths:
    """Where a pair lies, with the real run's manifest."""

    manifest: RunManifest
    real: Path
    sim: Path
    repeats: tuple[Path, ...]


@dataclass(frozen=True)
class Folder:
    """What a results folder holds: its pairs in reading order, and the real runs that nothing was compared with."""

    path: Path
    pairs: tuple[PairPaths, ...]
    unpaired: tuple[str, ...]
    profiles: dict[Path, ServiceProfile]

    def load(self) -> Iterator[Pair]:
        """The pairs, one after the other: only one is in memory unless the caller keeps more."""
        for paths in self.pairs:
            yield Pair(load_run(paths.real), load_run(paths.sim), tuple(map(load_run, paths.repeats)))


def load_run(path: Path) -> LoadedRun:
    """Read one run folder. ArtifactError if it is not one, ReportError if the run never ended."""
    run = RunDir(path)
    manifest = run.manifest
    if manifest.state == "running":
        raise ReportError(f"{path} never ended (state 'running' in run.json): wait for it, or make the run again")
    return LoadedRun(
        path=path,
        manifest=manifest,
        schedule=Schedule.read(run.schedule),
        requests=RequestLog.read(run.requests),
        metrics=MetricLog.read(run.metrics) if run.metrics.exists() else None,
        batches=BatchLog.read(run.batches) if run.batches.exists() else None,
    )


def refuse_without_runs(folder: Path) -> None:
    """ReportError if the folder has no runs."""
    if not folder.exists():
        raise ReportError(f"{folder} does not exist: give a results folder")
    if RunDir(folder).manifest_file.exists():
        raise ReportError(f"{folder} is one run: `kis simulate --run {folder}` repeats it, `kis compare` takes both")
    if not run_dirs(folder):
        raise ReportError(f"{folder} has no runs: expected runs/<run_id>/run.json in it, as `kis calibrate` writes")


def open_folder(folder: Path) -> Folder:
    """Find the pairs under `folder`/runs. ReportError if there are none, or if they contradict each other."""
    refuse_without_runs(folder)
    manifests = {file.parent: RunDir(file.parent).manifest for file in sorted(folder.glob("runs/*/run.json"))}
    real = _by_run_id({path: m for path, m in manifests.items() if m.kind == "real"})
    counterparts = _counterparts({path: m for path, m in manifests.items() if m.kind == "simulated"}, set(real))
    if not counterparts:
        raise ReportError(
            f"{folder} has {len(real)} real and no simulated runs: simulate them first with `kis simulate`"
        )
    pairs = [
        PairPaths(real[run_id][1], real[run_id][0], counterpart, _repeats(real[run_id][1], real))
        for run_id, counterpart in counterparts.items()
    ]
    pairs.sort(key=lambda pair: _reading_order(pair.manifest))
    shown = {pair.manifest.run_id for pair in pairs} | {RunDir(p).manifest.run_id for q in pairs for p in q.repeats}
    profiles = {file: ServiceProfile.read(file) for file in sorted(folder.glob("profile*.json"))}
    _refuse_fitted_held_out(pairs, profiles)
    return Folder(folder, tuple(pairs), tuple(sorted(set(real) - shown)), profiles)


def refuse_unequal(real: LoadedRun, other: LoadedRun) -> None:
    """ReportError unless `other` answered the same arrivals of the same service."""
    a, b = real.manifest, other.manifest
    for what, left, right in (("models", a.model, b.model), ("service configurations", a.service, b.service)):
        if left != right:
            raise ReportError(f"runs {a.run_id} and {b.run_id} have different {what}: only like runs can be compared")
    if not real.schedule.same_requests(other.schedule):
        raise ReportError(
            f"runs {a.run_id} and {b.run_id} have different schedules: run {b.run_id} again with the schedule.parquet "
            f"of {a.run_id}"
        )


def _by_run_id(runs: dict[Path, RunManifest]) -> dict[str, tuple[Path, RunManifest]]:
    named: dict[str, tuple[Path, RunManifest]] = {}
    for path, manifest in runs.items():
        if manifest.run_id in named:
            raise ReportError(f"{named[manifest.run_id][0]} and {path} are both run {manifest.run_id}: remove one")
        named[manifest.run_id] = (path, manifest)
    return named


def _counterparts(simulated: dict[Path, RunManifest], real: set[str]) -> dict[str, Path]:
    """run_id of a real run -> folder of its simulated counterpart."""
    counterparts: dict[str, Path] = {}
    for path, manifest in simulated.items():
        of = manifest.simulates
        if of is None:
            continue  # a simulation of its own, not of a real run
        if of not in real:
            raise ReportError(f"{path} simulates run {of}, which is not in this folder: add that run or remove this")
        if of in counterparts:
            raise ReportError(f"{counterparts[of]} and {path} both simulate run {of}: keep one of them")
        counterparts[of] = path
    return counterparts


def _repeats(manifest: RunManifest, real: dict[str, tuple[Path, RunManifest]]) -> tuple[Path, ...]:
    """Folders of the other ended real runs that share everything with this one but `repeat`, in order of repeat."""
    same = [
        (other.repeat, path)
        for path, other in real.values()
        if other.run_id != manifest.run_id and other.state != "running" and _identity(other) == _identity(manifest)
    ]
    return tuple(path for _, path in sorted(same))


def _identity(manifest: RunManifest) -> dict[str, Any]:
    keys = {"model", "weights", "device", "service", "pattern", "pattern_parameters", "seed", "held_out", "duration_s"}
    return manifest.model_dump(include=keys)


def _reading_order(manifest: RunManifest) -> tuple[Any, ...]:
    m = manifest
    return m.model, m.device.name, m.service.replicas, m.service.instances, m.service.label, m.pattern, m.seed, m.repeat


def _refuse_fitted_held_out(pairs: list[PairPaths], profiles: dict[Path, ServiceProfile]) -> None:
    for pair in pairs:
        for file, profile in profiles.items():
            if pair.manifest.held_out and pair.manifest.run_id in profile.runs:
                raise ReportError(
                    f"run {pair.manifest.run_id} says held_out, but {file.name} was fitted on it: calibrate without it"
                )


Source = Literal["batches", "metrics"]


def utilisation(run: LoadedRun) -> tuple[float | None, Source | None]:
    """Share of the run's instance time that was busy, and where it was read; (None, None) if not measured.

    Busy time: the increase of `batch_compute_seconds`, which means the same in a real and in a simulated run; without
    it start to end of every batch within the run, from batches.parquet (in a real run that leaves out the backend's
    own cost). Instance time: replicas * instances * duration.
    """
    service, duration_s = run.manifest.service, run.manifest.duration_s
    instance_s = service.replicas * service.instances * duration_s
    if run.metrics is not None:
        increases = run.metrics.increase_by_batch_size("batch_compute_seconds", run.manifest.model)
        if increases:
            return sum(increases.values()) / instance_s, "metrics"
    if run.batches is not None and len(run.batches.frame):
        return run.batches.busy_s(duration_s) / instance_s, "batches"
    return None, None


def batch_counts(run: LoadedRun) -> dict[int, int] | None:
    """Number of batches by batch size, ascending; None if not measured."""
    if run.batches is not None and len(run.batches.frame):
        sizes, counts = np.unique(run.batches.batches()["batch_size"].to_numpy(), return_counts=True)
        return {int(size): int(count) for size, count in zip(sizes, counts, strict=True)}
    if run.metrics is not None:
        increases = run.metrics.increase_by_batch_size("batch_executions", run.manifest.model)
        return {size: round(count) for size, count in increases.items() if round(count)} or None
    return None


def mean_batch(counts: dict[int, int] | None) -> float | None:
    """Mean batch size over batches (not over requests)."""
    if not counts:
        return None
    return sum(size * count for size, count in counts.items()) / sum(counts.values())
