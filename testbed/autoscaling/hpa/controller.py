"""One sync of the HPA: what is read, what was remembered and the time -> the wanted size and what to remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

from testbed.autoscaling.hpa.pods import MetricError, PodState
from testbed.autoscaling.hpa.proposal import MetricReadings, Proposal, Tolerance, propose
from testbed.autoscaling.hpa.spec import ControllerFlags, HpaSpec, MetricSpec, MetricType
from testbed.autoscaling.hpa.stabilization import (
    History,
    Recommendation,
    limit,
    limit_without_behavior,
    record_change,
    stabilize,
    stabilize_without_behavior,
)

Held = Literal["missing", "tolerance", "stabilised", "limited", "max"]
Condition = tuple[str, str]  # status ("True", "False") and reason


@dataclass(frozen=True)
class ScaleTarget:
    """The deployment's scale, and the pods that it selects; None: its selector selects nothing that makes sense."""

    spec_replicas: int
    status_replicas: int
    pods: Sequence[PodState] | None


class Sync(NamedTuple):
    """What one sync ends with. error: why metrics were missing, even if the others were enough to go on."""

    desired_replicas: int | None  # None: the scale is not known, leave it
    history: History
    conditions: Mapping[str, Condition]
    utilization_pct: Mapping[str, int | None]  # by metric key; only metrics that were read
    error: str | None = None
    load: float | None = None  # the largest of the metrics over their targets

    def held(self, current: int, tolerance: float) -> Held | None:
        """What kept it from going further up. tolerance: that of the way up."""
        status, why = self.conditions.get("ScalingActive", ("", ""))
        if status == "False":
            return "missing" if why.startswith("FailedGet") else None
        status, why = self.conditions.get("ScalingLimited", ("", ""))
        if status == "True" and why in ("TooManyReplicas", "ScaleUpLimit"):
            return "max" if why == "TooManyReplicas" else "limited"
        if self.conditions["AbleToScale"][1] == "ScaleUpStabilized":
            return "stabilised"
        stays = self.desired_replicas == current and self.load is not None
        return "tolerance" if stays and 1 < (self.load or 0) <= 1 + tolerance else None


@dataclass
class _Conditions:
    of: dict[str, Condition] = field(default_factory=dict)

    def set(self, name: str, status: str, reason: str) -> None:
        self.of[name] = (status, reason)


def sync(
    spec: HpaSpec,
    target: ScaleTarget | None,
    readings: MetricReadings,
    history: History,
    now_s: float,
    flags: ControllerFlags | None = None,
) -> Sync:
    """Decide once. target None: the scale could not be read. Nothing is changed here: the caller scales.

    The decision is recorded as made: hand `history` of the answer to the next call.
    """
    flags = flags or ControllerFlags()
    conditions = _Conditions()
    if target is None:
        conditions.set("AbleToScale", "False", "FailedGetScale")
        return Sync(None, history, conditions.of, {}, "the scale of the target could not be read")
    current = target.spec_replicas
    conditions.set("AbleToScale", "True", "SucceededGetScale")
    if history.recommendations is None:  # after a restart a scale-down waits for a whole window
        history = replace(history, recommendations=(Recommendation(current, now_s),))
    if current == 0 and spec.min_replicas != 0:
        conditions.set("ScalingActive", "False", "ScalingDisabled")
        return Sync(0, history, conditions.of, {})
    proposals: list[tuple[MetricSpec, Proposal]] = []
    error = None
    if not spec.min_replicas <= current <= spec.max_replicas:  # back into bounds, whatever the metrics say
        desired = min(max(current, spec.min_replicas), spec.max_replicas)
    else:
        wanted, proposals, error = _largest_proposal(spec, target, readings, now_s, flags, conditions)
        if wanted is None:
            return Sync(current, history, conditions.of, _percentages(proposals), error, _load(proposals))
        desired, history = _damped(spec, current, wanted, history, now_s, flags, conditions)
    if desired != current:
        conditions.set("AbleToScale", "True", "SucceededRescale")
        history = record_change(history, spec.behavior, current, desired, now_s)
    return Sync(desired, history, conditions.of, _percentages(proposals), error, _load(proposals))


