"""`kis simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from testbed.calibration.profile import ServiceProfile
from testbed.cli import options
from testbed.cli.replay import show_run
from testbed.config import SimulateConfig
from testbed.pipeline.traffic import make_schedule
from testbed.pipeline.twin import write_simulated
from testbed.run_dir import RunManifest


def simulate(
    config: options.ConfigFile = None,
    profile: Annotated[Path | None, typer.Option("--profile", help="profile-<model>.json of a calibration.")] = None,
    replicas: options.Replicas = None,
    instances: options.Instances = None,
    max_batch_size: options.MaxBatchSize = None,
    queue_delay_ms: options.QueueDelay = None,
    pattern: options.Pattern = None,
    parameters: options.Parameters = None,
    trace: options.Trace = None,
    duration: options.Duration = None,
    seed: options.Seed = None,
    out: options.Out = None,
) -> None:
    """Simulate a calibrated service under any traffic; leaves a run folder like a real run's.

    Example: [bold]kis simulate --profile results/x/profile-resnet50.json --replicas 4 --pattern bursty[/bold]
    """
    flags = {
        "profile": profile,
        "service": options.service_flags(replicas, instances, max_batch_size, queue_delay_ms),
        "traffic": options.traffic_flags(pattern, parameters, trace, duration, seed),
    }
    settings = options.configured(config, SimulateConfig, flags)
    known = ServiceProfile.read(settings.profile)
    schedule = make_schedule(settings.traffic, known.model)
    folder = options.out_folder(out, f"simulate-{known.model}")
    manifest = RunManifest(
        run_id=folder.name,
        kind="simulated",
        state="complete",
        model=known.model,
        weights=known.weights,
        device=known.device,
        service=settings.service,
        pattern=settings.traffic.pattern or "trace",
        pattern_parameters=dict(schedule.provenance),
        seed=settings.traffic.seed,
        duration_s=schedule.duration_s,
    )
    run = write_simulated(manifest, schedule, settings.service, settings.profile, folder, settings.seed)
    show_run(Console(), run)
