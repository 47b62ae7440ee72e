"""Profiles -> the event loop's tables: one service row for each model on each kind of device that it may run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from testbed.calibration.another_run import another_run
from testbed.calibration.profile import DeviceUse, OverheadLevel, ServiceProfile
from testbed.config_file import build
from testbed.simulation.cluster.config import ClusterConfig, ServedModel
from testbed.simulation.rules import BatchingRules
from testbed.simulation.state import Sim
from testbed.simulation.tables import empty_sim
from workloads.catalog import ServiceConfig
from workloads.errors import KisError

GIB = float(2**30)


@dataclass(frozen=True)
class SimulatedService:
    """A model on one kind of device."""

    model: int
    kind: str
    profile: ServiceProfile
    config: ServiceConfig
    memory_bytes: float  # of its device, that one replica takes; NaN: not known

    @property
    def device_use(self) -> DeviceUse | None:
        """What batches take of the device; None: the profile does not tell, or only of the longest requests."""
        return None if self.config.length_buckets else self.profile.device_use

    @property
    def network_s(self) -> tuple[float, ...] | None:
        """What networks take of the device, by batch size; None: see device_use."""
        return None if self.device_use is None else self.device_use.network_s

    def levels(self, replicas: int) -> tuple[OverheadLevel, ...]:
        """Overhead while so many replicas run on the node."""
        return self.profile.overhead.levels_for(replicas, self.config.instances)


def read_services(config: ClusterConfig) -> tuple[SimulatedService, ...]:
    """Every profile that the configuration names, checked against what is asked of it."""
    services = []
    for m, model in enumerate(config.models):
        for kind, file in model.profiles.items():
            services.append(make_service(m, model, kind, ServiceProfile.read(file)))
    return tuple(services)


def other_runs(services: Sequence[SimulatedService], rng: np.random.Generator) -> list[SimulatedService]:
    """The services as the next run might find them (calibration.another_run)."""
    return [replace(service, profile=another_run(service.profile, rng)) for service in services]


def served_by(profile: ServiceProfile, kind: str, service: ServiceConfig, **more: Any) -> ServedModel:
    """The deployment of a service whose profile is here already, on one kind of device. more: other keys of it;
    ConfigError if one is wrong."""
    settings = {
        "name": profile.model,
        "profiles": {kind: Path(kind)},  # nobody reads it
        "instances": service.instances,
        "max_batch_size": service.max_batch_size,
        "dynamic_batching": service.dynamic_batching,
        "length_buckets": service.length_buckets,
        **more,
    }
    return build(ServedModel, settings, profile.model)


def make_service(m: int, model: ServedModel, kind: str, profile: ServiceProfile) -> SimulatedService:
    """KisError if the model is to be served with larger batches than the profile knows."""
    config = ServiceConfig(
        instances=model.instances,
        max_batch_size=model.max_batch_size,
        dynamic_batching=model.dynamic_batching,
        length_buckets=model.length_buckets,
    )
    if model.length_buckets:
        profile.service_time.padded_mean_s(model.length_buckets)  # for its error
    largest = model.max_batch_size if model.dynamic_batching is not None else 1
    if largest > len(profile.service_time.mean_s):
        raise KisError(
            f"model '{model.name}': max_batch_size {largest} is beyond its profile for {kind} "
            f"(1..{len(profile.service_time.mean_s)}): calibrate with that batch size, or simulate a smaller one"
        )
    return SimulatedService(m, kind, profile, config, _memory_bytes(model, profile))


def _memory_bytes(model: ServedModel, profile: ServiceProfile) -> float:
    if model.gpu_memory_gib is not None:
        return model.gpu_memory_gib * GIB
    known = profile.device_memory
    return float("nan") if known is None else known.server_bytes + model.instances * known.instance_bytes


class Tables:
    """The tables of all services, and which of their rows holds for a replica."""

    def __init__(self, services: Sequence[SimulatedService], most_on_a_node: int) -> None:
        self.services = services
        self._row_of: dict[tuple[int, int], int] = {}  # service, replicas on the node -> row of levels
        rows: list[tuple[SimulatedService, tuple[OverheadLevel, ...]]] = []
        for number, service in enumerate(services):
            known: dict[tuple[int, int], int] = {}
            for replicas in range(1, most_on_a_node + 1):
                levels = service.levels(replicas)
                kind = (levels[0].replicas, levels[0].instances)
                if kind not in known:
                    known[kind] = len(rows)
                    rows.append((service, levels))
                self._row_of[number, replicas] = known[kind]
        self._rows = rows
        windows = {service.profile.overhead.window_s for service in services}
        self.window_ns = round(max(windows) * 1e9)

    def levels_row(self, service: int, replicas_on_node: int) -> int:
        """Row of the overhead's levels."""
        return self._row_of[service, replicas_on_node]

    def empty_sim(self, replicas: int, places: int) -> Sim:
        """A Sim with these tables, and nothing going on."""
        rules = [
            BatchingRules.of(
                service.config, inter_batch_gap_ns=0, timer_slack_ns=round((service.profile.timer_slack_s or 0.0) * 1e9)
            )
            for service in self.services
        ]
        sim = empty_sim(rules, replicas, max(service.config.instances for service in self.services), places)
        buckets = max(1, *(len(service.config.length_buckets) for service in self.services))
        service_ns = np.zeros((len(self.services), buckets, sim.preferred_upto.shape[1]))
        quantiles = max(len(service.profile.service_time.noise_quantiles) for service in self.services)
        noise = np.ones((len(self.services), quantiles))
        contention = np.zeros((len(self.services), 4))
        knots = max(1, *(len(service.profile.service_time.after_idle_s) for service in self.services))
        after_idle_ns = np.zeros((len(self.services), knots))
        network_ns, batch_j = (np.zeros_like(service_ns[:, 0]) for _ in range(2))
        for row, service in enumerate(self.services):
            mean_s = np.array(service.profile.service_time.mean_s)[: service.config.max_batch_size]
            if service.config.length_buckets:
                padded_s = np.array(service.profile.service_time.padded_mean_s(service.config.length_buckets))
                service_ns[row, : len(padded_s), 1 : len(mean_s) + 1] = padded_s[:, : len(mean_s)] * 1e9
            else:
                service_ns[row, :, 1 : len(mean_s) + 1] = mean_s * 1e9
            if service.network_s is not None:
                network_ns[row, 1 : len(mean_s) + 1] = np.array(service.network_s)[: len(mean_s)] * 1e9
            use = service.device_use
            if use is not None and use.batch_j is not None and use.request_j is not None:
                batch_j[row, 1 : len(mean_s) + 1] = use.batch_j + use.request_j * np.arange(1, len(mean_s) + 1)
            after_idle_ns[row, : len(service.profile.service_time.after_idle_s)] = (
                service.profile.service_time.after_idle_s
            )
            noise[row] = resampled(service.profile.service_time.noise_quantiles, quantiles)
            known = service.profile.ranges.get("rate_rps", (0.0, np.inf))
            slope = service.profile.contention.seconds_per_rps
            contention[row] = (slope * 1e9, service.profile.contention.base_rps, *known)
        return sim._replace(
            service_ns=service_ns,
            after_idle_ns=after_idle_ns * 1e9,
            network_ns=network_ns,
            batch_j=batch_j,
            noise_table=noise,
            contention=contention,
            **self._level_arrays(quantiles),
        )

    def _level_arrays(self, quantiles: int) -> dict[str, np.ndarray]:
        most = max(len(levels) for _, levels in self._rows)
        rates = np.zeros((len(self._rows), most))
        tables = np.zeros((len(self._rows), most, 3, quantiles))
        for row, (service, levels) in enumerate(self._rows):
            constant = (service.profile.inter_batch_gap_s,) * 2
            for k, level in enumerate(levels):
                rates[row, k] = level.rate_rps
                of_level = (
                    level.ingress_delay_quantiles_s,
                    level.egress_delay_quantiles_s,
                    level.inter_batch_gap_quantiles_s or constant,
                )
                for table, values in enumerate(of_level):
                    tables[row, k, table] = resampled(values, quantiles) * 1e9
        counts = np.array([len(levels) for _, levels in self._rows], dtype=np.int64)
        return {"levels": counts, "level_rates": rates, "level_tables": tables}


