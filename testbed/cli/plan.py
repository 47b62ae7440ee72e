"""`kis plan`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.cli import options
from testbed.cli.progress import ConsoleNarrator
from testbed.config import TrafficConfig, build
from testbed.pipeline.capacity import Option, Plan, PlanGrid, by_setting, plan_capacity, predict
from testbed.pipeline.traffic import make_schedule
from testbed.reporting.drawing import save_png
from testbed.reporting.figures.plan import plan as plan_figure
from workloads.files import write_json

CONFIRMING_SEED, CONFIRMING_DRAWS = 1, 20  # other draws than the search's


def plan(
    profile: Annotated[Path, typer.Option("--profile", help="profile-<model>.json of a calibration.")],
    target_ms: Annotated[float, typer.Option("--target-ms", help="Latency to hold.", min=0.001)],
    percentile: Annotated[float, typer.Option("--percentile", help="Of the latency.", min=1, max=99.999)] = 95,
    max_replicas: Annotated[int, typer.Option("--max-replicas")] = 16,
    instances: Annotated[
        list[int] | None, typer.Option("--instances", help="Instances to try; may be repeated.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option("--max-batch-size", help="To try; may be repeated.")] = None,
    queue_delay_ms: Annotated[
        list[float] | None, typer.Option("--queue-delay-ms", help="To try; may be repeated.")
    ] = None,
    pattern: options.Pattern = None,
    parameters: options.Parameters = None,
    trace: options.Trace = None,
    trace_format: options.TraceFormat = None,
    speed_up: Annotated[float, typer.Option("--speed-up", help="Of the trace.")] = 1.0,
    duration: options.Duration = None,
    seed: options.Seed = None,
    out: options.Out = None,
) -> None:
    """How many replicas, instances, which batch size and queue delay hold a latency target on your traffic.

    Example: [bold]kis plan --profile results/x/profile-resnet50.json --trace trace.csv --target-ms 100[/bold]
    """
    known = ServiceProfile.read(profile)
    flags = {
        **options.traffic_flags(pattern, parameters, trace, trace_format, duration, seed),
        "speed_up": speed_up if trace is not None else None,
    }
    traffic = build(TrafficConfig, {key: value for key, value in flags.items() if value is not None}, "flags")
    schedule = make_schedule(traffic, known.model)

    def arrivals(run_seed: int) -> Schedule:
        if traffic.trace is not None:
            return schedule
        return make_schedule(traffic.model_copy(update={"seed": run_seed}), known.model)

    grid = build(
        PlanGrid,
        {
            "max_replicas": max_replicas,
            "instances": tuple(instances or (1,)),
            "max_batch_size": tuple(batch or ()),
            "queue_delay_s": tuple(one / 1e3 for one in queue_delay_ms or (0.0,)),
        },
        "flags",
    )
    console = Console()
    with ConsoleNarrator(console) as narrator:
        narrator.phase(f"{len(schedule)} requests of {known.model}, {schedule.rate_rps:.1f}/s on average: search")
        found = plan_capacity(
            known, arrivals, target_ms / 1e3, grid, percentile=percentile, on_progress=narrator.progress
        )
        if found.best is not None:
            narrator.phase(f"confirm {found.best.service.label} with other draws")
        confirmed = _confirmed(known, arrivals, found)
    folder = options.out_folder(out, f"plan-{known.model}")
    _write(found, confirmed, folder)
    console.print(_table(found))
    console.print(_verdict(found, confirmed, max_replicas))
    console.print(f"{folder / 'plan.png'}", highlight=False)


def _confirmed(known: ServiceProfile, arrivals: Callable[[int], Schedule], found: Plan) -> Option | None:
    """The best option with other draws than the search's; None: there is none."""
    if found.best is None:
        return None
    return predict(
        known,
        arrivals,
        found.best.service,
        found.target_s,
        percentile=found.percentile,
        draws=CONFIRMING_DRAWS,
        seed=CONFIRMING_SEED,
    )


def _write(found: Plan, confirmed: Option | None, folder: Path) -> None:
    """plan.json and plan.png."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "plan.json", _as_json(found, confirmed))
    points = {
        name: [
            (one.service.replicas, 1e3 * one.latency_s.low, 1e3 * one.latency_s.middle, 1e3 * one.latency_s.high)
            for one in group
        ]
        for name, group in by_setting(found.options).items()
    }
    save_png(plan_figure(points, 1e3 * found.target_s, found.percentile), folder / "plan.png")


def _verdict(found: Plan, confirmed: Option | None, max_replicas: int) -> str:
    if confirmed is None:
        return (
            f"nothing up to {max_replicas} replicas holds P{found.percentile:g} <= {1e3 * found.target_s:g} ms: allow "
            "more replicas, or another target"
        )
    told = "confirmed" if confirmed.holds else "NOT confirmed"
    return f"{told}: {confirmed.service.label}, P{found.percentile:g} {_ms(confirmed)} ms with other draws (simulated)"


def _table(found: Plan) -> Table:
    title = f"P{found.percentile:g} <= {1e3 * found.target_s:g} ms (simulated; 90 % intervals for one run)"
    table = Table(title=title, title_justify="left")
    for column in ("service", "replicas", f"P{found.percentile:g} ms", "over target", "utilisation", "holds"):
        table.add_column(column, justify="left" if column == "service" else "right")
    for name, group in by_setting(found.options).items():
        for one in group:
            table.add_row(
                name,
                str(one.service.replicas),
                _ms(one),
                f"{one.missed.middle:.1%} ({one.missed.low:.1%} to {one.missed.high:.1%})",
                f"{one.utilisation:.2f}",
                "yes" if one.holds else "no",
                style="bold" if one is found.best else None,
            )
    return table


def _ms(one: Option) -> str:
    low, middle, high = (1e3 * x for x in one.latency_s[:3])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _as_json(found: Plan, confirmed: Option | None) -> dict[str, object]:
    def told(one: Option | None) -> dict[str, object] | None:
        if one is None:
            return None
        return {
            "service": one.service.model_dump(),
            "latency_ms": {key: 1e3 * getattr(one.latency_s, key) for key in ("low", "middle", "high")},
            "over_target": {key: getattr(one.missed, key) for key in ("low", "middle", "high")},
            "coverage": one.latency_s.coverage,
            "utilisation": one.utilisation,
            "holds": one.holds,
        }

    return {
        "simulated": True,
        "target_ms": 1e3 * found.target_s,
        "percentile": found.percentile,
        "best": told(found.best),
        "confirmed": told(confirmed),
        "options": [told(one) for one in found.options],
    }
