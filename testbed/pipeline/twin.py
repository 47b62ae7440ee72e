"""A simulated run folder: the twin of a real run (same schedule, same service), or one of its own."""

from __future__ import annotations

from pathlib import Path

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.run_dir import RunDir, RunManifest
from testbed.simulation.simulator import simulate
from workloads.catalog import ServiceConfig


def simulate_twin(real: RunDir, profile_file: Path, folder: Path, seed: int) -> RunDir:
    """Simulate what a real run did, into `folder`, and leave the same files."""
    measured = real.manifest
    schedule = Schedule.read(real.schedule)
    manifest = measured.model_copy(
        update={
            "run_id": folder.name,
            "kind": "simulated",
            "state": "complete",
            "repeat": 0,
            "start_unix_ns": None,
            "start_monotonic_ns": None,
            "verdict": None,
            "versions": {},
            "notes": (),
            "simulates": measured.run_id,
        }
    )
    return write_simulated(manifest, schedule, measured.service, profile_file, folder, seed)


def write_simulated(
    manifest: RunManifest, schedule: Schedule, service: ServiceConfig, profile_file: Path, folder: Path, seed: int
) -> RunDir:
    """Simulate and write the run folder; its manifest names the profile by its file."""
    profile = ServiceProfile.read(profile_file)
    result = simulate(schedule, profile, service, seed)
    run = RunDir(folder).create()
    schedule.write(run.schedule)
    result.requests.write(run.requests)
    result.metrics.write(run.metrics)
    result.batches.write(run.batches)
    run.write_manifest(manifest.model_copy(update={"profile": profile_file.name}))
    return run


def request_log_of(schedule: Schedule, profile: ServiceProfile, service: ServiceConfig, seed: int) -> RequestLog:
    """`simulate`, as the fit wants it: the request log alone."""
    return simulate(schedule, profile, service, seed).requests
