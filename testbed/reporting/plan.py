"""What a plan (plan.json of `kis plan`) says: its options setting by setting, and the sentence that answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from testbed.reporting.labels import counted, money
from workloads.catalog import ServiceConfig

Option = Mapping[str, Any]  # of plan.json: a service with a number of replicas, and what it is predicted to do
Plan = Mapping[str, Any]


class Setting(NamedTuple):
    """Options that differ in replicas only, ascending. sizes: largest batches that give the same figures.

    recommended: a number of replicas among the options; None: another setting is, or none. gpu: its kind; empty: there
    is only one.
    """

    sizes: tuple[int, ...]
    options: tuple[Option, ...]
    recommended: int | None
    gpu: str = ""

    @property
    def service(self) -> ServiceConfig:
        """With the fewest replicas."""
        return _service(self.options[0])

    @property
    def most(self) -> str:
        """`4 or 8`: the largest batches."""
        return " or ".join(map(str, self.sizes))

    @property
    def name(self) -> str:
        """In words, without the number of replicas."""
        return (f"{self.gpu}, " if self.gpu else "") + setting_text(self.service, self.most)


def settings_of(plan: Plan) -> list[Setting]:
    """In the order in which they were tried; batch sizes with the same figures are one setting."""
    by_size: dict[tuple[str, int, float], dict[int, list[Option]]] = {}
    for option in plan["options"]:
        service = _service(option)
        by_size.setdefault((option.get("gpu", ""), service.instances, _delay_s(service)), {}).setdefault(
            service.max_batch_size, []
        ).append(option)
    settings = []
    for sizes in by_size.values():
        alike: list[tuple[list[int], list[Option]]] = []
        for size, options in sizes.items():
            options.sort(key=lambda option: _service(option).replicas)
            same = next((known for known in alike if _figures(known[1]) == _figures(options)), None)
            if same is None:
                alike.append(([size], options))
            else:
                same[0].append(size)
        settings += [_setting(plan, merged, options) for merged, options in alike]
    return settings


def _setting(plan: Plan, sizes: list[int], options: list[Option]) -> Setting:
    service, best = _service(options[0]), plan["best"]
    recommended = None
    if best is not None:
        chosen = _service(best)
        if (best.get("gpu"), chosen.instances, _delay_s(chosen)) == (
            options[0].get("gpu"),
            service.instances,
            _delay_s(service),
        ) and chosen.max_batch_size in sizes:
            recommended = chosen.replicas
    several = bool(plan["config"].get("other_gpus"))
    return Setting(tuple(sizes), tuple(options), recommended, options[0].get("gpu", "") if several else "")


def _figures(options: list[Option]) -> list[tuple[Any, ...]]:
    return [
        (_service(one).replicas, one["latency_ms"], one["slo_violation_rate"], one["utilisation"]) for one in options
    ]


def _service(option: Option) -> ServiceConfig:
    return ServiceConfig.model_validate(option["service"])


def _delay_s(service: ServiceConfig) -> float:
    return service.dynamic_batching.max_queue_delay_s if service.dynamic_batching is not None else -1.0


def setting_text(service: ServiceConfig, most: str) -> str:
    """`1 instance each, batches of at most 4 or 8, no queue delay`."""
    instances = f"{counted(service.instances, 'instance')} each"
    rules = service.dynamic_batching
    if rules is None:
        return f"{instances}, no batches"
    delay = f"{1e3 * rules.max_queue_delay_s:g} ms queue delay" if rules.max_queue_delay_s else "no queue delay"
    return f"{instances}, batches of at most {most}, {delay}"


def service_text(service: ServiceConfig) -> str:
    """`2 replicas (1 instance each, batches of at most 8, no queue delay)`."""
    text = setting_text(service, str(service.max_batch_size))
    return f"{counted(service.replicas, 'replica')} ({text.replace(' each', '') if service.replicas == 1 else text})"


def latency_text(option: Option) -> str:
    """`10.4 (9.6 to 11.1)`, in ms."""
    return "{middle:.1f} ({low:.1f} to {high:.1f})".format(**option["latency_ms"])


def goal_text(plan: Plan) -> str:
    """`P95 <= 100 ms`."""
    return f"P{plan['percentile']:g} <= {plan['target_ms']:g} ms"


def sentence(plan: Plan) -> str:
    """What to use, or that nothing holds."""
    confirmed, goal = plan["confirmed"], goal_text(plan)
    if confirmed is None:
        least = min(plan["options"], key=lambda option: option["latency_ms"]["middle"])
        most = counted(max(_service(option).replicas for option in plan["options"]), "replica")
        advice = (
            f"A request alone takes about {plan['lone_ms']:.1f} ms: no number of replicas holds it."
            if plan["lone_ms"] >= plan["target_ms"]
            else "Allow more replicas, or another target."
        )
        return (
            f"Nothing up to {most} holds {goal}: the least is {latency_text(least)} ms, with "
            f"{service_text(_service(least))}. {advice}"
        )
    service = service_text(_service(confirmed))
    if plan["config"].get("other_gpus"):
        service += f" on {confirmed['gpu']}"
    if confirmed.get("cost_per_hour") is not None:
        service += f", {money(confirmed['cost_per_hour'], plan['config']['currency'])} an hour"
    other = other_draws(plan["config"]["traffic"]["trace"])
    checked = f"P{plan['percentile']:g} {latency_text(confirmed)} ms, checked on {other} (simulated)"
    if confirmed["holds"]:
        return f"Use {service}: {checked}."
    return f"Do not rely on {service}: it holds {goal} in the search, but has {checked}."


def other_draws(trace: Any) -> str:
    """What a plan is confirmed with: a trace has its own arrivals, and the service draws again."""
    return "other draws of the service" if trace is not None else "other arrivals"


def beside_the_table(plan: Plan) -> str:
    """Why the sentence has another figure than the table's row; empty: nothing was confirmed."""
    best, confirmed = plan["best"], plan["confirmed"]
    if best is None or confirmed is None:
        return ""
    other = other_draws(plan["config"]["traffic"]["trace"])
    named = f"P{plan['percentile']:g}"
    return (
        f"The table's {named} of it, {best['latency_ms']['middle']:.1f} ms, is of the search; the sentence's, "
        f"{confirmed['latency_ms']['middle']:.1f} ms, of {other}, which the search has not seen."
    )