def _percentages(proposals: Sequence[tuple[MetricSpec, Proposal]]) -> dict[str, int | None]:
    return {metric.key: proposal.utilization_pct for metric, proposal in proposals}


def _load(proposals: Sequence[tuple[MetricSpec, Proposal]]) -> float | None:
    """The largest of the metrics over their targets."""
    shares = []
    for metric, proposal in proposals:
        percent = metric.target_utilization_pct is not None
        usage = proposal.utilization_pct if percent else proposal.usage_m
        target = metric.target_utilization_pct or metric.target_average_value_m or metric.target_value_m
        if usage is not None and target:
            shares.append(usage / target)
    return max(shares, default=None)


def _largest_proposal(
    spec: HpaSpec,
    target: ScaleTarget,
    readings: MetricReadings,
    now_s: float,
    flags: ControllerFlags,
    conditions: _Conditions,
) -> tuple[int | None, list[tuple[MetricSpec, Proposal]], str | None]:
    """The largest size that a metric proposes; None if it cannot be trusted: all failed, or some did and the others
    would scale down."""
    if target.pods is None:
        conditions.set("ScalingActive", "False", "InvalidSelector")
        return None, [], "the target's selector is missing or cannot be parsed"
    tolerance = Tolerance.of(spec, flags)
    proposals: list[tuple[MetricSpec, Proposal]] = []  # two may have one key, and other targets
    failed: list[tuple[str, str]] = []  # reason of the condition, and what went wrong
    replicas = (target.spec_replicas, target.status_replicas)
    for metric in spec.metrics:
        try:
            proposals.append((metric, propose(metric, readings, target.pods, replicas, now_s, tolerance, flags)))
        except MetricError as problem:
            known = metric.type in get_args(MetricType)
            failed.append((f"FailedGet{metric.type}Metric" if known else "InvalidMetricSourceType", str(problem)))
    error = f"invalid metrics ({len(failed)} of {len(spec.metrics)}), first: {failed[0][1]}" if failed else None
    largest = max((proposal.replicas for _, proposal in proposals), default=None)
    if largest is None or (failed and largest < target.spec_replicas):
        if failed:
            conditions.set("ScalingActive", "False", failed[0][0])
        return None, proposals, error or "the HPA names no metric"
    conditions.set("ScalingActive", "True", "ValidMetricFound")
    return largest, proposals, error


def _damped(
    spec: HpaSpec,
    current: int,
    wanted: int,
    history: History,
    now_s: float,
    flags: ControllerFlags,
    conditions: _Conditions,
) -> tuple[int, History]:
    """Stabilized, then limited; the unstabilized size is what is recorded."""
    record = history.recommendations or ()
    if spec.behavior is None:
        stable, record = stabilize_without_behavior(wanted, record, flags.downscale_stabilization_s, now_s)
        reason = "ScaleDownStabilized"
        limited = limit_without_behavior(current, stable, spec, flags)
    else:
        windows = [rules.stabilization_window_s for rules in (spec.behavior.scale_up, spec.behavior.scale_down)]
        up_s = windows[0] if windows[0] is not None else 0.0
        down_s = windows[1] if windows[1] is not None else flags.downscale_stabilization_s
        stable, record = stabilize(current, wanted, record, up_s, down_s, now_s)
        reason = "ScaleUpStabilized" if wanted >= current else "ScaleDownStabilized"
        limited = limit(current, stable, (spec.min_replicas, spec.max_replicas), spec.behavior, history, now_s)
    conditions.set("AbleToScale", "True", reason if stable != wanted else "ReadyForNewScale")
    conditions.set("ScalingLimited", "True" if limited.replicas != stable else "False", limited.reason)
    return limited.replicas, replace(history, recommendations=record)
