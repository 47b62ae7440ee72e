"""A simulated run folder: the simulated counterpart of a real run (same schedule, same service), or one of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from loadgen.artifact import read_json
from loadgen.request_log import RequestLog
from loadgen.request_rows import with_rows
from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.run_dir import RunDir, RunManifest
from testbed.simulation.simulator import SimulatedRun, simulate
from testbed.study import refuse_others
from workloads.catalog import ServiceConfig

Progress = Callable[[float], None]  # told the share that is done
COUNTERPART_DRAWS = 25  # simulated runs of which a simulated counterpart is the middle one


def simulate_counterpart(
    real: RunDir, profile_file: Path, folder: Path, seed: int, on_progress: Progress = lambda share: None
) -> RunDir:
    """Simulate what a real run did, into `folder`, and leave the same files.

    The P95 of one simulated run of 150 requests varies with its seed as a real run's does: the counterpart is the
    middle, by P95, of COUNTERPART_DRAWS runs with the same arrivals.
    """
    measured = real.manifest
    schedule = Schedule.read(real.schedule)
    if measured.batch > 1 and schedule.rows is None:  # it was made before schedules said it
        schedule = with_rows(schedule, {measured.batch: 1.0}, 0)
    manifest = counterpart_manifest(measured, folder.name, COUNTERPART_DRAWS)
    manifest = manifest.model_copy(update={"profile": profile_file.name})
    _may_be_written(manifest, folder)
    profile = ServiceProfile.read(profile_file)
    draws = []
    for done, counterpart_seed in enumerate(counterpart_seeds(seed, COUNTERPART_DRAWS), start=1):
        draws.append(simulate(schedule, profile, measured.service, counterpart_seed, measured.client))
        on_progress(done / COUNTERPART_DRAWS)
    return _write(manifest, schedule, draws[middle_of([draw.requests for draw in draws])], folder)


def counterpart_manifest(measured: RunManifest, run_id: str, draws: int) -> RunManifest:
    """run.json of a simulated run that repeats a real one."""
    return measured.model_copy(
        update={
            "run_id": run_id,
            "kind": "simulated",
            "state": "complete",
            "repeat": 0,
            "start_unix_ns": None,
            "start_monotonic_ns": None,
            "verdict": None,
            "machine": None,
            "versions": {},
            "notes": (f"the middle of {draws} simulated runs by P95",),
            "simulates": measured.run_id,
        }
    )


def counterpart_seeds(seed: int, draws: int) -> list[int]:
    """Of the simulated runs that a simulated counterpart is chosen from."""
    return [int(state) for state in np.random.SeedSequence(seed).generate_state(draws)]


def middle_of(logs: Sequence[RequestLog]) -> int:
    """The place of the run with the middle P95."""
    p95_s = [np.quantile(log.latency_s[log.ok], 0.95) if log.ok.any() else 0 for log in logs]
    return int(np.argsort(p95_s, kind="stable")[len(logs) // 2])


def write_simulated(
    manifest: RunManifest,
    schedule: Schedule,
    service: ServiceConfig,
    profile_file: Path,
    folder: Path,
    seed: int,
    on_progress: Progress = lambda share: None,
) -> RunDir:
    """Simulate and write the run folder, with the manifest's client; the manifest names the profile by its file.

    A simulated run of the same settings is replaced; ArtifactError if there is a real one, ConfigError if another one.
    """
    manifest = manifest.model_copy(update={"profile": profile_file.name})
    _may_be_written(manifest, folder)
    profile = ServiceProfile.read(profile_file)
    result = simulate(schedule, profile, service, seed, manifest.client, on_progress)
    return _write(manifest, schedule, result, folder)


def _may_be_written(manifest: RunManifest, folder: Path) -> None:
    """Before any work: an error if a real run is there, or a simulated one of other settings."""
    run = RunDir(folder)
    if run.manifest_file.exists() and run.manifest.kind == "simulated":
        refuse_others(manifest, read_json(run.manifest_file, "remove it"), run.manifest_file)
    else:
        run.refuse_another()


def _write(manifest: RunManifest, schedule: Schedule, result: SimulatedRun, folder: Path) -> RunDir:
    run = RunDir(folder)
    run.manifest_file.unlink(missing_ok=True)  # an interrupt leaves no half of two runs that passes for one
    run.create()
    schedule.write(run.schedule)
    result.requests.write(run.requests)
    result.metrics.write(run.metrics)
    result.batches.write(run.batches)
    run.write_manifest(manifest)
    return run


def request_log_of(schedule: Schedule, profile: ServiceProfile, service: ServiceConfig, seed: int) -> RequestLog:
    """`simulate`, as the fit wants it: the request log alone."""
    return simulate(schedule, profile, service, seed).requests
