"""`kis plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from testbed.calibration.profile import ServiceProfile
from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, counted, print_path, table
from testbed.cli.flags import Given, Short, configured, flags
from testbed.config import TrafficConfig
from testbed.pipeline.capacity_config import PlanConfig
from testbed.pipeline.traffic import make_schedule
from workloads.catalog import ServiceConfig
from workloads.files import write_json

if TYPE_CHECKING:
    from loadgen.schedule import Schedule
    from testbed.pipeline.capacity import CapacityPlan, Option

CAPTION = "simulated; 90 % intervals for one run"
CONFIRMING_SEED, CONFIRMING_DRAWS = 1, 20  # other draws than the search's


DELAYS = Short("--queue-delay-ms", "queue_delay_s", "To try; may be repeated.", options.seconds)
GRID = ("max_replicas", "instances", "max_batch_size", DELAYS)


@flags(
    PlanConfig,
    usual=["profile", "target_ms", "percentile", *GRID, *options.TRAFFIC, "traffic.speed_up", "traffic.seed"],
)
def plan(given: Given, config: options.ConfigFile = None, out: options.Out = None) -> None:
    """The fewest replicas with each setting, and the best of them confirmed with other draws."""
    settings = configured(PlanConfig, config, given)
    known, traffic = ServiceProfile.read(settings.profile), settings.traffic
    schedule = make_schedule(traffic, known.model)

    def arrivals(run_seed: int) -> Schedule:
        if traffic.trace is not None:
            return schedule
        return make_schedule(traffic.model_copy(update={"seed": run_seed}), known.model)

    with ConsoleReporter() as reporter:
        rate = f"{len(schedule):,} requests, {schedule.rate_rps:,.0f}/s"
        reporter.phase(f"{_source(traffic)} to {known.model}: {rate}")
        from testbed.pipeline.capacity import plan_capacity, predict

        plan = plan_capacity(
            known,
            arrivals,
            settings.target_ms / 1e3,
            settings,
            percentile=settings.percentile,
            on_progress=reporter.progress,
        )
        confirmed = None
        if plan.best is not None:
            best, percentile = plan.best.service, plan.percentile
            reporter.phase(f"confirm {best.label} with other draws")
            again = {"draws": CONFIRMING_DRAWS, "seed": CONFIRMING_SEED}
            confirmed = predict(known, arrivals, best, plan.target_s, percentile=percentile, **again)
    folder = options.out_folder(out, f"plan-{known.model}")
    _write(plan, confirmed, folder)
    console.print(_table(plan))
    console.print(_verdict(plan, confirmed, known), highlight=False)
    print_path(console, folder / "plan.png")
    if plan.best is None:
        raise typer.Exit(1)


def _source(traffic: TrafficConfig) -> str:
    """`bursty, spike=200`: also where nobody has said anything of traffic."""
    given = [f"{name}={value}" for name, value in traffic.parameters.items()]
    return str(traffic.trace) if traffic.trace is not None else ", ".join([str(traffic.pattern), *given])


def _write(plan: CapacityPlan, confirmed: Option | None, folder: Path) -> None:
    """plan.json and plan.png."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "plan.json", _as_json(plan, confirmed))
    from testbed.pipeline.capacity import by_setting
    from testbed.reporting.drawing import save_png
    from testbed.reporting.figures.plan import plan as plan_figure

    points = {
        name: [(option.service.replicas, *_in_ms(option)) for option in group]
        for name, group in by_setting(plan.options).items()
    }
    save_png(plan_figure(points, 1e3 * plan.target_s, plan.percentile), folder / "plan.png")


