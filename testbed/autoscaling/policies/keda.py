"""KEDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from testbed.autoscaling.forecast import line_at
from testbed.autoscaling.hpa.controller import ScaleTarget, sync
from testbed.autoscaling.hpa.proposal import MetricReadings, Tolerance
from testbed.autoscaling.hpa.spec import Behavior, ControllerFlags, HpaSpec
from testbed.autoscaling.hpa.stabilization import History
from testbed.autoscaling.keda_metrics import (
    COMPOSITE,
    CPU,
    Fallback,
    KedaMetrics,
    KedaTrigger,
    ScalingModifiers,
    State,
    Told,
)
from testbed.autoscaling.metrics import METRICS, SERVICE_METRICS, did_you_mean, is_metric, of_all
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policies.hpa import DEFAULT_FLAGS, cpu_samples, searched_behavior
from testbed.autoscaling.policies.predictive import demand_of
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.search import ServedService, Trial
from testbed.errors import ConfigError

FORECAST = "forecast_requests_per_second"  # of the policy itself: `kis adapter` does not have it


class _KedaMemory(NamedTuple):
    next_poll_s: float
    next_sync_s: float
    created_s: float
    active_s: float | None  # when a trigger was last active
    hpa: History
    failures: Mapping[str, int]  # in a row, by metric
    answered: bool  # has there been a window?
    rates: tuple[tuple[float, float], ...] = ()  # arrivals of the last forecast_window_s: when, requests a second


@policy("keda")
@dataclass(frozen=True)
class Keda:
    """KEDA's ScaledObject: an HPA on external metrics, and 0 <-> 1 by activation and cooldown.

    Each trigger proposes a number, the largest applies. Every polling_interval_s the operator looks whether a trigger
    is active: then it wakes the deployment; with none active for cooldown_s it puts it to sleep (min_replicas 0, or
    idle_replicas). A metric that is not known is an error of its trigger: then nothing is put to sleep. Of a poll and a
    sync that are due at once, a change by the poll applies, and the HPA goes on from it at its next. Names and defaults
    of the ScaledObject; after pkg/scaling/executor/scale_scaledobjects.go.

    What it makes of the metrics is in testbed/autoscaling/keda_metrics.py: fallback, scaling_modifiers. Where the
    replicas of the fallback are 0, a failure below its threshold does not keep awake. While one trigger fails, another
    one that is active does not begin the cooldown anew.

    A metric of all pods has no value without pods: at 0 it takes one of the service itself (arrivals_per_second) to
    wake the deployment. What is sent to it until a pod serves fails, unless the client tries again. On a cluster
    `kis activator` holds it back, or KEDA's HTTP add-on; neither is modelled.

    forecast_requests_per_second is what PredictKube or a query with predict_linear gives: a line (least squares)
    through the arrivals of the last forecast_window_s, read forecast_ahead_s from now. The policy computes it from what
    it has seen: a restart begins it anew, and `kis adapter` does not offer it.
    """

    short_keys: ClassVar[tuple[str, ...]] = ("metric", "threshold", "activation")
    told: ClassVar[str] = "metrics of its triggers; arrivals where one is a forecast"

    triggers: tuple[KedaTrigger, ...]
    max_replicas: int
    min_replicas: int = 0
    idle_replicas: Literal[0] | None = None  # KEDA's HPA can do no other
    polling_interval_s: float = 30.0
    cooldown_s: float = 300.0
    initial_cooldown_s: float = 0.0
    behavior: Behavior | None = None
    fallback: Fallback | None = None
    scaling_modifiers: ScalingModifiers | None = None
    forecast_window_s: float = 300.0
    forecast_ahead_s: float = 60.0
    metrics_delay_s: float = 15.0
    window_s: float = 15.0
    cpu_window_s: float = 15.0
    cpu_metrics_delay_s: float = 19.5
    flags: ControllerFlags = DEFAULT_FLAGS
    name: str = "keda"

    def __post_init__(self) -> None:
        metrics = [trigger.metric for trigger in self.triggers]
        if not metrics:
            raise ConfigError("policy keda: a ScaledObject has at least one trigger")
        for metric in metrics:
            if metric not in (FORECAST, CPU) and not is_metric(metric):
                known = ", ".join([*METRICS.known(), *SERVICE_METRICS, FORECAST, CPU])
                raise ConfigError(f"KEDA metric {metric}: {did_you_mean(metric)}known are {known}")
            if metrics.count(metric) > 1:
                raise ConfigError(f"policy keda: two triggers on {metric}: give one of them")
        if self.idle_replicas is not None and self.min_replicas < 1:
            raise ConfigError("policy keda: idle_replicas must be below min_replicas: give min_replicas of 1 or more")
        if set(metrics) == {CPU} and self.sleeps:
            raise ConfigError("policy keda: cpu wakes nobody: give min_replicas of 1 or more and no idle_replicas")
        if self.min_replicas > self.max_replicas:
            raise ConfigError(
                f"policy keda: min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}"
            )
        for name in ("polling_interval_s", "forecast_window_s", "window_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"policy keda: {name} must be above 0, not {getattr(self, name):g}")
        self.metrics.check()

    @classmethod
    def settings_from(cls, given: dict[str, Any], max_replicas: int) -> dict[str, Any]:
        """With triggers, also where metric and threshold of a single one were given."""
        of_one = {key: given[key] for key in cls.short_keys if key in given}
        if "triggers" in given and of_one:
            raise ConfigError(f"policy keda: triggers have their own {', '.join(of_one)}: give one or the other")
        if "triggers" in given:
            return given
        if not {"metric", "threshold"} <= of_one.keys():
            raise ConfigError(
                "policy keda: give metric and threshold (keda:metric=in_flight_requests,threshold=5), or triggers"
            )
        return {**{key: value for key, value in given.items() if key not in of_one}, "triggers": [of_one]}

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search. One trigger or two, unless they are given, of metrics that a Prometheus
        can be asked for; never asleep: requests fail."""
        delay_s = service.provisioning_delay_s
        metrics = (*(name for name in METRICS.known() if METRICS.find(name).query("", "1m") is not None), FORECAST)

        def threshold(metric: str) -> float:
            offered = METRICS.find("requests_per_second" if metric == FORECAST else metric)
            return trial.suggest_float(f"{metric}_threshold", *offered.targets(service.replica), log=True)

        own: dict[str, Any] = {}
        if "metric" in given:
            own["threshold"] = given["threshold"] if "threshold" in given else threshold(given["metric"])
        elif "triggers" not in given:
            chosen = [trial.suggest_categorical("metric", metrics), trial.suggest_categorical("second", (*metrics, ""))]
            own["triggers"] = [
                {"metric": metric, "threshold": threshold(metric)} for metric in dict.fromkeys(chosen) if metric
            ]
        flags = ControllerFlags(**given.get("flags", {}))
        return {
            **own,
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "forecast_window_s": delay_s * trial.suggest_float("forecast_window", 2.0, 30.0, log=True),
            "forecast_ahead_s": delay_s * trial.suggest_float("forecast_ahead", 0.5, 3.0, log=True),
            "behavior": searched_behavior(trial, service, flags),
            "metrics_delay_s": service.metrics_delay_s,
            "window_s": service.window_s,
        }

    @property
    def sleeps(self) -> bool:
        """Does it go to 0 replicas?"""
        return self.idle_replicas is not None or self.min_replicas == 0

    @property
    def metrics(self) -> KedaMetrics:
        """Of its triggers."""
        return KedaMetrics(self.triggers, self.fallback, self.scaling_modifiers)

    @property
    def spec(self) -> HpaSpec:
        """Of the HPA that KEDA makes of the ScaledObject."""
        return HpaSpec(
            min_replicas=max(1, self.min_replicas),
            max_replicas=self.max_replicas,
            metrics=self.metrics.specs,
            behavior=self.behavior,
        )

    @property
    def period_s(self) -> float:
        """See Policy. Polls and syncs happen at the first look at which they are due."""
        return min(self.flags.sync_period_s, self.polling_interval_s)

    def decide(self, observation: Observation, memory: _KedaMemory | None) -> Decision:
        """See Policy.

        Example: 2 replicas, 12 requests in flight of 5 each and 4 waiting of 1 each: 3 and 4 are proposed, so 4.
        """
        now_s, current = observation.now_s, observation.spec_replicas
        memory = memory or _KedaMemory(now_s, now_s, now_s, None, History(), {}, answered=False)
        told, memory = self._told(observation, memory)
        if now_s >= memory.next_poll_s - 1e-9:
            memory = memory._replace(
                next_poll_s=memory.next_poll_s + self.polling_interval_s,
                failures=self.metrics.counted(told, memory.failures),
            )
            state = self.metrics.state(told, memory.failures, current, _ready(observation))
            wanted, memory, reason = self._polled(current, state, memory, now_s)
            if wanted != current:
                return Decision(wanted, memory, reason)
        if now_s < memory.next_sync_s - 1e-9:
            return Decision(current, memory, "the HPA's sync is not due")
        memory = memory._replace(next_sync_s=memory.next_sync_s + self.flags.sync_period_s)
        return self._synced(observation, told, memory)

    def _told(self, observation: Observation, memory: _KedaMemory) -> tuple[Told, _KedaMemory]:
        """Of each trigger's metric."""
        window = observation.window(self.window_s, self.metrics_delay_s)
        lost, memory = (
            window is None and memory.answered,
            memory._replace(answered=memory.answered or window is not None),
        )
        values = {
            trigger.metric: None if window is None else of_all(trigger.metric, window)
            for trigger in self.triggers
            if trigger.metric not in (FORECAST, CPU)
        }
        if all(trigger.metric != FORECAST for trigger in self.triggers):
            return self.metrics.told(values, lost=lost), memory
        demand = demand_of(observation, self.window_s, 1, self.metrics_delay_s)
        if demand is not None and window is not None:
            since_s = window.end_s - self.forecast_window_s
            rates = tuple(rate for rate in memory.rates if since_s < rate[0] < window.end_s)
            memory = memory._replace(rates=(*rates, (window.end_s, demand.rate_rps)))
        known = len(memory.rates) > 1 and not lost
        value = line_at(memory.rates, observation.now_s + self.forecast_ahead_s) if known else None
        return self.metrics.told({**values, FORECAST: value}, lost=lost), memory

    def _polled(self, current: int, state: State, memory: _KedaMemory, now_s: float) -> tuple[int, _KedaMemory, str]:
        if state.active:
            wakes = current == 0 or (self.idle_replicas is not None and current < self.min_replicas)
            if wakes or not state.failed:
                memory = memory._replace(active_s=now_s)
            return (max(1, self.min_replicas) if wakes else current), memory, f"{', '.join(state.active)} is active"
        if state.unknown or (state.failed and (self.fallback is None or self.fallback.replicas > 0)):
            return current, memory, "a trigger's metric is not known"
        if self.sleeps and current > 0:
            since_s, cooldown_s = (
                (memory.created_s, self.initial_cooldown_s)
                if memory.active_s is None
                else (memory.active_s, self.cooldown_s)
            )
            return (0 if since_s + cooldown_s < now_s else current), memory, "cooldown is over"
        return current if self.sleeps else max(current, self.min_replicas), memory, "below min_replicas"

    def _synced(self, observation: Observation, told: Told, memory: _KedaMemory) -> Decision:
        """What the HPA says that KEDA has made of the ScaledObject."""
        spec, pods, current = self.spec, observation.pods, observation.spec_replicas
        if spec.min_replicas <= current <= spec.max_replicas:  # else the HPA asks for no metric
            memory = memory._replace(failures=self.metrics.counted(told, memory.failures))
        ready = _ready(observation)
        answers_m = self.metrics.answers_m(told, memory.failures, current, ready)
        fallen = self.metrics.fallen(memory.failures, ready)
        metrics = {metric.name: metric for metric in spec.metrics}
        target = ScaleTarget(current, sum(1 for pod in pods if not pod.deleting), pods)
        kubelet = observation.window(self.cpu_window_s, self.cpu_metrics_delay_s) if CPU in metrics else None
        readings = MetricReadings(
            {} if kubelet is None else {metrics[CPU].key: cpu_samples(kubelet)},
            {metrics[name].key: [answer_m] for name, answer_m in answers_m.items()},
        )
        answer = sync(spec, target, readings, memory.hpa, observation.now_s, self.flags)
        wanted = current if answer.desired_replicas is None else answer.desired_replicas
        used = answer.utilization_pct.get(metrics[CPU].key) if CPU in metrics else None
        figures = self._figures({**told.values, CPU: None if used is None else float(used)}, answers_m, fallen)
        reason = answer.error or f"{figures}: {current} -> {wanted}"
        held = answer.held(current, Tolerance.of(spec, self.flags).up)
        load = None if answer.load is None else max(answer.load, 0.0)  # a formula may be negative
        if fallen:  # what the HPA was told was not measured
            held, load = held or ("missing" if wanted == current else None), None
        return Decision(wanted, memory._replace(hpa=answer.history), reason, load, held)

    def _figures(self, values: Mapping[str, float | None], answers_m: Mapping[str, int], fallen: Sequence[str]) -> str:
        """What the HPA was told."""
        modifiers, shown = self.scaling_modifiers, []
        for trigger in self.triggers:
            figure = "falls back" if trigger.metric in fallen else _shown(values[trigger.metric])
            whole = modifiers is None or trigger.metric == CPU
            shown.append(f"{trigger.metric} {figure}" + (f", threshold {trigger.threshold:g}" if whole else ""))
        if modifiers is not None:
            value_m = answers_m.get(COMPOSITE)
            value = None if value_m is None else value_m / 1000
            shown.append(f"formula {_shown(value)}, target {modifiers.target:g}")
        return ", ".join(shown)


def _ready(observation: Observation) -> int:
    return sum(pod.phase == "Running" and bool(pod.ready) for pod in observation.pods)


def _shown(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"
