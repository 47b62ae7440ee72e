"""The calibrated rule: a forecast of the arrivals, divided by what a replica serves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from testbed.autoscaling.forecast import SMOOTHED, smooth
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.outlook import (
    Arrivals,
    FloatArray,
    Kind,
    correction,
    outlook_of,
    steps_ahead,
    with_forecast,
    with_window,
)
from testbed.autoscaling.policy import Decision, Recommendations, policy
from testbed.autoscaling.search import ServedService, Trial
from testbed.errors import ConfigError

# Start-ups that a miss lasts: until a pod serves, and until what waits by then is answered. In KIScaler's scenarios 4
# is better than 1 and 2, and 6 is no better.
MISSED_FOR = 4


class _RuleMemory(NamedTuple):
    arrivals: Arrivals
    wanted: Recommendations  # of the last hold_s, without those that a later one is not below: max_replicas at most


@policy("rule")
@dataclass(frozen=True)
class Rule:
    """As many replicas as serve what comes until a pod that is asked for at the next step would serve.

        ceil(((1 + margin) * expected rate + waiting / drain_s) / replica_capacity_rps)

    forecast: `now`, the arrivals go on; `line`, on a line through the newest; `season`, the season that repeats, once
    its strength (forecast.py) is min_strength, and `now` before: a line through random arrivals
    cost more than it saved in the scenarios of KIScaler. Never less than comes now.

    quantile: the forecast is multiplied by that quantile of what came / what was forecast, of the last `remembered`
    forecasts; with fewer than ten of them only the margin is added. Were coming forecasts exchangeable with the
    remembered ones, the peak would stay below the corrected forecast with that probability at least. They are not: the
    ratios of neighbouring steps depend on each other, and traffic that drifts leaves the remembered ones behind.

    Down at once where a season is known; else to the largest proposal of the last hold_s. slo_penalty (of a step with
    every request missed, in steps of all replicas): instead, replicas are kept while that costs less, after how long it
    took so far until they were needed again (ski rental). hold_s is then one such gap that is assumed to have been
    seen.
    """

    told: ClassVar[str] = "arrivals, requests that wait, what one replica serves"

    replica_capacity_rps: float  # that one replica serves within the latency target
    provisioning_delay_s: float  # from asked for to serving
    max_replicas: int
    min_replicas: int = 1
    forecast: Kind = "season"
    margin: float = 0.0
    quantile: float | None = None
    hold_s: float = 200.0
    drain_s: float = 10.0
    min_strength: float = 0.9
    slo_penalty: float | None = None
    remembered: int = 100
    metrics_delay_s: float = 1.0
    period_s: float = 2.0
    name: str = "rule"

    def __post_init__(self) -> None:
        for name in ("replica_capacity_rps", "drain_s", "period_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"policy rule: {name} must be above 0, not {getattr(self, name):g}")
        if self.margin <= -1:
            raise ConfigError(f"policy rule: margin must be above -1, not {self.margin:g}")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ConfigError(f"policy rule: quantile must be between 0 and 1, not {self.quantile:g}")

    @classmethod
    def first_tried(cls, service: ServedService) -> list[dict[str, Any]]:
        """See testbed.autoscaling.search."""
        begin = {"corrected": False, "forecast": "season", "min_strength": 0.9, "period": 0.4, "min_replicas": 1}
        rented = [
            {"rented": True, "slo_penalty": penalty, "hold": 35.0, "margin": margin}
            for penalty in (5.0, 20.0)
            for margin in (-0.05, 0.1)
        ]
        held = [{"rented": False, "hold": hold, "margin": 0.1} for hold in (5.0, 20.0)]
        return [{**begin, **more} for more in (*rented, *held)]

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        quantile = trial.suggest_categorical("corrected", [False, True])
        rented = trial.suggest_categorical("rented", [False, True])
        return {
            "replica_capacity_rps": service.replica.target_rps,
            "provisioning_delay_s": service.provisioning_delay_s,
            "forecast": trial.suggest_categorical("forecast", ["now", "line", "season"]),
            "margin": trial.suggest_float("margin", -0.1, 0.6),
            "quantile": trial.suggest_float("quantile", 0.5, 0.99) if quantile else None,
            "slo_penalty": trial.suggest_float("slo_penalty", 1.0, 100.0, log=True) if rented else None,
            "hold_s": service.provisioning_delay_s * trial.suggest_float("hold", 0.5, 40.0, log=True),
            "drain_s": service.replica.latency_target_s * trial.suggest_float("drain", 2.0, 100.0, log=True),
            "min_strength": trial.suggest_float("min_strength", 0.2, 0.95),
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "metrics_delay_s": service.metrics_delay_s,
            "period_s": max(1.0, service.provisioning_delay_s * trial.suggest_float("period", 0.1, 0.5, log=True)),
        }

    def decide(self, observation: Observation, memory: _RuleMemory | None) -> Decision:
        """See Policy.

        Example: 100 requests/s to come, margin .1, 50 wait, drained in 10 s: 115; one replica serves 30: 4 wanted.
        """
        memory = memory or _RuleMemory(Arrivals(), ())
        spec = observation.spec_replicas
        window = observation.window(self.period_s, self.metrics_delay_s)
        past = None if window is None else with_window(memory.arrivals, window)
        if past is None:
            return Decision(spec, memory, "no metrics yet, or one is no number")
        if len(past.rates) < SMOOTHED:  # the first window may have begun before the traffic did
            return Decision(spec, memory._replace(arrivals=past), "too little is known yet")
        ahead = steps_ahead(self.provisioning_delay_s, self.metrics_delay_s, self.period_s)
        rates = np.array(past.rates)
        outlook = outlook_of(rates, self.forecast, ahead, ahead + SMOOTHED, self.period_s, self.min_strength)
        peak = max(outlook.level, float(outlook.path.max()))
        past = with_forecast(past, peak, ahead, self.remembered)
        factor = None if self.quantile is None else correction(past.ratios, self.quantile)
        to_come = peak if factor is None else max(outlook.level, factor * peak)
        wanted = self._replicas_for((1 + self.margin) * to_come + past.waiting / self.drain_s)
        since_s = observation.now_s - self.hold_s
        history = (*(old for old in memory.wanted if old[0] > since_s and old[1] > wanted), (observation.now_s, wanted))
        if outlook.season is not None:
            least = wanted
        elif self.slo_penalty is None:
            least = history[0][1]
        else:
            least = self._worth_keeping(rates, wanted, spec, MISSED_FOR * self.slo_penalty * ahead)
        replicas = max(wanted, min(spec, least))
        known = "" if outlook.season is None else f", a season of {outlook.season.steps * self.period_s:g} s"
        reason = f"{outlook.level:.0f}/s now, {to_come:.0f}/s to come{known}, {past.waiting:.0f} wait"
        return Decision(replicas, _RuleMemory(past, history), reason)

    def _replicas_for(self, rate_rps: float) -> int:
        wanted = math.ceil(rate_rps / self.replica_capacity_rps - 1e-9)
        return min(max(wanted, self.min_replicas), self.max_replicas)

    def _worth_keeping(self, rates: FloatArray, wanted: int, spec: int, miss: float) -> int:
        """Of `spec` replicas, those that are to stay; miss: what it costs, in steps of all replicas, to lack them."""
        needed = np.ceil((1 + self.margin) * smooth(rates) / self.replica_capacity_rps - 1e-9)
        assumed = self.hold_s / self.period_s
        kept = wanted
        while kept < spec and is_worth_keeping(needed > kept, (spec - kept) / self.max_replicas, miss, assumed):
            kept += 1
        return kept


def is_worth_keeping(needed: np.ndarray[Any, np.dtype[np.bool_]], rent: float, miss: float, assumed: float) -> bool:
    """Are replicas to be kept that are not needed now? needed: of each step so far, were they; rent: of a step with
    them; miss: of a time when they were needed and not there; assumed: steps of a gap besides those that were seen.

    Yes, if with some time to give up at, the gaps that lasted longer than this one does by now would have cost less
    than a miss each.
    """
    (places,) = np.nonzero(needed)
    so_far = len(needed) - 1 - (int(places[-1]) if len(places) else -1)
    gaps = np.append(np.diff(places), assumed)
    left = gaps[gaps > so_far] - so_far
    given_up = left[:, None]
    costs = rent * np.minimum(left, given_up).sum(axis=1) + miss * (left > given_up).sum(axis=1)
    return bool((costs < miss * len(left)).any())
