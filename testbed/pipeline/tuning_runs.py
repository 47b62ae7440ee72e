"""Simulated runs of policies that are tuned: the traffic of each stage, and what a policy makes of it on average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loadgen.schedule import Schedule
from testbed.autoscaling.build import resolved
from testbed.autoscaling.policies import find_policy
from testbed.autoscaling.rollout import Outcome, outcome_of, rollout
from testbed.autoscaling.search import ServedService
from testbed.measurement.latency_histogram import quantile_of
from testbed.measurement.scaling_log import ScalingLog
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_records import ScalingRecord
from testbed.pipeline.cluster_run import advance, prepare
from testbed.pipeline.objective import Objective
from testbed.pipeline.served_rates import completed, needed_at_first, served_service
from testbed.pipeline.tune_config import TuneConfig
from testbed.pipeline.varied import varied_schedule
from testbed.reporting.evaluation import log_name
from testbed.simulation.cluster.services import SimulatedService, read_services
from testbed.statistics import mean_interval

SELECT_SEED, CHECK_SEED = 500_000, 1_000_000  # from there on: runs that the search, and the choice, have not seen


@dataclass(frozen=True)
class MeanOutcome:
    """Means over runs, each with its 90 % interval over what the seeds draw, None of fewer than three seeds; and the
    P95 of all their requests together, None: none was answered. slo_violation_rate_error: the standard error of that
    mean, None: of a single seed."""

    slo_violation_rate: float
    gpu_seconds: float
    p95_ms: float | None
    changes: float
    slo_violation_rate_interval: tuple[float, float] | None = None
    gpu_seconds_interval: tuple[float, float] | None = None
    slo_violation_rate_error: float | None = None
    cost: float | None = None  # None: nodes have no price
    cost_interval: tuple[float, float] | None = None

    def spent(self, objective: Objective) -> float:
        """What is to be small."""
        if objective == "gpu_seconds":
            return self.gpu_seconds
        assert self.cost is not None
        return self.cost

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; without a price no word of money."""
        return {name: value for name, value in self.__dict__.items() if self.cost is not None or "cost" not in name}

    def holds(self, allowed_slo_violation_rate: float) -> bool:
        """Does it keep to the allowed share?"""
        return self.slo_violation_rate <= allowed_slo_violation_rate

    def surely_holds(self, allowed_slo_violation_rate: float) -> bool:
        """With a standard error to spare: the best of many is better here than it is."""
        return self.slo_violation_rate + (self.slo_violation_rate_error or 0.0) <= allowed_slo_violation_rate


class Stage(NamedTuple):
    """Runs that something is decided on: their seeds, and the part of a recorded trace that they may show."""

    seeds: Sequence[int]
    part: tuple[float, float]


