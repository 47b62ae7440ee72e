"""`kis simulate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from testbed.calibration.profile import ServiceProfile
from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, shown
from testbed.cli.flags import Given, configured, flags, typed
from testbed.cli.out import out_folder
from testbed.cli.replay import show_run
from testbed.config import SimulateConfig
from testbed.config_file import FLAGS, build, keys_of, merge
from testbed.errors import ConfigError
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.traffic import length_notes, make_schedule, own_length_s
from testbed.run_dir import RunDir, RunManifest
from testbed.words import counted
from workloads.catalog import DynamicBatching, ServiceConfig

if TYPE_CHECKING:
    from loadgen.schedule import Schedule

COVERAGE = 0.9  # of intervals
PEAK_S = 1.0  # over which a peak rate is counted


@flags(
    SimulateConfig,
    ClusterRunConfig,
    usual=["profile", "run", *options.service(), *options.CLIENT, *options.TRAFFIC, options.BATCH, "seed", "draws"],
)
def simulate(
    given: Given,
    config: options.ConfigFile = None,
    cluster: Annotated[Path | None, typer.Option(help="A cluster's configuration instead: nodes, models, ...")] = None,
    policy: Annotated[str | None, typer.Option(help=f"Of the cluster's model: {escape(options.POLICY_HELP)}")] = None,
    metric: options.Metrics = None,
    out: options.Out = None,
) -> None:
    """Leaves a run folder like a real run's; of a cluster, a report.

    A real run, repeated: [bold]kis simulate --profile results/x/profile-resnet50.json --run results/y[/bold]
    A cluster under an autoscaler: [bold]kis simulate --cluster testbed/configs/cluster.yaml[/bold]
    Your own on your trace: [bold]kis simulate --cluster c.yaml --trace t.csv --policy my-hpa.yaml[/bold]
    """
    if cluster is not None:
        file = [] if config is None else ["FILE"]
        _refuse(given, ClusterRunConfig, file, "go with one service: a cluster has its own in its configuration")
        settings_of_cluster = _cluster_settings(cluster, given, options.given_policy(policy, metric))
        _simulate_cluster(settings_of_cluster, out_folder(out, "simulate --cluster", "cluster"))
        return
    of_cluster = [name for name, value in (("--policy", policy), ("--metric", metric)) if value]
    _refuse(given, SimulateConfig, of_cluster, "go with --cluster")
    if "seed" in given:  # other draws, and other arrivals unless --traffic.seed says which
        given = merge({"traffic": {"seed": given["seed"]}}, given)
    if config is None and "profile" not in given:
        raise ConfigError(
            "give --profile, a profile-<model>.json of `kis calibrate` (testbed/examples/ has one), or --cluster, a "
            "configuration as testbed/configs/cluster.yaml"
        )
    if config is not None and "cluster" in keys_of(config):
        raise ConfigError(f"{config} is of a cluster: kis simulate --cluster {config}")
    settings = configured(SimulateConfig, config, given)
    known = ServiceProfile.read(settings.profile)
    folder = out_folder(out, "simulate", f"simulate-{known.model}")
    if settings.run is not None:
        _ = RunDir(settings.run).manifest  # what is no run is said first
        with ConsoleReporter() as reporter:
            reporter.phase(f"simulate {settings.run} again")
            from testbed.pipeline.counterpart import simulate_counterpart

            run = simulate_counterpart(
                RunDir(settings.run), settings.profile, folder, settings.seed, partial(_first_half, reporter)
            )
            page = _page_of(run, reporter)
            _tell_of_queues(reporter, [run.manifest.service.dynamic_batching])
        show_run(console, run, page=page)
        return
    own = {} if settings.service is None else settings.service.model_dump(exclude_unset=True)
    service = ServiceConfig.model_validate({"max_batch_size": known.largest_batch, **own})
    schedule = make_schedule(settings.traffic, known.model)
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
    with ConsoleReporter() as reporter:
        sent = f"{counted(len(schedule), 'request')} in {schedule.duration_s:.0f} s"
        reporter.phase(f"simulate {sent} to {counted(service.replicas, 'replica')} of {known.model}")
        reporter.notes(length_notes({"": settings.traffic}))
        _tell_of_queues(reporter, [service.dynamic_batching])
        from testbed.pipeline.counterpart import write_simulated

        told = partial(_first_half, reporter)
        run = write_simulated(manifest, schedule, service, settings.profile, folder, settings.seed, told)
        page = _page_of(run, reporter)
    for note in _beyond_calibration(known, schedule):
        say(f"note: {note}")
    show_run(console, run, page=page)


def _tell_of_queues(reporter: ConsoleReporter, rules: list[DynamicBatching | None]) -> None:
    from testbed.simulation.rules import queue_notes

    reporter.notes(queue_notes(rules))


def _first_half(reporter: ConsoleReporter, share: float) -> None:
    """Of long runs the simulation takes about as long as the page."""
    reporter.progress(share / 2)


def _page_of(run: RunDir, reporter: ConsoleReporter) -> Path:
    from testbed.reporting.reports import report_of

    return report_of(run.path).write(run.path, lambda share: reporter.progress(0.5 + share / 2))


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


def _refuse(given: Given, kind: type[BaseModel], others: list[str], why: str) -> None:
    """ConfigError if there are others, or flags that are no keys of that kind."""
    unused = [*others, *typed({key: value for key, value in given.items() if key not in kind.model_fields})]
    if unused:
        raise ConfigError(f"{', '.join(unused)}: {why}")


def _cluster_settings(file: Path, given: Given, policy: dict[str, Any] | None) -> ClusterRunConfig:
    """The file's configuration with what flags say in its place: traffic and policy of its one model.

    A run of a trace lasts as long as the trace, unless somebody says otherwise: a flag, or the file that names both.
    """
    traffic = given.pop("traffic", {})
    if "duration_s" in traffic:
        given.setdefault("duration_s", traffic.pop("duration_s"))
    run_config = configured(ClusterRunConfig, file, given)
    changed: dict[str, Any] = {}
    if traffic or policy is not None:
        names = [model.name for model in run_config.cluster.models]
        if len(names) > 1:
            raise ConfigError(f"{file}: serves {', '.join(names)}: say in the file which one's traffic or policy it is")
        if traffic:  # another pattern or trace altogether, or other keys of the file's
            own = run_config.traffic.get(names[0]) if traffic.keys().isdisjoint({"pattern", "trace"}) else None
            whole = merge({} if own is None else own.model_dump(exclude_unset=True), traffic)
            changed |= {"traffic": {names[0]: whole}, "users": {}}
        if policy is not None:
            changed["policies"] = {names[0]: policy}
        run_config = build(ClusterRunConfig, {**run_config.model_dump(exclude_unset=True), **changed}, FLAGS)
    if "duration_s" in given or (not traffic and "duration_s" in run_config.model_fields_set):
        return run_config
    lengths = [own_length_s(served) for served in run_config.traffic.values()]
    longest = max((length for length in lengths if length is not None), default=None)
    return run_config if longest is None else run_config.model_copy(update={"duration_s": longest})


def _simulate_cluster(config: ClusterRunConfig, folder: Path) -> None:
    names = ", ".join(model.name for model in config.cluster.models)
    with ConsoleReporter(folder) as reporter:
        reporter.phase(f"simulate {config.duration_s:g} s of a cluster that serves {names}")
        from testbed.pipeline.cluster_run import simulate_cluster

        summary = simulate_cluster(config, folder, reporter.progress)
    from testbed.reporting.reports.cluster import nodes_text

    console.print(_table(summary))
    for sentence in nodes_text(summary.get("nodes")):
        say(sentence)
    for note in summary["notes"]:
        say(f"note: {note}")
    print_path(console, folder / "report.html")


def _table(summary: dict[str, Any]) -> Table:
    """A block a model, of a line a figure: names of any length, and intervals, in 80 columns."""
    rows = Table(box=SIMPLE, caption=f"simulated{_intervals_of(summary)}", pad_edge=False)
    rows.add_column("model, policy", overflow="fold")
    rows.add_column("", justify="right")
    rows.add_column("interval" if summary["draws"] else "")
    for name, model in summary["models"].items():
        failed = model["error"] + model["timeout"] + model["dropped"]
        rows.add_row(f"{name}, {model['policy']}")
        rows.add_row("  requests", f"{model['requests']:,}")
        rows.add_row("  over target", *_with_interval(model, "slo_violation_rate", ".2%"))
        rows.add_row("  failed", f"{failed:,}")
        rows.add_row("  waiting at the end", f"{model['waiting']:,}")
        rows.add_row("  P95, ms", *_with_interval(model, "p95_ms", ".1f"))
        rows.add_row("  GPU-seconds", *_with_interval(model, "gpu_seconds", ",.0f"))
        rows.add_row("  changes of replicas", str(model["changes"]), end_section=True)
    return rows


def _intervals_of(summary: dict[str, Any]) -> str:
    """What the intervals of the table are, if it has some."""
    draws, models = summary["draws"], summary["models"].values()
    bands = [band for model in models for band in model["intervals"].values() if band is not None]
    if not bands:
        return ""
    if min(band["coverage"] for band in bands) < COVERAGE:
        return f"; interval: lowest and highest of {draws} repeats (other arrivals, other luck)"
    return f"; interval: {COVERAGE:.0%}, over {draws} repeats (other arrivals, other luck)"


def _with_interval(model: dict[str, Any], name: str, form: str) -> tuple[str, str]:
    """The figure, and its interval if it has one."""
    value, band = model[name], model["intervals"].get(name)
    return shown(value, form), "" if band is None else f"{band['low']:{form}} to {band['high']:{form}}"