def _verdict(plan: CapacityPlan, confirmed: Option | None, known: ServiceProfile) -> str:
    goal = f"P{plan.percentile:g} <= {1e3 * plan.target_s:g} ms"
    if confirmed is None:
        least = min(plan.options, key=lambda option: option.latency_s.middle)
        most, lone_s = max(option.service.replicas for option in plan.options), _lone_s(known)
        advice = (
            f"A request alone takes about {1e3 * lone_s:.1f} ms: no number of replicas holds it."
            if lone_s >= plan.target_s
            else "Allow more replicas, or another target."
        )
        return (
            f"Nothing up to {counted(most, 'replica')} holds {goal}: the least is {_ms(least)} ms, with "
            f"{_in_words(least.service)}. {advice}"
        )
    checked = f"P{plan.percentile:g} {_ms(confirmed)} ms, checked on other arrivals (simulated)"
    if confirmed.holds:
        return f"Use {_in_words(confirmed.service)}: {checked}."
    return f"Do not rely on {_in_words(confirmed.service)}: it holds {goal} in the search, but has {checked}."


def _lone_s(known: ServiceProfile) -> float:
    """Of a request that waits for no other: the way in, a batch of one, the way out."""
    level = known.overhead.levels[0]
    ways = (level.ingress_delay_quantiles_s, level.egress_delay_quantiles_s)
    return known.service_time.mean_s[0] + sum(quantiles[len(quantiles) // 2] for quantiles in ways)


def _in_words(service: ServiceConfig) -> str:
    """`2 replicas (1 instance each, batches of at most 8, no queue delay)`."""

    each = " each" if service.replicas > 1 else ""
    rules = service.dynamic_batching
    if rules is None:
        batches = "no batches"
    else:
        delay = f"{1e3 * rules.max_queue_delay_s:g} ms queue delay" if rules.max_queue_delay_s else "no queue delay"
        batches = f"batches of at most {service.max_batch_size}, {delay}"
    return f"{counted(service.replicas, 'replica')} ({counted(service.instances, 'instance')}{each}, {batches})"


def _table(plan: CapacityPlan) -> Table:
    from testbed.pipeline.capacity import by_setting

    quantile = f"P{plan.percentile:g} ms"
    rows = table("instances\nbatch, delay", "replicas", quantile, "over target %", "busy %", "holds", caption=CAPTION)
    for group in by_setting(plan.options).values():
        for option in group:
            low, middle, high = (100 * share for share in option.slo_violation_rate[:3])
            rows.add_row(
                _setting(option.service),
                str(option.service.replicas),
                _ms(option).replace(" (", "\n("),
                f"{middle:.1f}\n({low:.1f} to {high:.1f})",
                f"{100 * option.utilisation:.0f}",
                "yes" if option.holds else "no",
                style="bold" if option is plan.best else None,
            )
    return rows


def _setting(service: ServiceConfig) -> str:
    """`1 instance` above `up to 8, 0 ms`."""
    delay_s = 0.0 if service.dynamic_batching is None else service.dynamic_batching.max_queue_delay_s
    return f"{counted(service.instances, 'instance')}\nup to {service.max_batch_size}, {1e3 * delay_s:g} ms"


def _in_ms(option: Option) -> tuple[float, float, float]:
    low, middle, high = (1e3 * limit for limit in option.latency_s[:3])
    return low, middle, high


def _ms(option: Option) -> str:
    low, middle, high = _in_ms(option)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def _as_json(plan: CapacityPlan, confirmed: Option | None) -> dict[str, object]:
    def as_dict(option: Option | None) -> dict[str, object] | None:
        if option is None:
            return None
        return {
            "service": option.service.model_dump(),
            "latency_ms": {key: 1e3 * getattr(option.latency_s, key) for key in ("low", "middle", "high")},
            "slo_violation_rate": {key: getattr(option.slo_violation_rate, key) for key in ("low", "middle", "high")},
            "coverage": option.latency_s.coverage,
            "utilisation": option.utilisation,
            "holds": option.holds,
        }

    return {
        "simulated": True,
        "target_ms": 1e3 * plan.target_s,
        "percentile": plan.percentile,
        "best": as_dict(plan.best),
        "confirmed": as_dict(confirmed),
        "options": [as_dict(option) for option in plan.options],
    }
