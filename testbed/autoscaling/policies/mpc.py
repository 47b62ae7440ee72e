"""Model predictive control: the cheapest plan for what may come, of which the first step is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from testbed.autoscaling.forecast import SMOOTHED
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.outlook import (
    ENOUGH,
    Arrivals,
    FloatArray,
    Kind,
    outlook_of,
    steps_ahead,
    with_forecast,
    with_window,
)
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.search import ServedService, Trial
from testbed.errors import ConfigError


class _MpcMemory(NamedTuple):
    """start_up_s: of the pods that were seen to start. seasonal: were the arrivals' ratios of forecasts of a season;
    others: the ratios of the other forecasts."""

    arrivals: Arrivals = Arrivals()
    start_up_s: float | None = None
    seasonal: bool = False
    others: tuple[float, ...] = ()


@policy("mpc")
@dataclass(frozen=True)
class Mpc:
    """Plans the replicas of the coming horizon_s by dynamic programming, and asks for what the plan needs now.

    A step costs its replicas, and miss_weight times the share of the requests that are expected to be late: a mean over
    `quantiles` forecasts. They are one forecast (see `rule`) times quantiles of what came / what was forecast so far,
    cut at the most that ever came. At an overload of late_at every request is late, in proportion below; what is
    not served counts besides, as it waits and makes later ones late. A replica more
    costs its start-up, one less the stop_s in which it still holds its device, and each change `churn` replica-steps.

    A pod that is asked for now serves after the start-up that was measured of the pods seen, provisioning_delay_s
    before one was; those that start already, after what is left of it. slo_penalty: of a step with every request
    missed, in steps of all replicas; it then sets miss_weight.
    """

    told: ClassVar[str] = "arrivals, requests that wait, pods that start, what one replica serves"

    replica_capacity_rps: float  # that one replica serves within the latency target
    provisioning_delay_s: float  # from asked for to serving
    max_replicas: int
    min_replicas: int = 1
    forecast: Kind = "season"
    miss_weight: float = 60.0  # steps of one replica
    slo_penalty: float | None = None
    horizon_s: float = 60.0
    quantiles: int = 40
    remembered: int = 200
    margin: float = 0.0
    late_at: float = 0.1
    churn: float = 0.1
    stop_s: float = 10.0
    drain_s: float = 10.0
    min_strength: float = 0.9
    metrics_delay_s: float = 1.0
    period_s: float = 2.0
    name: str = "mpc"

    def __post_init__(self) -> None:
        for name in ("replica_capacity_rps", "drain_s", "period_s", "horizon_s", "quantiles", "late_at"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"policy mpc: {name} must be above 0, not {getattr(self, name):g}")
        if self.margin <= -1:
            raise ConfigError(f"policy mpc: margin must be above -1, not {self.margin:g}")
        if not self.min_replicas <= self.max_replicas:
            raise ConfigError(f"policy mpc: min_replicas must be at most {self.max_replicas}, not {self.min_replicas}")

    @classmethod
    def first_tried(cls, service: ServedService) -> list[dict[str, Any]]:
        """See testbed.autoscaling.search."""
        begin = {"forecast": "season", "min_strength": 0.9, "period": 0.4, "min_replicas": 1, "churn": 0.1}
        return [
            {**begin, "miss_weight": weight, "margin": margin, "horizon": 6.0}
            for weight in (10.0, 100.0)
            for margin in (0.0, 0.15)
        ]

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        return {
            "replica_capacity_rps": service.replica.target_rps,
            "provisioning_delay_s": service.provisioning_delay_s,
            "forecast": trial.suggest_categorical("forecast", ["now", "line", "season"]),
            "miss_weight": trial.suggest_float("miss_weight", 1.0, 1000.0, log=True),
            "horizon_s": service.provisioning_delay_s * trial.suggest_float("horizon", 2.0, 20.0, log=True),
            "margin": trial.suggest_float("margin", -0.1, 0.6),
            "late_at": trial.suggest_float("late_at", 0.02, 1.0, log=True),
            "churn": trial.suggest_float("churn", 0.01, 10.0, log=True),
            "drain_s": service.replica.latency_target_s * trial.suggest_float("drain", 2.0, 100.0, log=True),
            "min_strength": trial.suggest_float("min_strength", 0.2, 0.95),
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "metrics_delay_s": service.metrics_delay_s,
            "period_s": max(1.0, service.provisioning_delay_s * trial.suggest_float("period", 0.1, 0.5, log=True)),
        }

    def decide(self, observation: Observation, memory: _MpcMemory | None) -> Decision:
        """See Policy."""
        memory = memory or _MpcMemory()
        spec = observation.spec_replicas
        window = observation.window(self.period_s, self.metrics_delay_s)
        past = None if window is None else with_window(memory.arrivals, window)
        if past is None:
            return Decision(spec, memory, "no metrics yet, or one is no number")
        start_up_s = start_up_of(observation.pods, memory.start_up_s)
        memory = memory._replace(arrivals=past, start_up_s=start_up_s)
        if len(past.rates) < SMOOTHED:  # the first window may have begun before the traffic did
            return Decision(spec, memory, "too little is known yet")
        start_up_s = self.provisioning_delay_s if start_up_s is None else start_up_s
        ahead = steps_ahead(start_up_s, self.metrics_delay_s, self.period_s)
        steps = max(math.ceil(self.horizon_s / self.period_s), ahead + SMOOTHED)
        rates = np.array(past.rates)
        outlook = outlook_of(rates, self.forecast, ahead, steps + SMOOTHED, self.period_s, self.min_strength)
        # A step's arrivals are in the means of SMOOTHED steps from its own on.
        path = np.max([outlook.path[k : k + steps] for k in range(SMOOTHED + 1)], axis=0)
        path[:SMOOTHED] = np.maximum(path[:SMOOTHED], outlook.level)
        memory = _of_kind(memory, outlook.season is not None)
        past = with_forecast(memory.arrivals, float(path[:ahead].max()), ahead, self.remembered)
        most = max(float(path.max()), float(rates.max()))
        demand = np.minimum(path * self._ratios(past.ratios)[:, None], most)
        serving = self._serving(observation, start_up_s, steps)
        demand = self._with_backlog((1 + self.margin) * demand, past.waiting, serving, ahead)
        replicas = max(self._plan(demand, serving, min(max(spec, self.min_replicas), self.max_replicas), ahead))
        reason = f"{outlook.level:.0f}/s now, {path.max():.0f}/s to come, a pod takes {start_up_s:.1f} s"
        return Decision(replicas, memory._replace(arrivals=past), reason)

    def _ratios(self, ratios: tuple[float, ...]) -> FloatArray:
        if len(ratios) < ENOUGH:
            return np.ones(1)
        return np.asarray(np.quantile(ratios, (np.arange(self.quantiles) + 0.5) / self.quantiles))

    def _serving(self, observation: Observation, start_up_s: float, steps: int) -> FloatArray:
        """The most replicas that can serve in each step, if all that are asked for stay, and no pod is asked for."""
        ends_s = observation.now_s - self.metrics_delay_s + self.period_s * np.arange(1, steps + 1)
        at_s = [
            -math.inf if pod.ready else (observation.now_s if pod.start_s is None else pod.start_s) + start_up_s
            for pod in observation.pods
            if not pod.deleting and pod.phase != "Failed"
        ]
        return np.asarray((np.array(at_s)[:, None] <= ends_s).sum(axis=0) if at_s else np.zeros(steps), dtype=float)

    def _with_backlog(self, demand: FloatArray, waiting: float, serving: FloatArray, ahead: int) -> FloatArray:
        """What waits besides, to be served within drain_s: now, and at first of what is asked for now."""
        drained, mean = math.ceil(self.drain_s / self.period_s), demand.mean(axis=0)
        demand = demand.copy()
        demand[:, : min(ahead, drained)] += waiting / self.drain_s
        for k in range(ahead):
            waiting = max(0.0, waiting + (mean[k] - self.replica_capacity_rps * serving[k]) * self.period_s)
        demand[:, ahead : ahead + drained] += waiting / self.drain_s
        return demand

    def _plan(self, demand: FloatArray, serving: FloatArray, spec: int, ahead: int) -> list[int]:
        """Replicas in the steps until one that is asked for now would serve, that one included.

        demand: float64[quantiles, steps]. Until then there are no more than `spec`, and no more serve than `serving`.
        """
        choices = np.arange(self.min_replicas, self.max_replicas + 1, dtype=float)
        weight = self.miss_weight if self.slo_penalty is None else self.slo_penalty * self.max_replicas
        steps = demand.shape[1]
        able = np.tile(choices, (steps, 1))
        able[:ahead] = np.minimum(choices, serving[:ahead, None])
        served = np.maximum(self.replica_capacity_rps * able, 1e-9)
        # More than all replicas serve cannot be helped: it is no reason to have fewer.
        asked = np.minimum(demand, self.replica_capacity_rps * self.max_replicas)[:, :, None]
        late = np.clip((asked / served - 1) / self.late_at, 0, 1)
        unserved = np.maximum(0, 1 - served / np.maximum(asked, 1e-9))
        cost = choices + weight * (late + unserved).mean(axis=0)
        cost[:ahead, choices > spec] = np.inf
        change = choices - choices[:, None]  # from the row's to the column's
        turn = np.maximum(change, 0) * ahead + np.maximum(-change, 0) * self.stop_s / self.period_s
        turn += self.churn * np.abs(change)
        best, later = np.empty((steps, len(choices)), dtype=int), np.zeros(len(choices))
        for k in range(steps - 1, -1, -1):
            total = turn + (cost[k] + later)
            best[k] = total.argmin(axis=1)
            later = total[np.arange(len(choices)), best[k]]
        place, planned = spec - self.min_replicas, []
        for k in range(ahead + 1):
            place = int(best[k, place])
            planned.append(int(choices[place]))
        return planned


def start_up_of(pods: Sequence[PodState], before: float | None) -> float | None:
    """Seconds from a pod's start to ready, the median of the pods that are seen to have done it; before: if none is."""
    took_s = [
        pod.ready_changed_s - pod.start_s
        for pod in pods
        if pod.ready and not pod.deleting and pod.start_s is not None and pod.ready_changed_s > pod.start_s
    ]
    return float(np.median(took_s)) if took_s else before


def _of_kind(memory: _MpcMemory, seasonal: bool) -> _MpcMemory:
    """Forecasts of a season and others are off by their own ratios: the memory with those of this kind."""
    if memory.seasonal is seasonal:
        return memory
    arrivals = memory.arrivals._replace(pending=(), ratios=memory.others)
    return memory._replace(arrivals=arrivals, seasonal=seasonal, others=memory.arrivals.ratios)
