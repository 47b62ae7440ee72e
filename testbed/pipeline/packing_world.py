"""Models that share GPUs, in the simulator: what each does there, and which cannot share one in the first place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from loadgen.schedule import Schedule
from testbed.calibration.another_run import another_run
from testbed.calibration.profile import ServiceProfile
from testbed.errors import ConfigError
from testbed.pipeline.packing_config import PackConfig, PackedModel, SharedGpu
from testbed.pipeline.packing_search import Group, throughput
from testbed.pipeline.traffic import make_schedule
from testbed.simulation.cluster.config import ClusterConfig, GpuKind, NodePool, ServedModel
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import GIB, make_service, served_by
from testbed.simulation.cluster.traffic import ScheduledTraffic
from testbed.simulation.intervals import PredictionInterval, interval_of
from testbed.simulation.load_curve import capacity_rps
from workloads.catalog import DynamicBatching, ServiceConfig

DRAWS = 20  # of runs that might come, for each group
SEARCHED, CONFIRMED = 0, 1  # of the seeds: what is recommended is simulated with other ones than the search
AT_ONCE_S = 10.0  # of simulated time, after the traffic's end, until it is asked again whether something still waits


class Law(NamedTuple):
    """What models that share a GPU do to each other: factor on a batch's time while 1, 2, ... of them are busy.

    most: models on a GPU for which it is known.
    """

    factors: tuple[float, ...]
    source: Literal["given", "measured", "assumed"]
    most: int


def law_of(gpu: SharedGpu, profiles: Sequence[ServiceProfile]) -> Law:
    """As given; else the larger of what was measured of each model beside itself, where it was of all; else that of the
    sharing mode, which nobody has measured. KisError: the mode has none."""
    if gpu.interference:
        return Law(gpu.interference, "given", min(gpu.shares, len(gpu.interference)))
    if all(len(profile.interference) > 1 for profile in profiles) and not gpu.kind.mode.own_memory:
        measured = tuple(map(max, zip(*(profile.interference for profile in profiles), strict=False)))
        return Law(measured, "measured", min(gpu.shares, len(measured)))
    return Law(gpu.kind.mode.factors(gpu.shares, ()), "assumed", gpu.shares)


class Held(NamedTuple):
    """A model's latency percentile and share of misses; holds: even at the upper end of the interval."""

    latency_s: PredictionInterval
    slo_violation_rate: PredictionInterval
    holds: bool


class Look(NamedTuple):
    """What a packing, or a part of one, does. held: by model; empty: it was refused before anything was simulated.

    utilisation: of each GPU, mean. reason: why its models may not share; None: they may.
    """

    held: Mapping[int, Held]
    utilisation: tuple[float, ...]
    reason: Literal["memory", "contention"] | None


@dataclass(frozen=True)
class Subject:
    """A model with all that simulating it takes. memory_gib: of one replica; None: not known."""

    config: PackedModel
    profile: ServiceProfile
    service: ServiceConfig
    memory_gib: float | None
    arrivals: Schedule  # of the seed that the file says; of a trace, those of every run

    @classmethod
    def of(cls, config: PackedModel, duration_s: float) -> Subject:
        """ConfigError: its profile is of no GPU, or its traffic is empty."""
        profile = ServiceProfile.read(config.profile)
        if profile.device.kind == "cpu":
            raise ConfigError(
                f"model '{config.name}': its profile is of a CPU ({profile.device.name}): calibrate it on the GPU"
            )
        service = ServiceConfig(
            instances=config.instances,
            max_batch_size=config.max_batch_size or profile.largest_batch,
            dynamic_batching=DynamicBatching(max_queue_delay_s=config.queue_delay_s),
        )
        arrivals = make_schedule(config.traffic.model_copy(update={"duration_s": duration_s}), config.name)
        memory = make_service(0, _served(config, profile, service), "gpu", profile).memory_bytes
        return cls(config, profile, service, None if np.isnan(memory) else memory / GIB, arrivals)

    @property
    def work(self) -> float:
        """Replicas that are busy all the time with full batches, for the mean rate: no fewer will do."""
        return self.arrivals.rate_rps / capacity_rps(self.service, np.array(self.profile.service_time.mean_s))

    def drawn(self, seeds: Sequence[int], duration_s: float) -> tuple[ServiceProfile, Schedule]:
        """The service and its arrivals as another run might have them; those of a trace stay."""
        rng = np.random.default_rng(np.random.SeedSequence(seeds))
        profile, traffic = another_run(self.profile, rng), self.config.traffic
        if traffic.trace is not None:
            return profile, self.arrivals
        other = traffic.model_copy(update={"duration_s": duration_s, "seed": int(rng.integers(2**31))})
        return profile, make_schedule(other, self.config.name)


def _served(config: PackedModel, profile: ServiceProfile, service: ServiceConfig, **more: Any) -> ServedModel:
    settings = {"name": config.name, "latency_target_s": config.target_ms / 1e3, "balancer": service.balancer}
    return served_by(profile, "gpu", service, **settings, gpu_memory_gib=config.gpu_memory_gib, **more)


