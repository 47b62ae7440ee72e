"""`kis plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from testbed.calibration.profile import ServiceProfile
from testbed.cli import options
from testbed.cli.console import ConsoleReporter, console, print_path
from testbed.cli.flags import Given, Short, configured, flags
from testbed.pipeline.capacity_config import PlanConfig
from testbed.pipeline.traffic import make_schedule
from workloads.catalog import ServiceConfig
from workloads.files import write_json

if TYPE_CHECKING:
    from loadgen.schedule import Schedule
    from testbed.pipeline.capacity import CapacityPlan, Option

CONFIRMING_SEED, CONFIRMING_DRAWS = 1, 20  # other draws than the search's


DELAYS = Short("--queue-delay-ms", "queue_delay_s", "To try; may be repeated.", options.seconds)
GRID = ("max_replicas", "instances", "max_batch_size", DELAYS)


@flags(
    PlanConfig,
    usual=["profile", "target_ms", "percentile", *GRID, *options.TRAFFIC, "traffic.speed_up", "traffic.seed"],
)
def plan(given: Given, config: options.ConfigFile = None, out: options.Out = None) -> None:
    """The fewest replicas with each setting, and the best of them confirmed with other draws.

    Example: [bold]kis plan --profile results/x/profile-resnet50.json --trace trace.csv --target-ms 100[/bold]
    """
    settings = configured(PlanConfig, config, given)
    known, traffic = ServiceProfile.read(settings.profile), settings.traffic
    schedule = make_schedule(traffic, known.model)

    def arrivals(run_seed: int) -> Schedule:
        if traffic.trace is not None:
            return schedule
        return make_schedule(traffic.model_copy(update={"seed": run_seed}), known.model)

    with ConsoleReporter() as reporter:
        reporter.phase(f"{len(schedule)} requests of {known.model}, {schedule.rate_rps:.1f}/s on average: search")
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
    console.print(_verdict(plan, confirmed, settings.max_replicas))
    print_path(console, folder / "plan.png")


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


def _verdict(plan: CapacityPlan, confirmed: Option | None, max_replicas: int) -> str:
    goal = f"P{plan.percentile:g} <= {1e3 * plan.target_s:g} ms"
    if confirmed is None:
        least = min(plan.options, key=lambda option: option.latency_s.middle)
        return (
            f"Nothing up to {max_replicas} replicas holds {goal}: the least is {_ms(least)} ms, with "
            f"{_in_words(least.service)}. Allow more replicas if it is far fewer than those, or another target."
        )
    checked = f"P{plan.percentile:g} {_ms(confirmed)} ms, checked on other arrivals (simulated)"
    if confirmed.holds:
        return f"Use {_in_words(confirmed.service)}: {checked}."
    return f"Do not rely on {_in_words(confirmed.service)}: it holds {goal} in the search, but has {checked}."


def _in_words(service: ServiceConfig) -> str:
    """`2 replicas (1 instance each, batches of at most 8, no queue delay)`."""

    def counted(number: int, what: str) -> str:
        return f"{number} {what}{'' if number == 1 else 's'}"

    each = " each" if service.replicas > 1 else ""
    rules = service.dynamic_batching
    if rules is None:
        batches = "no batches"
    else:
        delay = f"{1e3 * rules.max_queue_delay_s:g} ms queue delay" if rules.max_queue_delay_s else "no queue delay"
        batches = f"batches of at most {service.max_batch_size}, {delay}"
    return f"{counted(service.replicas, 'replica')} ({counted(service.instances, 'instance')}{each}, {batches})"


def _table(plan: CapacityPlan) -> Table:
    title = f"P{plan.percentile:g} <= {1e3 * plan.target_s:g} ms (simulated; 90 % intervals for one run)"
    table = Table(title=title, title_justify="left")
    for column in ("service", "replicas", f"P{plan.percentile:g} ms", "over target", "utilisation", "holds"):
        table.add_column(column, justify="left" if column == "service" else "right")
    from testbed.pipeline.capacity import by_setting

    for name, group in by_setting(plan.options).items():
        for option in group:
            table.add_row(
                name,
                str(option.service.replicas),
                _ms(option),
                "{1:.1%} ({0:.1%} to {2:.1%})".format(*option.slo_violation_rate),
                f"{option.utilisation:.2f}",
                "yes" if option.holds else "no",
                style="bold" if option is plan.best else None,
            )
    return table


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
