"""How many replicas, with which settings, hold a latency target on given traffic: searched in the simulator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.pipeline.capacity_config import PlanGrid
from testbed.simulation.intervals import PredictionInterval, interval, interval_of
from testbed.simulation.simulator import simulate
from workloads.catalog import DynamicBatching, ServiceConfig

Arrivals = Callable[[int], Schedule]  # seed -> arrivals: others of the same pattern, or always those of a trace


class Option(NamedTuple):
    """One setting with one number of replicas, and what it is predicted to do."""

    service: ServiceConfig
    latency_s: PredictionInterval  # the percentile that was asked for
    slo_violation_rate: PredictionInterval
    utilisation: float
    holds: bool  # even at the interval's upper end
    gpu: str = ""  # its kind, where several are compared
    cost_per_hour: float | None = None  # of all replicas; None: no price was given


class CapacityPlan(NamedTuple):
    """options: all that were simulated. best: least money where there are prices, then fewest replicas, then the lowest
    latency; None: nothing holds."""

    target_s: float
    percentile: float
    options: tuple[Option, ...]
    best: Option | None


def plan_capacity(
    profile: ServiceProfile,
    arrivals: Arrivals,
    target_s: float,
    grid: PlanGrid,
    *,
    percentile: float = 95,
    draws: int = 20,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> CapacityPlan:
    """For every setting of the grid, the fewest replicas whose latency percentile is at most target_s with confidence.

    The number of replicas is found by halving, so more of them are taken to be no slower.
    """
    rows = arrivals(seed).rows
    least = 1 if rows is None else int(rows.max(initial=1))
    half = max(1, profile.largest_batch // 2)
    sizes = grid.max_batch_size or tuple(
        sorted({half if half >= least else profile.largest_batch, profile.largest_batch})
    )
    settings = list(product(grid.instances, sizes, grid.queue_delay_s))
    most_looks = 1 + math.ceil(math.log2(grid.max_replicas))  # for each setting
    evaluated: list[Option] = []
    for number, (instances, size, delay_s) in enumerate(settings):
        service = ServiceConfig(
            instances=instances,
            max_batch_size=size,
            dynamic_batching=DynamicBatching(max_queue_delay_s=delay_s),
        )
        looks = fewest_replicas(
            profile,
            arrivals,
            service,
            target_s,
            grid.max_replicas,
            percentile=percentile,
            draws=draws,
            seed=seed,
        )
        for looked, found in enumerate(looks, start=1):
            evaluated.append(found)
            on_progress((number + looked / most_looks) / len(settings))
    return CapacityPlan(target_s, percentile, tuple(evaluated), _best(evaluated))


def priced(plan: CapacityPlan, gpu: str, price_per_gpu_hour: float) -> CapacityPlan:
    """The same plan with money: each replica has a GPU of that kind for itself."""
    options = [
        option._replace(gpu=gpu, cost_per_hour=option.service.replicas * price_per_gpu_hour) for option in plan.options
    ]
    return plan._replace(options=tuple(options), best=_best(options))


def cheapest(plans: Sequence[CapacityPlan]) -> CapacityPlan:
    """Plans of several kinds of GPU as one."""
    options = [option for plan in plans for option in plan.options]
    return plans[0]._replace(options=tuple(options), best=_best(options))


def _best(options: Sequence[Option]) -> Option | None:
    def rank(option: Option) -> tuple[float, int, float]:
        return option.cost_per_hour or 0.0, option.service.replicas, option.latency_s.high

    return min((option for option in options if option.holds), key=rank, default=None)


def fewest_replicas(
    profile: ServiceProfile,
    arrivals: Arrivals,
    service: ServiceConfig,
    target_s: float,
    most: int,
    *,
    percentile: float,
    draws: int,
    seed: int,
) -> Iterator[Option]:
    """All options looked at on the way to the fewest replicas of a setting that hold the target."""

    def option(replicas: int) -> Option:
        with_replicas = service.model_copy(update={"replicas": replicas})
        return predict(profile, arrivals, with_replicas, target_s, percentile=percentile, draws=draws, seed=seed)

    last = option(most)
    yield last
    low, high = (1, most) if last.holds else (most, most)
    while low < high:
        middle = (low + high) // 2
        last = option(middle)
        yield last
        low, high = (low, middle) if last.holds else (middle + 1, high)


def predict(
    profile: ServiceProfile,
    arrivals: Arrivals,
    service: ServiceConfig,
    target_s: float,
    *,
    percentile: float,
    draws: int,
    seed: int,
) -> Option:
    """Latency percentile and share of misses of one service on that traffic, each as an interval for the next run."""
    busy: list[float] = []
    shares: list[float] = []

    def one_run(drawn: ServiceProfile, run_seed: int) -> float:
        schedule = arrivals(run_seed)
        run = simulate(schedule, drawn, service, run_seed)
        latency_s = np.where(run.requests.ok, run.requests.latency_s, np.inf)
        shares.append(float(run.requests.missed(target_s).mean()))
        busy.append(run.batches.busy_s(schedule.duration_s) / schedule.duration_s)
        return float(np.quantile(latency_s, percentile / 100, method="higher"))

    latency = interval(profile, one_run, draws, seed)
    return Option(
        service=service,
        latency_s=latency,
        slo_violation_rate=interval_of(shares, latency.coverage),
        utilisation=float(np.mean(busy)) / (service.replicas * service.instances),
        holds=latency.high <= target_s,
    )