def resampled(table: Sequence[float], quantiles: int) -> np.ndarray:
    """A quantile function at another number of evenly spaced probabilities."""
    return np.interp(np.linspace(0, 1, quantiles), np.linspace(0, 1, len(table)), table)


class Power(NamedTuple):
    """Watts of an idle device, and what it takes more while it is busy; None: each batch's energy is known instead."""

    idle_w: float
    busy_w: float | None


def power_of(kind: str, config: ClusterConfig, services: Sequence[SimulatedService]) -> Power:
    """Of a kind of device: as given; else by the energy of batches, where all profiles have it; else a line through
    the profiles' loads, over utilisation; NaN if nobody knows."""
    given = config.gpu_kinds[kind].power_w if kind in config.gpu_kinds else None
    if given is not None:
        return Power(given[0], given[1] - given[0])
    here = [service for service in services if service.kind == kind]
    uses = [service.device_use for service in here]
    idle_w = [use.idle_w for use in uses if use is not None and use.idle_w is not None]
    if here and len(idle_w) == len(here):
        return Power(max(idle_w), None)
    points = [
        (share, point.power_w)
        for service in here
        for point in service.profile.load
        # What a device's utilisation is taken for: see Accounting.device_active_ns.
        for share in [point.utilisation if service.network_s is None else point.device_utilisation]
        if share is not None and point.power_w is not None
    ]
    if len({utilisation for utilisation, _ in points}) < 2:
        return Power(float("nan"), float("nan"))
    slope, idle = np.polyfit([share for share, _ in points], [watts for _, watts in points], 1)
    return Power(float(idle), float(slope))
