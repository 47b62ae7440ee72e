"""A simulated run folder: the twin of a real run (same schedule, same service), or one of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.run_dir import RunDir, RunManifest
from testbed.simulation.simulator import SimulatedRun, simulate
from workloads.catalog import ServiceConfig

TWIN_DRAWS = 25  # simulated runs of which a twin is the middle one


def simulate_twin(real: RunDir, profile_file: Path, folder: Path, seed: int) -> RunDir:
    """Simulate what a real run did, into `folder`, and leave the same files.

    One simulated run of 150 requests has a P95 that is as much luck as a real one's: the twin is the middle, by P95, of
    TWIN_DRAWS runs with the same arrivals.
    """
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
            "notes": (f"the middle of {TWIN_DRAWS} simulated runs by P95",),
            "simulates": measured.run_id,
        }
    )
    profile = ServiceProfile.read(profile_file)
    seeds = [int(one) for one in np.random.SeedSequence(seed).generate_state(TWIN_DRAWS)]
    draws = [simulate(schedule, profile, measured.service, one) for one in seeds]
    p95_s = [
        np.quantile(one.requests.latency_s[one.requests.ok], 0.95) if one.requests.ok.any() else 0 for one in draws
    ]
    middle = draws[int(np.argsort(p95_s, kind="stable")[TWIN_DRAWS // 2])]
    return _write(manifest, schedule, middle, profile_file, folder)


def write_simulated(
    manifest: RunManifest, schedule: Schedule, service: ServiceConfig, profile_file: Path, folder: Path, seed: int
) -> RunDir:
    """Simulate and write the run folder; its manifest names the profile by its file."""
    result = simulate(schedule, ServiceProfile.read(profile_file), service, seed)
    return _write(manifest, schedule, result, profile_file, folder)


def _write(manifest: RunManifest, schedule: Schedule, result: SimulatedRun, profile_file: Path, folder: Path) -> RunDir:
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
