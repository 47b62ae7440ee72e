"""NVIDIA Dynamo's planner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from testbed.autoscaling.forecast import SMOOTHED, season_of, season_peak, smooth, trend_of
from testbed.autoscaling.observation import Observation, Window
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.search import ServedService, Trial
from testbed.errors import ConfigError

LEAST_POINTS = 5  # intervals, before a predictor other than `constant` says more than the last one
KEPT = 50  # intervals
STRONG = 0.5  # of a season that is believed; with a weaker one or none, a line


class _DynamoMemory(NamedTuple):
    next_throughput_s: float
    floor: int
    rates: tuple[float, ...] = ()  # requests a second of each throughput interval since the first request
    waiting: float = 0.0  # at the end of the last of them
    batch_s: float | None = None  # mean time of a batch, when one was last measured


@policy("dynamo")
@dataclass(frozen=True)
class Dynamo:
    """NVIDIA Dynamo's planner in its SLA mode, of workers that do the whole request (`agg`).

    Every throughput_interval_s it predicts the requests of the next one; over what a worker is profiled to serve within
    the SLA they are the floor. Every load_interval_s it corrects by one, from two estimates for each worker, as for the
    first token and for those after it. Up if every worker exceeds the SLA in one of them. Down if in both no worker
    would with one less: what waits within `sensitivity` of what the SLA leaves beside a batch, the second within that
    share of the SLA. Never below the floor, and not while workers start or stop. Without load_scaling the prediction
    itself is followed. Defaults of its PlannerConfig, but load_scaling (false there), which its guide
    recommends beside the other for bursts; after throughput_scaling.py, load_scaling.py and state_machine.py of
    components/src/dynamo/planner/core.

    The planner estimates from tokens, by a regression over its engines. Here the first estimate is what waits on a
    worker over replica_capacity_rps, and the mean time of a batch; the second what is in flight there over
    replica_capacity_rps, its latency at the profiled rate by Little's law. Predictors: `constant` is the planner's,
    `trend` (a line) stands in for its arima and kalman, `season` for its prophet; until five intervals are known they
    say the last.
    """

    told: ClassVar[str] = (
        "requests a second that a replica serves within the target; latency target; arrivals; requests that wait "
        "and that are in flight on each pod; mean time of a batch"
    )

    replica_capacity_rps: float
    latency_target_s: float
    max_replicas: int
    min_replicas: int = 1
    predictor: Literal["constant", "trend", "season"] = "trend"
    load_scaling: bool = True
    throughput_interval_s: float = 180.0
    load_interval_s: float = 5.0
    sensitivity: float = 0.8
    metrics_delay_s: float = 1.0
    name: str = "dynamo"

    def __post_init__(self) -> None:
        for name in ("replica_capacity_rps", "latency_target_s", "throughput_interval_s", "load_interval_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"policy dynamo: {name} must be above 0, not {getattr(self, name):g}")
        if self.load_interval_s >= self.throughput_interval_s:
            raise ConfigError(
                f"policy dynamo: load_interval_s ({self.load_interval_s:g}) must be below throughput_interval_s "
                f"({self.throughput_interval_s:g}): it is the fast one of the two"
            )
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ConfigError(
                f"policy dynamo: min_replicas is {self.min_replicas}: give 1 to max_replicas, {self.max_replicas}"
            )

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        suggested_s = service.provisioning_delay_s * trial.suggest_float("throughput_interval", 1.0, 30.0, log=True)
        interval_s = float(given.get("throughput_interval_s", suggested_s))
        return {
            "replica_capacity_rps": service.replica.target_rps * trial.suggest_float("capacity", 0.6, 1.3, log=True),
            "latency_target_s": service.replica.latency_target_s * trial.suggest_float("target", 0.3, 1.0, log=True),
            "predictor": trial.suggest_categorical("predictor", ("constant", "trend", "season")),
            "throughput_interval_s": interval_s,
            "load_interval_s": interval_s * trial.suggest_float("load_interval", 0.02, 0.5, log=True),
            "sensitivity": trial.suggest_float("sensitivity", 0.2, 1.0),
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "metrics_delay_s": service.metrics_delay_s,
        }

    @property
    def period_s(self) -> float:
        """See Policy. The slow interval is looked at as often, and has its own clock."""
        return self.load_interval_s

    def decide(self, observation: Observation, memory: _DynamoMemory | None) -> Decision:
        """See Policy.

        Example: 400 requests/s predicted, 150 a worker: a floor of 3. On each of 4 workers 3 requests wait and 4 are in
        flight, a batch takes 10 ms, the SLA is 30 ms. A new one takes 3 / 150 s + 10 ms = 30 ms, and 4 / 150 s is 27
        ms: none is added. With 3 workers 4 would wait on each, 27 ms, more than .8 of 30 - 10 ms: none is removed.
        """
        now_s, current = observation.now_s, observation.spec_replicas
        if memory is None:
            memory = _DynamoMemory(now_s - self.period_s + self.throughput_interval_s, self.min_replicas)
        floor = memory.floor  # the load is looked at first: a new floor holds from its next look
        if now_s >= memory.next_throughput_s - 1e-9:
            memory = self._with_floor(observation, memory)
        if not self.load_scaling:
            wanted = memory.floor if memory.rates else current
            return Decision(self._within(wanted), memory, f"{_newest(memory):.0f}/s, a floor of {memory.floor}")
        window = observation.window(self.load_interval_s, self.metrics_delay_s)
        if window is None:
            return Decision(current, memory, "no metrics yet")
        memory = memory._replace(batch_s=_batch_s(window) or memory.batch_s)
        ready = sum(1 for pod in observation.pods if pod.ready and not pod.deleting)
        if ready != current:
            return Decision(current, memory, f"{ready} of {current} workers are ready: observed only")
        if len(window.pods) != ready or memory.batch_s is None:
            return Decision(current, memory, "not all workers have metrics yet")
        change = self._correction(window, memory.batch_s)
        wanted = self._within(max(current + change, floor))
        return Decision(wanted, memory, f"the load says {change:+d}, the floor is {floor}: {current} -> {wanted}")

    def _within(self, replicas: int) -> int:
        return min(max(replicas, self.min_replicas), self.max_replicas)

    def _correction(self, window: Window, batch_s: float) -> int:
        """-1, 0 or 1 worker."""
        queued_s, in_flight_s = window.waiting / self.replica_capacity_rps, window.in_flight / self.replica_capacity_rps
        sla_s, n = self.latency_target_s, len(window.pods)
        if (queued_s + batch_s > sla_s).all() or (in_flight_s > sla_s).all():
            return 1
        if n == 1:
            return 0
        more = n / (n - 1)  # each of the others takes
        first = (queued_s * more < (sla_s - batch_s) * self.sensitivity).all()
        return -1 if first and (in_flight_s * more < sla_s * self.sensitivity).all() else 0

    def _with_floor(self, observation: Observation, memory: _DynamoMemory) -> _DynamoMemory:
        """After one more interval; as before if there is no whole interval yet, to be tried again."""
        window = observation.window(self.throughput_interval_s, self.metrics_delay_s)
        if window is None:
            return memory
        rate_rps = window.arrivals_rps(memory.waiting)
        began = rate_rps > 0 or bool(memory.rates)  # what comes before the first request is no traffic
        rates = (*memory.rates, rate_rps)[-KEPT:] if began else ()
        floor = math.ceil(self._predicted(rates) / self.replica_capacity_rps - 1e-9) if rates else 0
        return memory._replace(
            next_throughput_s=memory.next_throughput_s + self.throughput_interval_s,
            floor=max(floor, self.min_replicas),
            rates=rates,
            waiting=float(window.waiting.sum()),
        )

    def _predicted(self, past: Sequence[float]) -> float:
        """Requests a second of the next interval."""
        rates = np.array(past)
        if self.predictor == "constant" or len(rates) < LEAST_POINTS:
            return float(rates[-1])
        if self.predictor == "season":
            season = season_of(smooth(rates), SMOOTHED + 1)
            if season is not None and season.strength > STRONG:
                return season_peak(rates, season, 1)
        return trend_of(rates, 1)


def _newest(memory: _DynamoMemory) -> float:
    return memory.rates[-1] if memory.rates else 0.0


def _batch_s(window: Window) -> float | None:
    """Mean time of a batch; None: there was none, or nobody tells."""
    if window.batches is None or window.batch_s is None or window.batches.sum() <= 0:
        return None
    return float(window.batch_s.sum()) / float(window.batches.sum())