@dataclass(frozen=True)
class Tuning:
    """A configuration with what was read for it. schedules: the traffic of one seed's runs, of a part of a trace.

    settled: a run begins with as many replicas as its first arrivals need, as if it had been going on; else with those
    of the configuration.
    """

    config: TuneConfig
    services: tuple[SimulatedService, ...]
    service: ServedService
    schedules: Callable[[int, tuple[float, float], float], Sequence[Schedule]]
    settled: bool = False

    @classmethod
    def of(cls, config: TuneConfig) -> Tuning:
        """Of its traffic as it varies. ArtifactError or ConfigError if a profile cannot be read or serves nothing
        within the target."""
        services = read_services(config.cluster)
        service = served_service(config.cluster.models[0], services, config.metrics_delay_s, config.window_s)
        return cls(config, services, service, partial(varied_schedules, config))

    @property
    def searched(self) -> Stage:
        """The trials'."""
        return Stage(range(self.config.seed, self.config.seed + self.config.seeds), self.config.searched_part)

    @property
    def selected(self) -> Stage:
        """Of what the trials found."""
        return self._later(SELECT_SEED, self.config.searched_part)

    @property
    def checked(self) -> Stage:
        """Of what was chosen."""
        return self._later(CHECK_SEED, self.config.checked_part)

    def _later(self, first: int, part: tuple[float, float]) -> Stage:
        first += self.config.seed
        return Stage(range(first, first + self.config.check_seeds), part)

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A policy's, with the clocks of this cluster and what its service says, where it takes them and has none."""
        given = resolved(dict(given))
        fields = find_policy(given.get("kind")).__dataclass_fields__
        flags = {"flags": self.config.flags.model_dump()} if "flags" in fields else {}
        return completed({**flags, **given}, self.service)

    def suggested(self, trial: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a trial; what is given stays."""
        base = self.settings(given)
        return {**base, **find_policy(base["kind"]).suggested(trial, self.service, {**base, **given}), **given}

    def played(self, settings: Mapping[str, Any], stage: Stage, factor: float = 1.0) -> MeanOutcome:
        """Each of the traffic under one policy, once for each seed. factor: on its rate."""
        by_seed = [
            [self.outcome(settings, schedule, seed) for schedule in self.schedules(seed, stage.part, factor)]
            for seed in stage.seeds
        ]
        return mean_outcome(by_seed)

    def _run_config(self, settings: Mapping[str, Any], schedule: Schedule, seed: int) -> ClusterRunConfig:
        changed = {"policies": {self.config.model: dict(settings)}, "duration_s": schedule.duration_s, "seed": seed}
        if self.settled:
            needed = needed_at_first(schedule, self.service)
            served = self.config.cluster.models[0].model_copy(update={"replicas": needed})
            changed["cluster"] = self.config.cluster.model_copy(update={"models": (served,)})
        return self.config.model_copy(update=changed)

    def outcome(self, settings: Mapping[str, Any], schedule: Schedule, seed: int) -> Outcome:
        """Of one run."""
        run_config = self._run_config(settings, schedule, seed)
        run = prepare(run_config, self.services, seed, keep_rows=False, schedule=schedule)
        if not run_config.faults:
            return rollout(run, self.config.model, schedule.duration_s)
        advance(run_config, run, lambda: None, lambda share: None)
        return outcome_of(run, self.config.model)

    def log_runs(self, policies: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
        """A log of the first checked run of each policy on each traffic."""
        seed, part = self.checked.seeds[0], self.checked.part
        for number, schedule in enumerate(self.schedules(seed, part, 1.0), start=1):
            for name, settings in policies.items():
                run_config = self._run_config(settings, schedule, seed)
                run = prepare(run_config, self.services, seed, keep_rows=False, schedule=schedule)
                record = ScalingRecord(run, self.config.model)
                advance(run_config, run, record.note, lambda share: None)
                file = folder / log_name(f"traffic-{number}", name)
                file.parent.mkdir(parents=True, exist_ok=True)
                ScalingLog(record.frame(seed), {"simulated": True, "policy": dict(settings)}).write(file)


def varied_schedules(config: TuneConfig, seed: int, part: tuple[float, float], factor: float = 1.0) -> list[Schedule]:
    """Of each of the configured traffic."""
    return [
        varied_schedule(traffic, config.model, config.duration_s, seed, config.variation, factor=factor, part=part)
        for traffic in config.all_traffic
    ]


def mean_outcome(by_seed: Sequence[Sequence[Outcome]]) -> MeanOutcome:
    """Of runs: those of one seed together are one draw."""
    outcomes = [outcome for runs in by_seed for outcome in runs]
    histogram = np.sum([outcome.histogram for outcome in outcomes], axis=0)
    # None: nothing was sent, so nothing missed.
    missed = [float(np.mean([outcome.slo_violation_rate or 0.0 for outcome in runs])) for runs in by_seed]
    gpu_seconds = [float(np.mean([outcome.gpu_seconds for outcome in runs])) for runs in by_seed]
    intervals = [mean_interval(missed), mean_interval(gpu_seconds)]
    costs = [
        float(np.mean([outcome.cost for outcome in runs if outcome.cost is not None] or [np.nan])) for runs in by_seed
    ]
    of_cost = mean_interval(costs) if np.isfinite(costs).all() else None
    return MeanOutcome(
        slo_violation_rate=float(np.mean(missed)),
        gpu_seconds=float(np.mean(gpu_seconds)),
        p95_ms=1e3 * quantile_of(histogram, 0.95) if histogram.any() else None,
        changes=float(np.mean([outcome.changes for outcome in outcomes])),
        slo_violation_rate_interval=None if intervals[0] is None else (max(0.0, intervals[0].low), intervals[0].high),
        gpu_seconds_interval=None if intervals[1] is None else (max(0.0, intervals[1].low), intervals[1].high),
        slo_violation_rate_error=float(np.std(missed, ddof=1) / np.sqrt(len(missed))) if len(missed) > 1 else None,
        cost=float(np.mean(costs)) if np.isfinite(costs).all() else None,
        cost_interval=None if of_cost is None else (max(0.0, of_cost.low), of_cost.high),
    )
