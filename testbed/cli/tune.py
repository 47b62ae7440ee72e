"""`kis tune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, say, shown, table
from testbed.cli.flags import Given, configured, flags
from testbed.cli.out import out_folder
from testbed.config import TrafficConfig
from testbed.config_file import FLAGS, build
from testbed.pipeline.traffic import length_notes
from testbed.pipeline.tune_config import TuneConfig
from testbed.words import counted


@flags(TuneConfig, usual=["trials"])
def tune(
    given: Given,
    config: options.Config,
    policy: Annotated[
        str | None, typer.Option(help=f"Policy of today, which competes: {escape(options.POLICY_HELP)}")
    ] = None,
    metric: options.Metrics = None,
    target_ms: Annotated[float | None, typer.Option(help="Latency target.", min=0.001)] = None,
    out: options.Out = None,
) -> None:
    """Searched in the simulator, checked on traffic that the search has not seen."""
    settings = configured(TuneConfig, config, given)
    today = options.given_policy(policy, metric)
    if today is not None:
        changed = {**settings.model_dump(exclude_unset=True), "policies": {settings.model: today}}
        settings = build(TuneConfig, changed, FLAGS)
    if target_ms is not None:
        models = [model.model_copy(update={"latency_target_s": target_ms / 1e3}) for model in settings.cluster.models]
        settings = settings.model_copy(update={"cluster": settings.cluster.model_copy(update={"models": (*models,)})})
    folder = out_folder(out, "tune")
    with ConsoleReporter(folder) as reporter:
        names = f", for each of {', '.join(settings.families)}" if settings.families else ""
        tried = f"{counted(settings.trials, 'setting')} of {', '.join(settings.candidates)} for {settings.model}"
        reporter.phase(f"{tried}, {counted(settings.seeds, 'run')} each{names}")
        stated_s = settings.duration_s if "duration_s" in settings.model_fields_set else None
        reporter.notes(length_notes(_all_traffic(settings), stated_s))
        from testbed.pipeline import tune as tuning
        from testbed.simulation.rules import queue_notes

        reporter.notes(queue_notes(model.dynamic_batching for model in settings.cluster.models))

        if settings.families:
            tuned = tuning.tune_families(settings, folder, reporter.progress)
        else:
            tuned = {"": tuning.tune(settings, folder, reporter.progress)}
    console.print(_table(tuned, settings.allowed_slo_violation_rate))
    for family, result in tuned.items():
        for note in result["notes"]:
            of = f"{family}: " if family else ""
            say(f"note: {of}{note}", style="red" if not result["holds"] else None)
    from testbed.reporting.reports import write_report

    for family in tuned:
        for file in sorted((folder / family).glob("*.yaml")):
            print_path(console, file)
    print_path(console, write_report(folder))
    if not all(result["holds"] for result in tuned.values()):
        raise typer.Exit(1)


def _all_traffic(settings: TuneConfig) -> dict[str, TrafficConfig]:
    """By names for notes."""
    if settings.families:
        return {f"{name} {k}": one for name, family in settings.families.items() for k, one in enumerate(family, 1)}
    return {**settings.traffic, **{f"variant {k}": one for k, one in enumerate(settings.variants, 1)}}


def _table(tuned: Mapping[str, Mapping[str, Any]], allowed: float) -> Table:
    """The policies of each family, or of the only traffic, whose name is empty."""
    currency = next(iter(tuned.values())).get("currency")
    headings = ("P95 ms", "over target %", "90 %", "GPU-s", *([currency] if currency else []), "changes")
    rows = table("policy", *headings, caption=f"simulated; allowed over the target: {allowed:.2%}")
    for family, result in tuned.items():
        for name, outcome in result["outcomes"].items():
            interval = outcome["slo_violation_rate_interval"]
            rows.add_row(
                f"{family} {name}{' (chosen)' if name == result['chosen'] else ''}".strip(),
                shown(outcome["p95_ms"], ".1f"),
                f"{100 * outcome['slo_violation_rate']:.2f}",
                "-" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}",
                f"{outcome['gpu_seconds']:.0f}",
                *([f"{outcome['cost']:.2f}"] if currency else []),
                f"{outcome['changes']:.1f}",
            )
    return rows