@dataclass(frozen=True)
class World:
    """The models and the GPU. replicas: of each model, on a GPU each."""

    config: PackConfig
    subjects: tuple[Subject, ...]
    law: Law
    replicas: tuple[int, ...]

    def refused(self, group: Group) -> Literal["memory", "contention"] | None:
        """Why the models cannot share a GPU, seen without a simulation: memory that is not known is not counted."""
        gpu = self.config.gpu
        known = [memory for m in group if (memory := self.subjects[m].memory_gib) is not None]
        if gpu.memory_gib is not None and not gpu.kind.mode.own_memory and sum(known) > gpu.memory_gib:
            return "memory"
        work = sum(self.subjects[m].work / self.replicas[m] for m in group)
        return "contention" if work > throughput(self.law.factors, len(group)) else None

    def look(self, packing: Sequence[Group], seed: int = SEARCHED) -> Look:
        """Simulated, with all replicas of a model or a part of them, which then get their part of its requests."""
        models = sorted(frozenset().union(*packing))
        latencies, missed = {m: list[float]() for m in models}, {m: list[float]() for m in models}
        active = []
        for draw in range(DRAWS):
            sim = self._run(packing, models, (self.config.seed, seed, draw))
            active.append(sim.device_active_s() / sim.now_s)
            while any(sim.totals(model.name).waiting for model in sim.config.models):
                sim.advance(sim.now_s + AT_ONCE_S)
            rows = sim.all_rows()
            for k, m in enumerate(models):
                mine = rows[rows["model"] == k]
                latency_s = (mine["completed_ns"] - mine["scheduled_ns"]) / 1e9
                subject = self.subjects[m].config
                if not len(latency_s):
                    raise ConfigError(
                        f"model '{subject.name}': no request in {self.config.duration_s:g} s: raise duration_s"
                    )
                latencies[m].append(float(np.quantile(latency_s, subject.percentile / 100, method="higher")))
                missed[m].append(float((latency_s > subject.target_ms / 1e3).mean()))
        held = {}
        for m in models:
            latency = interval_of(latencies[m])
            holds = latency.high <= self.subjects[m].config.target_ms / 1e3
            held[m] = Held(latency, interval_of(missed[m], latency.coverage), holds)
        good = all(one.holds for one in held.values())
        return Look(held, tuple(np.mean(active, axis=0).tolist()), None if good else "contention")

    def worst(self, look: Look) -> float:
        """Largest latency as a share of its target."""
        return max(1e3 * one.latency_s.high / self.subjects[m].config.target_ms for m, one in look.held.items())

    def _run(self, packing: Sequence[Group], models: Sequence[int], seeds: tuple[int, int, int]) -> KISim:
        """One run, to the end of the traffic. Each GPU is a kind of its own, so that each pod has its place."""
        drawn = {m: self.subjects[m].drawn((*seeds, m), self.config.duration_s) for m in models}
        kinds = [f"gpu-{k}" for k in range(1, len(packing) + 1)]
        served, services = [], []
        for number, m in enumerate(models):
            subject, mine = self.subjects[m], [kind for kind, group in zip(kinds, packing, strict=True) if m in group]
            model = _served(subject.config, subject.profile, subject.service, replicas=0).model_copy(
                update={
                    "profiles": dict.fromkeys(mine, subject.config.profile),
                    "replicas_of_kind": dict.fromkeys(mine, 1),
                }
            )
            served.append(model)
            services += [make_service(number, model, kind, drawn[m][0]) for kind in mine]
        cluster = ClusterConfig(
            gpu_kinds={kind: self._kind(len(group)) for kind, group in zip(kinds, packing, strict=True)},
            pools=tuple(NodePool(name=kind, gpus=1, gpu_kind=kind) for kind in kinds),
            models=tuple(served),
            scrape_period_s=3600.0,  # nobody decides
        )
        there = [sum(m in group for group in packing) for m in models]
        arrivals = _merged([_part(drawn[m][1], here, self.replicas[m]) for m, here in zip(models, there, strict=True)])
        names = [model.name for model in served]
        seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
        sim = KISim(cluster, services, ScheduledTraffic(arrivals, names), seed=seed, keep_rows=True)
        sim.advance(self.config.duration_s)
        return sim

    def _kind(self, models: int) -> GpuKind:
        if models == 1:
            return GpuKind()
        return GpuKind(sharing=self.config.gpu.sharing, shares=models, interference=self.law.factors)


def _part(schedule: Schedule, there: int, replicas: int) -> Schedule:
    """What `there` of so many replicas get, when requests go to each in turn."""
    kept = np.arange(len(schedule)) % replicas < there
    return Schedule(schedule.scheduled_ns[kept], schedule.model[kept], schedule.duration_s)


def _merged(schedules: Sequence[Schedule]) -> Schedule:
    times = np.concatenate([schedule.scheduled_ns for schedule in schedules])
    order = np.argsort(times, kind="stable")
    model = np.concatenate([schedule.model for schedule in schedules])[order]
    return Schedule(times[order], model, max(schedule.duration_s for schedule in schedules))
