"""`kis plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table

from testbed.calibration.profile import ServiceProfile
from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path, table
from testbed.cli.flags import Given, Short, configured, flags
from testbed.cli.out import out_folder
from testbed.config import TrafficConfig
from testbed.errors import ConfigError
from testbed.pipeline.capacity_config import PlanConfig
from testbed.pipeline.traffic import length_notes, make_schedule
from testbed.study import refuse_others
from workloads.files import write_json

if TYPE_CHECKING:
    from loadgen.schedule import Schedule
    from testbed.pipeline.capacity import CapacityPlan, Option
    from testbed.reporting.plan import Plan

DRAWS, CONFIRMING_SEED = 20, 1  # of runs, and other ones than the search's


DELAYS = Short("--queue-delay-ms", "queue_delay_s", "To try; may be repeated.", options.seconds)
GRID = ("max_replicas", "instances", "max_batch_size", DELAYS)


@flags(
    PlanConfig,
    usual=[
        "profile",
        "target_ms",
        "percentile",
        *GRID,
        *options.TRAFFIC,
        options.BATCH,
        "traffic.speed_up",
        "traffic.seed",
    ],
)
def plan(given: Given, config: options.ConfigFile = None, out: options.Out = None) -> None:
    """The fewest replicas with each setting, and the best of them confirmed with other draws."""
    settings = configured(PlanConfig, config, given)
    known, traffic = ServiceProfile.read(settings.profile), settings.traffic
    gpus = _gpus(settings, known)
    schedule = make_schedule(traffic, known.model)
    folder = out_folder(out, "plan", f"plan-{known.model}")
    if (folder / "plan.json").exists():
        from testbed.reporting.reports.plan import read_plan

        refuse_others(settings, read_plan(folder)["config"], folder / "plan.json")

    def arrivals(run_seed: int) -> Schedule:
        if traffic.trace is not None:
            return schedule
        return make_schedule(traffic.model_copy(update={"seed": run_seed}), known.model)

    with ConsoleReporter() as reporter:
        rate = f"{len(schedule):,} requests, {schedule.rate_rps:,.0f}/s"
        reporter.phase(f"{_source(traffic)} to {known.model}: {rate}")
        reporter.notes(length_notes({"": traffic}))
        from testbed.pipeline.capacity import cheapest, plan_capacity, predict, priced
        from testbed.reporting.plan import beside_the_table, other_draws, sentence, service_text

        plans = []
        for done, (gpu, (profile, price)) in enumerate(gpus.items()):
            made = plan_capacity(
                profile,
                arrivals,
                settings.target_ms / 1e3,
                settings,
                percentile=settings.percentile,
                draws=DRAWS,
                on_progress=lambda share, done=done: reporter.progress((done + share) / len(gpus)),  # type: ignore[misc]
            )
            plans.append(made if price is None else priced(made, gpu, price))
        plan = cheapest(plans)
        confirmed = None
        if plan.best is not None:
            best, percentile = plan.best.service, plan.percentile
            profile = gpus[plan.best.gpu][0] if plan.best.gpu else known
            reporter.phase(f"confirm {service_text(best)} with {other_draws(traffic.trace)}")
            confirmed = predict(
                profile, arrivals, best, plan.target_s, percentile=percentile, draws=DRAWS, seed=CONFIRMING_SEED
            )._replace(gpu=plan.best.gpu, cost_per_hour=plan.best.cost_per_hour)
    from testbed.reporting.reports import write_report

    folder.mkdir(parents=True, exist_ok=True)
    lone_ms = 1e3 * min(_lone_s(profile) for profile, _ in gpus.values())
    told = {**_told(known, settings, schedule), "lone_ms": lone_ms, **_as_json(plan, confirmed)}
    write_json(folder / "plan.json", told)
    console.print(_table(told))
    for line in filter(None, (sentence(told), beside_the_table(told))):
        console.print(line, highlight=False, markup=False)
    print_path(console, write_report(folder))
    if plan.best is None:
        raise typer.Exit(1)


def _gpus(settings: PlanConfig, known: ServiceProfile) -> dict[str, tuple[ServiceProfile, float | None]]:
    """Profile and price of each kind of GPU, by name; ConfigError: a profile is of another model."""
    gpus: dict[str, tuple[ServiceProfile, float | None]] = {known.device.name: (known, settings.price_per_gpu_hour)}
    for name, other in settings.other_gpus.items():
        profile = ServiceProfile.read(other.profile)
        if profile.model != known.model:
            raise ConfigError(f"other_gpus: {name}: its profile is of {profile.model}, the plan is for {known.model}")
        if name in gpus:
            raise ConfigError(f"other_gpus: {name} is the name of the profile's own GPU: give another")
        gpus[name] = (profile, other.price_per_gpu_hour)
    return gpus


def _source(traffic: TrafficConfig) -> str:
    """`bursty, spike=200`: also where nobody has said anything of traffic."""
    given = [f"{name}={value}" for name, value in traffic.parameters.items()]
    return str(traffic.trace) if traffic.trace is not None else ", ".join([str(traffic.pattern), *given])


def _told(known: ServiceProfile, settings: PlanConfig, schedule: Schedule) -> dict[str, object]:
    """What a plan was made of."""
    return {
        "model": known.model,
        "device": known.device.model_dump(),
        "config": settings.model_dump(mode="json"),
        "parameters": schedule.provenance.get("parameters", {}),  # of the pattern, with its defaults
        "requests": len(schedule),
        "rate_rps": schedule.rate_rps,
        "peak_rps": schedule.peak_rps(1.0),
        "draws": DRAWS,
        "confirmed_draws": DRAWS,
    }


def _lone_s(known: ServiceProfile) -> float:
    """Of a request that waits for no other: the way in, a batch of one, the way out."""
    level = known.overhead.levels[0]
    ways = (level.ingress_delay_quantiles_s, level.egress_delay_quantiles_s)
    return known.service_time.mean_s[0] + sum(quantiles[len(quantiles) // 2] for quantiles in ways)


def _table(plan: Plan) -> Table:
    from testbed.reporting.plan import goal_text, settings_of

    currency = plan["config"].get("currency")
    replicas = f"replicas\n{currency}/hour" if currency else "replicas"
    headings = (replicas, f"P{plan['percentile']:g} ms", "over\ntarget %", "busy\n%", "holds")
    caption = f"{goal_text(plan)}; simulated, beneath 90 % intervals for one run"
    rows = table("setting", *headings, caption=caption)
    for setting in settings_of(plan):
        name = setting.name.replace(", ", "\n")
        for option in setting.options:
            missed = {end: 100 * share for end, share in option["slo_violation_rate"].items()}
            count = option["service"]["replicas"]
            rows.add_row(
                name,
                f"{count}\n{option['cost_per_hour']:,.2f}" if currency else str(count),
                "{middle:.1f}\n{low:.1f} to {high:.1f}".format(**option["latency_ms"]),
                "{middle:.1f}\n{low:.1f} to {high:.1f}".format(**missed),
                f"{100 * option['utilisation']:.0f}",
                "yes" if option["holds"] else "no",
                style="bold" if count == setting.recommended else None,
            )
    return rows


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
            **({} if option.cost_per_hour is None else {"gpu": option.gpu, "cost_per_hour": option.cost_per_hour}),
        }

    return {
        "simulated": True,
        "target_ms": 1e3 * plan.target_s,
        "percentile": plan.percentile,
        "best": as_dict(plan.best),
        "confirmed": as_dict(confirmed),
        "options": [as_dict(option) for option in plan.options],
    }
