"""The settings of one service that `kis tune-service` chooses among: which there are, and which are the best. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

from loadgen.schedule import Schedule
from testbed.errors import ConfigError
from testbed.pipeline.capacity import Option
from testbed.pipeline.service_tuning_config import TuneServiceConfig
from workloads.catalog import DynamicBatching, ServiceConfig


class Setting(NamedTuple):
    """One setting of one model, with the fewest replicas that hold the target (or the most that were tried).

    throughput_rps: that one replica serves within the target, of Poisson arrivals.
    """

    model: str
    option: Option
    throughput_rps: float
    measured: bool  # whether its number of instances was


def normal(service: ServiceConfig) -> ServiceConfig:
    """Of one replica; a server names the largest batch as the preferred one where none is."""
    rules = service.dynamic_batching
    if rules is not None and rules.preferred_batch_sizes == (service.max_batch_size,):
        rules = rules.model_copy(update={"preferred_batch_sizes": ()})
    return service.model_copy(update={"replicas": 1, "dynamic_batching": rules})


def grid(config: TuneServiceConfig, own: ServiceConfig, *, batched: bool) -> list[ServiceConfig]:
    """All settings of one model, without replicas. own: what it has, whose queue policy stays.

    batched: requests have a batch dimension; without one there are no batches to choose.
    """
    if not batched:
        return [own.model_copy(update={"instances": instances}) for instances in config.instances]
    sizes = config.max_batch_size or tuple(
        sorted({*(2**k for k in range(own.max_batch_size.bit_length())), own.max_batch_size})
    )
    if max(sizes) > own.max_batch_size:
        raise ConfigError(
            f"max_batch_size {max(sizes)} is above what the model is made for, {own.max_batch_size}: leave it out"
        )
    settings = []
    for instances, size, delay_s, preferred in product(
        config.instances, sizes, config.queue_delay_s, config.preferred_batch_sizes
    ):
        rules = (own.dynamic_batching or DynamicBatching()).model_copy(
            update={
                "max_queue_delay_s": delay_s,
                "preferred_batch_sizes": tuple(one for one in preferred if one < size),
            }
        )
        setting = {"instances": instances, "max_batch_size": size, "dynamic_batching": rules}
        settings.append(own.model_copy(update=setting))
    return list(dict.fromkeys(settings))


def best(settings: Sequence[Setting], config: TuneServiceConfig) -> list[Setting]:
    """Those that hold: fewest replicas, then the most that one serves within the target, then the lowest latency."""
    holding = [setting for setting in settings if setting.option.holds]
    ordered = sorted(
        holding,
        key=lambda one: (one.option.service.replicas, -round(one.throughput_rps, 1), one.option.latency_s.middle),
    )
    different, seen = [], set()
    for one in ordered:  # settings of which the simulator says the same to the digit are one
        figures = (one.model, one.option.service.instances, one.throughput_rps, one.option.latency_s)
        if figures not in seen:
            different.append(one)
        seen.add(figures)
    return different[: config.picks]


def front(settings: Sequence[Setting]) -> list[Setting]:
    """Those to which no other is better in both, throughput within the target and latency under the traffic."""
    ordered = sorted(settings, key=lambda one: (-one.throughput_rps, one.option.latency_s.middle))
    kept: list[Setting] = []
    for one in ordered:
        if not kept or one.option.latency_s.middle < kept[-1].option.latency_s.middle:
            kept.append(one)
    return kept


def one_replicas_share(schedule: Schedule, replicas: int) -> Schedule:
    """What one of so many replicas gets when requests go to each in turn."""
    mine = schedule.taken(slice(None, None, replicas), schedule.duration_s)
    return replace(mine, provenance={**schedule.provenance, "one_of_replicas": replicas})


def nearest(measured: Collection[int], instances: int) -> int:
    """The measured number of instances that is the fewest factors away."""
    return min(measured, key=lambda number: abs(math.log(number / instances)))
