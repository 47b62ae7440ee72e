"""`kis simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from testbed.calibration.profile import ServiceProfile
from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import show_run
from testbed.config import SimulateConfig, load_config
from testbed.pipeline.cluster_run import ClusterRunConfig, simulate_cluster
from testbed.pipeline.traffic import make_schedule
from testbed.pipeline.twin import simulate_twin, write_simulated
from testbed.run_dir import RunDir, RunManifest
from workloads.catalog import ServiceConfig


def simulate(
    config: options.ConfigFile = None,
    profile: Annotated[Path | None, typer.Option("--profile", help="profile-<model>.json of a calibration.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="A real run's folder, to repeat what it did.")] = None,
    replicas: options.Replicas = None,
    instances: options.Instances = None,
    max_batch_size: options.MaxBatchSize = None,
    queue_delay_ms: options.QueueDelay = None,
    pattern: options.Pattern = None,
    parameters: options.Parameters = None,
    trace: options.Trace = None,
    trace_format: options.TraceFormat = None,
    duration: options.Duration = None,
    seed: options.Seed = None,
    cluster: Annotated[
        Path | None,
        typer.Option("--cluster", help="A cluster's configuration instead: nodes, models, traffic, policies."),
    ] = None,
    out: options.Out = None,
) -> None:
    """Simulate a calibrated service under any traffic; leaves a run folder like a real run's.

    Example: [bold]kis simulate --profile results/x/profile-resnet50.json --replicas 4 --pattern bursty[/bold]
    The twin of a real run: [bold]kis simulate --profile results/x/profile-resnet50.json --run results/y[/bold]
    A cluster under an autoscaler: [bold]kis simulate --cluster testbed/configs/cluster.yaml[/bold]
    """
    if cluster is not None:
        _simulate_cluster(cluster, options.out_folder(out, "cluster"))
        return
    flags = {
        "profile": profile,
        "run": run,
        "service": options.service_flags(replicas, instances, max_batch_size, queue_delay_ms),
        "traffic": options.traffic_flags(pattern, parameters, trace, trace_format, duration, seed),
    }
    settings = options.configured(config, SimulateConfig, flags)
    known = ServiceProfile.read(settings.profile)
    folder = options.out_folder(out, f"simulate-{known.model}")
    console = Console()
    if settings.run is not None:
        show_run(console, simulate_twin(RunDir(settings.run), settings.profile, folder, settings.seed))
        return
    if max_batch_size is None and (
        settings.service is None or "max_batch_size" not in settings.service.model_fields_set
    ):
        given = {} if settings.service is None else settings.service.model_dump(exclude_unset=True)
        service = ServiceConfig.model_validate({**given, "max_batch_size": known.largest_batch})
    else:
        service = settings.service or ServiceConfig()
    schedule = make_schedule(settings.traffic, known.model)
    low, high = known.ranges.get("rate_rps", (0.0, float("inf")))
    if not low <= schedule.rate_rps <= high:
        console.print(
            f"note: {schedule.rate_rps:.1f} requests/s is outside the rates that the profile was fitted on "
            f"({low:.1f} to {high:.1f})",
            highlight=False,
        )
    manifest = RunManifest(
        run_id=folder.name,
        kind="simulated",
        state="complete",
        model=known.model,
        weights=known.weights,
        device=known.device,
        service=service,
        pattern=settings.traffic.pattern or "trace",
        pattern_parameters=dict(schedule.provenance),
        seed=settings.traffic.seed,
        duration_s=schedule.duration_s,
    )
    show_run(console, write_simulated(manifest, schedule, service, settings.profile, folder, settings.seed))


def _simulate_cluster(file: Path, folder: Path) -> None:
    config = load_config(file, ClusterRunConfig)
    console = Console()
    names = ", ".join(model.name for model in config.cluster.models)
    with ConsoleNarrator(console) as narrator:
        narrator.phase(f"simulate {config.duration_s:g} s of a cluster that serves {names}")
        summary = simulate_cluster(config, folder, narrator.progress)
    table = Table(title=f"{folder} (simulated)", title_justify="left")
    for column in ("model", "policy", "requests", "missed", "P95 ms", "GPU-s", "changes"):
        table.add_column(column, justify="left" if column in ("model", "policy") else "right")
    for name, one in summary["models"].items():
        share = one["missed_share"]
        table.add_row(
            name,
            one["policy"],
            f"{one['requests']:,}",
            "-" if share is None else f"{share:.2%}",
            "-" if one["p95_ms"] is None else f"{one['p95_ms']:.1f}",
            f"{one['gpu_seconds']:,.0f}",
            str(one["changes"]),
        )
    console.print(table)
