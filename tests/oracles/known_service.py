"""A simulated service whose parameters are known, and the calibration runs made of it."""

from __future__ import annotations

import numpy as np
from scipy.stats import gamma, norm

from loadgen.lengths import all_of
from loadgen.patterns import make_pattern
from loadgen.schedule import Schedule, poisson_schedule
from testbed.calibration.evidence import Evidence
from testbed.calibration.profile import Overhead, OverheadLevel, ServiceProfile, ServiceTime, SlowPhase
from testbed.pipeline.plan import burst_schedule
from testbed.run_dir import Device, RunManifest
from testbed.simulation.simulator import simulate
from workloads.catalog import ServiceConfig

GRID = np.clip(np.linspace(0, 1, 401), 1e-4, 1 - 1e-4)
SIGMA = 0.06


def known_profile(*, slow_sigma: float = 0.0, timescale_s: float = 2.0) -> ServiceProfile:
    """Batches of 4 ms + 1 ms a request, lognormal; gamma overheads .2 ms before, .4 ms after; gaps of .15 ms."""
    noise = np.exp(SIGMA * norm.ppf(GRID) - SIGMA**2 / 2)
    level = OverheadLevel(
        replicas=1,
        instances=1,
        rate_rps=100.0,
        ingress_delay_quantiles_s=tuple(gamma.ppf(GRID, 4, scale=0.0002 / 4)),
        egress_delay_quantiles_s=tuple(gamma.ppf(GRID, 4, scale=0.0004 / 4)),
        requests=1000,
    )
    return ServiceProfile(
        model="emulated",
        weights="none",
        device=Device(kind="emulated", name="known"),
        service_time=ServiceTime(
            batch_size=tuple(range(1, 9)),
            mean_s=tuple(0.004 + 0.001 * b for b in range(1, 9)),
            spread_s=(None,) * 8,
            batches=(1000,) * 8,
            noise_quantiles=tuple(noise / np.trapezoid(noise, dx=1 / 400)),
        ),
        slow_phase=SlowPhase(sigma=slow_sigma, timescale_s=timescale_s),
        inter_batch_gap_s=0.00015,
        overhead=Overhead(window_s=0.25, levels=(level,), per_position_s=0.00005, per_batch_size_s=0.0),
    )


def calibration_runs(
    profile: ServiceProfile,
    *,
    with_batches: bool = True,
    duration_s: float = 60,
    rates: tuple[float, ...] = (40.0, 250.0, 450.0, 600.0),
    seed: int = 100,
    service: ServiceConfig = ServiceConfig(),  # noqa: B008
) -> list[Evidence]:
    """Bursts through every batch size, then constant rates: from idle to saturated, unless they are given.

    Requests to a service with length buckets are as long as can be.
    """
    schedules = [burst_schedule("emulated", service, 0.006, 40)]
    for number, rate in enumerate(rates):
        schedules.append(poisson_schedule(make_pattern("constant", rate=rate), duration_s, number, "emulated"))
    if service.length_buckets:
        schedules = [all_of(schedule, service.length_buckets[-1]) for schedule in schedules]
    return [evidence(profile, schedule, service, seed + k, with_batches) for k, schedule in enumerate(schedules)]


def evidence(
    profile: ServiceProfile, schedule: Schedule, service: ServiceConfig, seed: int, with_batches: bool = True
) -> Evidence:
    """One run of the service."""
    run = simulate(schedule, profile, service, seed=seed)
    manifest = RunManifest(
        run_id=f"known-{seed}",
        kind="simulated",
        state="complete",
        model="emulated",
        weights="none",
        device=profile.device,
        service=service,
        pattern=str(schedule.provenance["pattern"]),
        seed=seed,
        duration_s=schedule.duration_s,
    )
    return Evidence(manifest, schedule, run.requests, run.metrics, run.batches if with_batches else None)
