"""The Horizontal Pod Autoscaler; its algorithm is in testbed/autoscaling/hpa/."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from testbed.autoscaling.hpa.controller import ScaleTarget, Sync, sync
from testbed.autoscaling.hpa.pods import PodSample
from testbed.autoscaling.hpa.proposal import MetricReadings, Tolerance
from testbed.autoscaling.hpa.spec import ControllerFlags, HpaSpec, MetricSpec
from testbed.autoscaling.hpa.stabilization import History
from testbed.autoscaling.metrics import METRICS, SERVICE_METRICS, did_you_mean, is_metric, milli, of_all, of_each
from testbed.autoscaling.observation import Observation, Window
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.search import ServedService, Trial
from testbed.config import WHOLE_HPA
from testbed.errors import ConfigError

DEFAULT_FLAGS = ControllerFlags()
SEARCHED = ("in_flight_requests", "requests_per_second", "queue_time_ms", "gpu_utilisation_pct")
TOLERANCE_SINCE = 35  # Kubernetes 1.x, from which on an HPA may have tolerances of its own without a feature gate
LONGEST_WINDOW_S = 3600  # that the API takes


def searched_behavior(trial: Trial, service: ServedService, flags: ControllerFlags) -> dict[str, Any]:
    """An HPA's behaviour in a trial, relative to the service's start-up time and to the largest number of replicas."""
    down_window_s = service.provisioning_delay_s * trial.suggest_float("down_window", 0.5, 60.0, log=True)
    rules: dict[str, dict[str, Any]] = {
        "scale_up": {"stabilization_window_s": 0},
        "scale_down": {"stabilization_window_s": min(round(down_window_s), LONGEST_WINDOW_S)},
    }
    down_pods = trial.suggest_int("down_pods", 1, service.max_replicas)
    for (direction, rule), pods in zip(rules.items(), (service.max_replicas, down_pods), strict=True):
        rule["policies"] = [{"type": "Pods", "value": pods, "period_s": max(1, round(flags.sync_period_s))}]
        if flags.kubernetes_minor >= TOLERANCE_SINCE:
            rule["tolerance"] = round(trial.suggest_float(f"{direction}_tolerance", 0.0, 0.5), 3)
    return rules


LARGEST = 1e15  # target: Kubernetes keeps thousandths in 64 bits


@policy("hpa")
@dataclass(frozen=True)
class Hpa:
    """The Horizontal Pod Autoscaler on metrics of the testbed's adapter, and on CPU.

    Those are METRICS: of each pod for a Pods metric, of all of them for an External or Object one. window_s: over which
    the adapter averages; metrics_delay_s: how old the newest sample is when the HPA sees it (the default is
    prometheus-adapter's, of its scrape interval and relist; `kis adapter` answers with what it scraped last: 0). CPU
    (Resource, or ContainerResource of container `server`) comes through kubelet and metrics-server: with its window, 27
    s old on average. sync_takes_s: the next sync comes sync_period_s after this one has ended. So what lay at the edge
    of a window of some periods is no longer in it.
    """

    told: ClassVar[str] = "one metric of the pods"
    short_keys: ClassVar[tuple[str, ...]] = ("metric", "target", "tuned", "min_replicas", "max_replicas", "behavior")

    spec: HpaSpec
    flags: ControllerFlags = DEFAULT_FLAGS
    window_s: float = 15.0
    metrics_delay_s: float = 15.0
    cpu_window_s: float = 15.0
    cpu_metrics_delay_s: float = 19.5
    sync_takes_s: float = 0.01
    name: str = "hpa"

    def __post_init__(self) -> None:
        for metric in self.spec.metrics:
            of_cpu, of_service = metric.type in ("Resource", "ContainerResource"), metric.type in ("Object", "External")
            if not (metric.name == "cpu" if of_cpu else is_metric(metric.name, of_service=of_service)):
                near, service = did_you_mean(metric.name), ", ".join(SERVICE_METRICS)
                raise ConfigError(
                    f"HPA metric {metric.key}: {near}the testbed offers cpu, and as Pods, Object and External metrics "
                    f"{', '.join(METRICS.known())}; not of pods, but of a whole service (Object, External): {service}"
                )

    @classmethod
    def settings_from(cls, given: dict[str, Any], max_replicas: int) -> dict[str, Any]:
        """With a whole spec, also where `metric` and `target` of one Pods metric were given, its mean to be held."""
        if "spec" not in given and "metric" not in given and given.keys() <= {"target", *cls.__dataclass_fields__}:
            raise ConfigError(
                "policy hpa: give metric and target (hpa:metric=queue_time_ms,target=5), tuned (a tuned.json of kis "
                f"tune), or a whole spec as YAML ({WHOLE_HPA})"
            )
        if "metric" not in given:
            return given
        given = {"max_replicas": max_replicas, **given}
        metric, target = given.pop("metric"), given.pop("target", None)
        if not isinstance(target, (int, float)) or not 0 < target < LARGEST:
            raise ConfigError(
                f"policy hpa: metric goes with a target above 0, not {target!r}, and below {LARGEST:g}: give both, or "
                f"a whole spec ({WHOLE_HPA})"
            )
        given.setdefault("name", f"hpa-{metric}-{target:g}")
        names = ("min_replicas", "max_replicas", "behavior")
        spec: dict[str, Any] = {name: given.pop(name) for name in names if name in given}
        spec["metrics"] = [{"type": "Pods", "name": metric, "target_average_value_m": milli(target)}]
        return {**given, "spec": spec}

    @classmethod
    def first_tried(cls, service: ServedService) -> list[dict[str, Any]]:
        """See testbed.autoscaling.search: each metric at a tenth, a third and two thirds of its range."""
        starts = []
        for metric in SEARCHED:
            low, high = METRICS.find(metric).targets(service.replica)
            starts += [
                {
                    "metric": metric,
                    f"target_{metric}": low * (high / low) ** place,
                    "min_replicas": 1,
                    "down_window": 10.0,
                }
                for place in (0.1, 0.35, 0.7)
            ]
        return starts

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        flags, most = ControllerFlags(**given.get("flags", {})), service.max_replicas
        metric = given.get("metric") or trial.suggest_categorical("metric", list(SEARCHED))
        return {
            "metric": metric,
            "target": trial.suggest_float(f"target_{metric}", *METRICS.find(metric).targets(service.replica), log=True),
            "min_replicas": trial.suggest_int("min_replicas", 1, most),
            "max_replicas": most,
            "behavior": searched_behavior(trial, service, flags),
            "window_s": service.window_s,
            "metrics_delay_s": service.metrics_delay_s,
        }

    @property
    def min_replicas(self) -> int:
        """Of the object."""
        return self.spec.min_replicas

    @property
    def period_s(self) -> float:
        """See Policy."""
        return self.flags.sync_period_s + self.sync_takes_s

    def decide(self, observation: Observation, memory: History | None) -> Decision:
        """See Policy."""
        target = ScaleTarget(
            observation.spec_replicas, sum(1 for pod in observation.pods if not pod.deleting), observation.pods
        )
        readings = self._readings(observation)
        answer = sync(self.spec, target, readings, memory or History(), observation.now_s, self.flags)
        wanted = observation.spec_replicas if answer.desired_replicas is None else answer.desired_replicas
        figures = ", ".join(_figure(metric, readings, answer) for metric in self.spec.metrics)
        limits = [
            why
            for name, (status, why) in answer.conditions.items()
            if (name == "ScalingLimited" and status == "True") or why.endswith("Stabilized")
        ]
        change = f"{observation.spec_replicas} -> {wanted}" + (f" ({', '.join(limits)})" if limits else "")
        held = answer.held(observation.spec_replicas, Tolerance.of(self.spec, self.flags).up)
        return Decision(wanted, answer.history, answer.error or f"{figures}: {change}", answer.load, held)

    def _readings(self, observation: Observation) -> MetricReadings:
        adapter, kubelet = (
            observation.window(self.window_s, self.metrics_delay_s),
            observation.window(self.cpu_window_s, self.cpu_metrics_delay_s),
        )
        per_pod: dict[str, dict[str, PodSample]] = {}
        values: dict[str, list[int]] = {}
        for metric in self.spec.metrics:
            is_cpu = metric.type in ("Resource", "ContainerResource")
            window = kubelet if is_cpu else adapter
            if window is None:
                continue
            if metric.type in ("Object", "External"):
                total = of_all(metric.name, window)
                if total is not None:
                    values[metric.key] = [milli(total)]
                continue
            if is_cpu:
                per_pod[metric.key] = cpu_samples(window)
                continue
            per_pod[metric.key] = {
                pod: PodSample(milli(value), window.end_s, window.seconds)
                for pod, value in of_each(metric.name, window).items()
            }
        return MetricReadings(per_pod, values)


def cpu_samples(window: Window) -> dict[str, PodSample]:
    """Cores that each pod used, in milli-units; a pod of which that is not known is not there."""
    cores = {pod: float(used) for pod, used in zip(window.pods, window.cpu_cores, strict=True)}
    return {
        pod: PodSample(milli(used), window.end_s, window.seconds) for pod, used in cores.items() if math.isfinite(used)
    }


def _figure(metric: MetricSpec, readings: MetricReadings, answer: Sync) -> str:
    """What a metric was, beside its target: `queue_time_ms 9.8 a pod, target 5`."""
    if metric.target_utilization_pct is not None:
        percent = answer.utilization_pct.get(metric.key)
        return f"{metric.name} {percent} % of the request, target {metric.target_utilization_pct} %"
    target_m = metric.target_value_m if metric.target_average_value_m is None else metric.target_average_value_m
    assert target_m is not None  # a metric has exactly one target
    per_pod = [sample.value_m for sample in readings.per_pod.get(metric.key, {}).values()]
    total = readings.values.get(metric.key, ())
    value_m = sum(per_pod) / len(per_pod) if per_pod else sum(total) if total else None
    shown = "not known" if value_m is None else f"{value_m / 1e3:.4g}"
    each = " a pod" if per_pod else ""
    return f"{metric.name} {shown}{each}, target {target_m / 1e3:g}"
