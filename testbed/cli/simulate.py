"""`kis simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.cli.replay import print_path, show_run
from testbed.config import SimulateConfig, build, load_config
from testbed.errors import ConfigError
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import simulate_cluster
from testbed.pipeline.counterpart import simulate_counterpart, write_simulated
from testbed.pipeline.rates import own_length_s
from testbed.pipeline.traffic import make_schedule
from testbed.run_dir import RunDir, RunManifest
from workloads.catalog import ServiceConfig

PEAK_S = 1.0  # over which a peak rate is counted


def simulate(
    config: options.ConfigFile = None,
    profile: Annotated[Path | None, typer.Option("--profile", help="profile-<model>.json of a calibration.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="A real run's folder, to repeat what it did.")] = None,
    replicas: options.Replicas = None,
    instances: options.Instances = None,
    max_batch_size: options.MaxBatchSize = None,
    queue_delay_ms: options.QueueDelay = None,
    timeout_s: options.ClientTimeout = None,
    max_in_flight: options.MaxInFlight = None,
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
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Of the cluster's model: KIND, or KIND:key=value,... as in its configuration."),
    ] = None,
    draws: Annotated[
        int | None, typer.Option("--draws", help="Of the cluster: further runs that might come, for 90 % intervals.")
    ] = None,
    out: options.Out = None,
) -> None:
    """Simulate a calibrated service under any traffic; leaves a run folder like a real run's.

    Example: [bold]kis simulate --profile results/x/profile-resnet50.json --replicas 4 --pattern bursty[/bold]
    A real run again: [bold]kis simulate --profile results/x/profile-resnet50.json --run results/y[/bold]
    A cluster under an autoscaler: [bold]kis simulate --cluster testbed/configs/cluster.yaml[/bold]
    Another one on your trace: [bold]kis simulate --cluster c.yaml --trace t.csv --policy fixed:replicas=4[/bold]
    """
    service_flags = options.service_flags(replicas, instances, max_batch_size, queue_delay_ms)
    client_flags = {"timeout_s": timeout_s, "max_in_flight": max_in_flight}
    if cluster is not None:
        alone = {"FILE": config, "--profile": profile, "--run": run, **service_flags, **client_flags}
        _refuse(alone, "go with one service: a cluster has its own in its configuration")
        traffic = options.traffic_flags(pattern, parameters, trace, trace_format, None, None)
        given = _cluster_settings(cluster, traffic, policy, duration, seed, draws)
        _simulate_cluster(given, options.out_folder(out, "cluster"))
        return
    _refuse({"--policy": policy, "--draws": draws}, "go with --cluster")
    flags = {
        "profile": profile,
        "run": run,
        "service": service_flags,
        "client": client_flags,
        "traffic": options.traffic_flags(pattern, parameters, trace, trace_format, duration, seed),
    }
    settings = options.configured(config, SimulateConfig, flags)
    known = ServiceProfile.read(settings.profile)
    folder = options.out_folder(out, f"simulate-{known.model}")
    console = Console()
    if settings.run is not None:
        show_run(console, simulate_counterpart(RunDir(settings.run), settings.profile, folder, settings.seed))
        return
    if max_batch_size is None and (
        settings.service is None or "max_batch_size" not in settings.service.model_fields_set
    ):
        set_ones = {} if settings.service is None else settings.service.model_dump(exclude_unset=True)
        service = ServiceConfig.model_validate({**set_ones, "max_batch_size": known.largest_batch})
    else:
        service = settings.service or ServiceConfig()
    schedule = make_schedule(settings.traffic, known.model)
    for note in _beyond_calibration(known, schedule):
        console.print(f"note: {note}", highlight=False, markup=False)
    manifest = RunManifest(
        run_id=folder.name,
        kind="simulated",
        state="complete",
        model=known.model,
        weights=known.weights,
        device=known.device,
        service=service,
        client=settings.client,
        pattern=settings.traffic.pattern or "trace",
        pattern_parameters=dict(schedule.provenance),
        seed=settings.traffic.seed,
        duration_s=schedule.duration_s,
    )
    show_run(console, write_simulated(manifest, schedule, service, settings.profile, folder, settings.seed))


def _beyond_calibration(profile: ServiceProfile, schedule: Schedule) -> list[str]:
    """Where the traffic leaves the rates that the profile was fitted on."""
    low, high = profile.ranges.get("rate_rps", (0.0, float("inf")))
    mean, peak = schedule.rate_rps, schedule.peak_rps(PEAK_S)
    known = f"what was calibrated ({low:.1f} to {high:.1f}/s): latencies may be off"
    notes = [] if mean >= low else [f"the mean rate, {mean:.1f}/s, is below {known}"]
    if max(mean, peak) > high:
        of = f"the mean rate, {mean:.1f}/s," if mean > high else f"the peak, {peak:.1f}/s in {PEAK_S:g} s,"
        notes.append(f"{of} is above {known}")
    return notes


def _refuse(given: dict[str, Any], why: str) -> None:
    told = [name for name, value in given.items() if value is not None]
    if told:
        raise ConfigError(f"{', '.join(told)}: {why}")


def _cluster_settings(
    file: Path,
    traffic: dict[str, Any],
    policy: str | None,
    duration_s: float | None,
    seed: int | None,
    draws: int | None,
) -> ClusterRunConfig:
    """The file's configuration with what flags say in its place: traffic and policy of its one model.

    A run of a trace lasts as long as the trace, unless somebody says otherwise: a flag, or the file that names both.
    """
    config = load_config(file, ClusterRunConfig)
    changed: dict[str, Any] = {"duration_s": duration_s, "seed": seed, "draws": draws}
    given = {key: value for key, value in traffic.items() if value is not None}
    if given or policy is not None:
        names = [model.name for model in config.cluster.models]
        if len(names) > 1:
            raise ConfigError(f"{file}: serves {', '.join(names)}: say in the file which one's traffic or policy it is")
        if given:
            changed |= {"traffic": {names[0]: given}, "users": {}}
        if policy is not None:
            changed["policies"] = {names[0]: options.policy_flag(policy)}
    changed = {key: value for key, value in changed.items() if value is not None}
    told = build(ClusterRunConfig, {**config.model_dump(exclude_unset=True), **changed}, "flags")
    if duration_s is not None or (not given and "duration_s" in config.model_fields_set):
        return told
    lengths = [own_length_s(one) for one in told.traffic.values()]
    known = [one for one in lengths if one is not None]
    return told.model_copy(update={"duration_s": max(known)}) if known else told


def _simulate_cluster(config: ClusterRunConfig, folder: Path) -> None:
    console = Console()
    names = ", ".join(model.name for model in config.cluster.models)
    with ConsoleNarrator(console) as narrator:
        narrator.phase(f"simulate {config.duration_s:g} s of a cluster that serves {names}")
        summary = simulate_cluster(config, folder, narrator.progress)
    table = Table(title=f"{folder} (simulated)", title_justify="left")
    for column in ("model", "policy", "requests", "missed", "failed", "waiting", "P95 ms", "GPU-s", "changes"):
        table.add_column(column, justify="left" if column in ("model", "policy") else "right")
    for name, one in summary["models"].items():
        share = one["missed_share"]
        table.add_row(
            name,
            one["policy"],
            f"{one['requests']:,}",
            "-" if share is None else _with_interval(one, "missed_share", ".2%"),
            f"{one['error'] + one['timeout'] + one['dropped']:,}",
            f"{one['waiting']:,}",
            "-" if one["p95_ms"] is None else _with_interval(one, "p95_ms", ".1f"),
            _with_interval(one, "gpu_seconds", ",.0f"),
            str(one["changes"]),
        )
    console.print(table)
    for note in summary["notes"]:
        console.print(f"note: {note}", highlight=False, markup=False)
    print_path(console, folder / "report.html")


def _with_interval(one: dict[str, Any], name: str, form: str) -> str:
    band = one["intervals"].get(name)
    value = f"{one[name]:{form}}"
    return value if band is None else f"{value}\n{band['low']:{form}}..{band['high']:{form}}"
