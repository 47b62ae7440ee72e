"""The scenarios that a policy learns in: each episode draws a cluster, a service and traffic of its own.

A policy that has seen one scenario only knows its numbers by heart. Here service times, start-ups, patterns and the age
of metrics differ from episode to episode, within ranges that are given; what a policy is given is measured in the drawn
service's own scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from loadgen.patterns import Pattern, families
from testbed.autoscaling.features import FeatureScale
from testbed.calibration.another_run import another_run, shifted
from testbed.calibration.profile import ServiceProfile
from testbed.kiscaler.train_config import Ranges
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import PatternTraffic
from workloads.errors import KisError


@dataclass(frozen=True)
class Scenario:
    """One scenario. scale: in what its features are measured; pattern: of the traffic."""

    sim: KISim
    model: str
    scale: FeatureScale
    pattern: Pattern


@dataclass(frozen=True)
class TrainedService:
    """A cluster's only model, with its profile.

    replica_capacity_rps: that one replica serves within the target, at the profile's own batch times (see `kis plan`).
    """

    cluster: ClusterConfig
    profiles: dict[str, ServiceProfile]  # by kind of device
    replica_capacity_rps: float


@dataclass(frozen=True)
class Scenarios:
    """Scenarios round one service (see TrainedService), or round one of several, which is drawn for each."""

    cluster: ClusterConfig
    profiles: dict[str, ServiceProfile]
    replica_capacity_rps: float
    ranges: Ranges = field(default_factory=Ranges)
    step_s: float = 5.0  # from one decision to the next
    others: tuple[TrainedService, ...] = ()

    def __post_init__(self) -> None:
        for service in self.services:
            if len(service.cluster.models) != 1:
                raise KisError(f"scenarios have one model, this cluster has {len(service.cluster.models)}")
        relative = self.ranges.load_factor is not None
        if relative and any(service.cluster.models[0].pod.load_s is None for service in self.services):
            raise KisError("ranges of scenarios: load_factor is of pod.load_s: give each cluster's model one")

    @property
    def services(self) -> tuple[TrainedService, ...]:
        """One or several."""
        return (TrainedService(self.cluster, self.profiles, self.replica_capacity_rps), *self.others)

    def draw(self, seed: int) -> Scenario:
        """The same scenario for the same seed."""
        rng = np.random.default_rng(seed)
        service = self.services[int(rng.integers(1 + len(self.others))) if self.others else 0]
        ranges, served = self.ranges, service.cluster.models[0]
        slo_penalty = float(np.exp(rng.uniform(*np.log(ranges.slo_penalty))))
        slowness, load_s, metrics_delay_s = (
            float(rng.uniform(*bounds)) for bounds in (ranges.service, ranges.load_s, ranges.metrics_delay_s)
        )
        if ranges.load_factor is not None:
            assert served.pod.load_s is not None
            load_s = served.pod.load_s * float(rng.uniform(*ranges.load_factor))
        pods = served.pod.model_copy(update={"load_s": load_s})
        delay_s = pods.provisioning_delay_s(load_s)
        replica_capacity_rps = service.replica_capacity_rps / slowness
        pattern = self._pattern(rng, replica_capacity_rps * served.max_replicas, delay_s)
        first = float(pattern.rate_rps(np.zeros(1))[0])
        replicas = int(np.clip(np.ceil(first / replica_capacity_rps), 1, served.max_replicas))
        served = served.model_copy(update={"pod": pods, "replicas": replicas})
        config = service.cluster.model_copy(update={"models": (served,)})
        services = [
            make_service(0, served, kind, shifted(another_run(profile, rng), {"service": float(np.log(slowness))}))
            for kind, profile in service.profiles.items()
        ]
        traffic = PatternTraffic((pattern,), int(rng.integers(2**31)))
        sim = KISim(config, services, traffic, seed=int(rng.integers(2**31)))
        step_s = self.step_s if ranges.step is None else delay_s * float(rng.uniform(*ranges.step))
        scale = FeatureScale(
            replica_capacity_rps=replica_capacity_rps,
            latency_target_s=served.latency_target_s,
            max_replicas=served.max_replicas,
            provisioning_delay_s=delay_s,
            step_s=step_s,
            slo_penalty=slo_penalty,
            metrics_delay_s=metrics_delay_s,
        )
        return Scenario(sim, served.name, scale, pattern)

    def _pattern(self, rng: np.random.Generator, most_rps: float, delay_s: float) -> Pattern:
        """One of the families, between a low and a peak rate."""
        ranges = self.ranges
        peak = float(rng.uniform(*ranges.peak_load)) * most_rps
        low = peak * float(rng.uniform(*ranges.low_share))
        period_s = float(rng.uniform(*ranges.period_s))
        if ranges.period is not None:
            period_s = delay_s * float(np.exp(rng.uniform(*np.log(ranges.period))))
        family = ranges.families[int(rng.integers(len(ranges.families)))]
        return families()[family].drawn(family, low, peak, period_s, rng)
