"""What one metric proposes: a number of replicas. Go's integer arithmetic is kept, where it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from testbed.autoscaling.hpa.pods import Groups, MetricError, PodSample, PodState, group_pods, request_of
from testbed.autoscaling.hpa.spec import ControllerFlags, HpaSpec, MetricSpec

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
TOLERANCE_PER_DIRECTION = 33  # Kubernetes 1.33 and later


@dataclass(frozen=True)
class Tolerance:
    """How far usage may be from its target without a change. per_direction: the comparison of Kubernetes >= 1.33."""

    down: float
    up: float
    per_direction: bool = True

    @classmethod
    def of(cls, spec: HpaSpec, flags: ControllerFlags) -> Tolerance:
        """The HPA's own where it has one and the version knows it, else the controller's flag."""
        if flags.kubernetes_minor < TOLERANCE_PER_DIRECTION:
            return cls(flags.tolerance, flags.tolerance, per_direction=False)
        rules = (spec.behavior.scale_down, spec.behavior.scale_up) if spec.behavior else (None, None)
        own = [flags.tolerance if rule is None or rule.tolerance is None else rule.tolerance for rule in rules]
        return cls(down=own[0], up=own[1])

    def covers(self, ratio: float) -> bool:
        """True if the ratio is close enough to 1. Both forms in floating point: at a tolerance of .1 they differ at
        a ratio of 1.1 (|1 - 1.1| is a little more than .1)."""
        if self.per_direction:
            return 1.0 - self.down <= ratio <= 1.0 + self.up
        return abs(1.0 - ratio) <= self.down


class Proposal(NamedTuple):
    """usage_m: of the average pod, or of the object; utilization_pct: only where the target is one."""

    replicas: int
    usage_m: int | None
    utilization_pct: int | None = None


@dataclass(frozen=True)
class MetricReadings:
    """What the metrics APIs answer at one sync, by MetricSpec.key; a key that is not there could not be had.

    per_pod: a sample for each pod that has one. values: of an Object (one) or External (any number, summed) metric.
    """

    per_pod: Mapping[str, Mapping[str, PodSample]]
    values: Mapping[str, Sequence[int]]


def propose(
    metric: MetricSpec,
    readings: MetricReadings,
    pods: Sequence[PodState],
    replicas: tuple[int, int],
    now_s: float,
    tolerance: Tolerance,
    flags: ControllerFlags,
) -> Proposal:
    """The size that one metric asks for. replicas: those of the scale's spec and of its status.

    MetricError if the metric or the pods tell nothing.
    """
    current, in_status = replicas
    if metric.type in ("Object", "External"):
        values = readings.values.get(metric.key)
        if not values:
            raise MetricError(f"unable to get {metric.key}: no metrics returned")
        usage_m = sum(values)
        if metric.target_average_value_m is not None:
            return of_total(usage_m, metric.target_average_value_m, in_status, tolerance)
        assert metric.target_value_m is not None
        return of_value(usage_m, metric.target_value_m, current, pods, tolerance)
    if metric.type not in ("Resource", "ContainerResource", "Pods"):
        raise MetricError(f"unknown metric source type {metric.type}")
    samples = readings.per_pod.get(metric.key)
    if not samples:
        raise MetricError(f"unable to get {metric.key}: no metrics returned")
    resource = metric.name if metric.type != "Pods" else ""
    groups = group_pods(_some(pods), samples, resource, now_s, flags)
    if metric.target_utilization_pct is not None:
        requests = {pod.name: request_of(pod, metric.name, metric.container) for pod in pods}
        return of_utilization(samples, groups, requests, metric.target_utilization_pct, current, tolerance)
    assert metric.target_average_value_m is not None
    return of_average(samples, groups, metric.target_average_value_m, current, tolerance)


def of_utilization(
    samples: Mapping[str, PodSample],
    groups: Groups,
    requests_m: Mapping[str, int],
    target_pct: int,
    current: int,
    tolerance: Tolerance,
) -> Proposal:
    """Usage as an integer percentage of the requests, against a target percentage.

    Example: usage 1,010 m of requests 3,000 m is 33 %, not 33.7; against 30 % a ratio of 1.1.
    """
    usage_m = _counted(samples, groups)

    def totals(values: Mapping[str, int]) -> tuple[int, int, int]:
        known = [name for name in values if name in requests_m]
        requested = sum(requests_m[name] for name in known)
        if requested == 0:
            raise MetricError("no metrics returned matched known pods")
        return sum(values[name] for name in known), requested, len(known)

    def percent(values: Mapping[str, int]) -> int:
        used, requested, _ = totals(values)
        return used * 100 // requested

    full = {name: requests_m[name] * max(100, target_pct) // 100 for name in groups.missing}
    replicas = _resized(usage_m, groups, current, tolerance, lambda values: percent(values) / target_pct, full)
    used, _, known = totals(usage_m)
    return Proposal(replicas, used // known, percent(usage_m))


def of_average(
    samples: Mapping[str, PodSample], groups: Groups, target_m: int, current: int, tolerance: Tolerance
) -> Proposal:
    """The integer mean over the pods that count, against a target."""
    usage_m = _counted(samples, groups)

    def mean_m(values: Mapping[str, int]) -> int:
        return sum(values.values()) // len(values)

    on_target = dict.fromkeys(groups.missing, target_m)
    replicas = _resized(usage_m, groups, current, tolerance, lambda values: mean_m(values) / target_m, on_target)
    return Proposal(replicas, mean_m(usage_m))


def of_value(usage_m: int, target_m: int, current: int, pods: Sequence[PodState], tolerance: Tolerance) -> Proposal:
    """One value for all, against a target: the pods that are ready are scaled by the ratio."""
    ratio = usage_m / target_m
    if current == 0:  # from zero: no pod is ready, and no tolerance holds back
        return Proposal(_ceil(ratio), usage_m)
    if tolerance.covers(ratio):
        return Proposal(current, usage_m)
    ready = sum(pod.phase == "Running" and bool(pod.ready) for pod in _some(pods))
    return Proposal(_ceil(ratio * ready), usage_m)


def of_total(usage_m: int, target_m: int, in_status: int, tolerance: Tolerance) -> Proposal:
    """A total, against a target for each replica of the status; readiness does not matter."""
    if in_status == 0:
        return Proposal(_ceil(usage_m / target_m), None)
    average_m = min(math.ceil(usage_m / in_status), MAX_INT64)
    close = tolerance.covers(usage_m / (float(target_m) * in_status))
    return Proposal(in_status if close else _ceil(usage_m / target_m), average_m)


def _resized(
    usage_m: Mapping[str, int],
    groups: Groups,
    current: int,
    tolerance: Tolerance,
    ratio_of: Callable[[Mapping[str, int]], float],
    missing_if_low_m: Mapping[str, int],
) -> int:
    """Replicas by the ratio of usage to target. Pods that tell nothing are taken as what dampens the change.

    missing_if_low_m: what missing pods are taken to use if usage is below target; above it, they use nothing.
    """
    ratio = ratio_of(usage_m)
    starting = bool(groups.unready) and ratio > 1
    if not starting and not groups.missing:
        return current if tolerance.covers(ratio) else _ceil(ratio * groups.ready_count)
    filled = dict(usage_m)
    if ratio < 1:
        filled.update(missing_if_low_m)
    elif ratio > 1:
        filled.update(dict.fromkeys(groups.missing, 0))
    if starting:
        filled.update(dict.fromkeys(groups.unready, 0))
    damped = ratio_of(filled)
    turned = (ratio < 1 < damped) or (damped < 1 < ratio)
    if turned or tolerance.covers(damped):
        return current
    wanted = _ceil(damped * len(filled))
    wrong_way = (damped < 1 and wanted > current) or (damped > 1 and wanted < current)
    return current if wrong_way else wanted


def _counted(samples: Mapping[str, PodSample], groups: Groups) -> dict[str, int]:
    """Usage of the pods that count; samples of pods that nobody listed count as well, as in the controller."""
    usage_m = {name: sample.value_m for name, sample in samples.items() if name not in groups.ignored | groups.unready}
    if not usage_m:
        raise MetricError("did not receive metrics for targeted pods (pods might be unready)")
    return usage_m


def _some(pods: Sequence[PodState]) -> Sequence[PodState]:
    if not pods:
        raise MetricError("no pods returned by selector while calculating replica count")
    return pods


def _ceil(replicas: float) -> int:
    return min(math.ceil(replicas), MAX_INT32)
