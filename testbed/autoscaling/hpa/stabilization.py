"""What damps a proposed size: stabilization windows, then scaling policies. Pure: the history is a value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from testbed.autoscaling.hpa.proposal import MAX_INT32
from testbed.autoscaling.hpa.spec import Behavior, ControllerFlags, HpaSpec, ScalingRules


class Recommendation(NamedTuple):
    """A size that was wanted, before stabilization."""

    replicas: int
    time_s: float


class ScaleEvent(NamedTuple):
    """A change that was made, without its sign. outdated: older than every policy's period; its place is free."""

    change: int
    time_s: float
    outdated: bool = False


@dataclass(frozen=True)
class History:
    """What the controller remembers of one HPA. recommendations None: it has not looked at it yet."""

    recommendations: tuple[Recommendation, ...] | None = None
    up_events: tuple[ScaleEvent, ...] = ()
    down_events: tuple[ScaleEvent, ...] = ()


class Limited(NamedTuple):
    """A size within its limits, and the reason of the condition ScalingLimited."""

    replicas: int
    reason: str


def stabilize_without_behavior(
    desired: int, recommendations: tuple[Recommendation, ...], window_s: float, now_s: float
) -> tuple[int, tuple[Recommendation, ...]]:
    """The largest recommendation of the window, this one included; and the record with this one in it."""
    young = [recommendation.replicas for recommendation in recommendations if recommendation.time_s >= now_s - window_s]
    old = [k for k, recommendation in enumerate(recommendations) if recommendation.time_s < now_s - window_s]
    return max([desired, *young]), _recorded(recommendations, old, Recommendation(desired, now_s))


def stabilize(
    current: int,
    desired: int,
    recommendations: tuple[Recommendation, ...],
    up_window_s: float,
    down_window_s: float,
    now_s: float,
) -> tuple[int, tuple[Recommendation, ...]]:
    """current, moved into [least wanted during the up window, most wanted during the down window].

    Example: 5 replicas; 8 wanted now, 6 a minute ago; with an up window of 300 s it becomes 6.
    """
    least = min(
        [
            desired,
            *(
                recommendation.replicas
                for recommendation in recommendations
                if recommendation.time_s > now_s - up_window_s
            ),
        ]
    )
    most = max(
        [
            desired,
            *(
                recommendation.replicas
                for recommendation in recommendations
                if recommendation.time_s > now_s - down_window_s
            ),
        ]
    )
    longest_s = max(up_window_s, down_window_s)
    old = [k for k, recommendation in enumerate(recommendations) if recommendation.time_s < now_s - longest_s]
    return min(max(current, least), most), _recorded(recommendations, old, Recommendation(desired, now_s))


def _recorded(record: tuple[Recommendation, ...], old: list[int], new: Recommendation) -> tuple[Recommendation, ...]:
    """The last old entry is overwritten, if there is one: the record does not grow for ever."""
    if not old:
        return (*record, new)
    return (*record[: old[-1]], new, *record[old[-1] + 1 :])


def limit_without_behavior(current: int, desired: int, spec: HpaSpec, flags: ControllerFlags) -> Limited:
    """Between min and max, and at most doubled (or 4)."""
    up_limit = max(flags.scale_up_limit_factor * current, flags.scale_up_limit_minimum)
    if desired < spec.min_replicas:
        return Limited(spec.min_replicas, "TooFewReplicas")
    if desired > min(up_limit, spec.max_replicas):
        reason = "ScaleUpLimit" if up_limit < spec.max_replicas else "TooManyReplicas"
        return Limited(min(up_limit, spec.max_replicas), reason)
    return Limited(desired, "DesiredWithinRange")


def limit(
    current: int, desired: int, bounds: tuple[int, int], behavior: Behavior, history: History, now_s: float
) -> Limited:
    """At most as far as the policies of the direction allow, and within bounds (min, max)."""
    least, most = bounds
    if desired > current:
        up_limit = max(scale_up_limit(current, behavior.scale_up, history, now_s), current)
        allowed, reason = (up_limit, "ScaleUpLimit") if up_limit < most else (most, "TooManyReplicas")
        if desired > allowed:
            return Limited(allowed, reason)
    elif desired < current:
        down_limit = min(scale_down_limit(current, behavior.scale_down, history, now_s), current)
        allowed, reason = (down_limit, "ScaleDownLimit") if down_limit > least else (least, "TooFewReplicas")
        if desired < allowed:
            return Limited(allowed, reason)
    return Limited(desired, "DesiredWithinRange")


def scale_up_limit(current: int, rules: ScalingRules, history: History, now_s: float) -> int:
    """Most replicas that the policies allow now; it may be below current after quick changes.

    Example: 10 now, 4 of them added 20 s ago; "6 pods in 60 s" started from 6, so 12 are allowed.
    """
    return _limit(
        current,
        rules,
        history,
        now_s,
        pods=lambda start, value: start + value,
        percent=lambda start, value: min(math.ceil(start * (1 + value / 100)), MAX_INT32),
        farthest=max,
        nearest=min,
    )


def scale_down_limit(current: int, rules: ScalingRules, history: History, now_s: float) -> int:
    """Fewest replicas that the policies allow now."""
    return _limit(
        current,
        rules,
        history,
        now_s,
        pods=lambda start, value: start - value,
        percent=lambda start, value: int(start * (1 - value / 100)),
        farthest=min,
        nearest=max,
    )


def _limit(
    current: int,
    rules: ScalingRules,
    history: History,
    now_s: float,
    *,
    pods: Callable[[int, int], int],
    percent: Callable[[int, int], int],
    farthest: Callable[[list[int]], int],
    nearest: Callable[[list[int]], int],
) -> int:
    """selectPolicy Max takes the farthest limit, Min the nearest."""
    if rules.select_policy == "Disabled":
        return current
    proposed = []
    for policy in rules.policies:
        start = current
        start -= change_within(history.up_events, policy.period_s, now_s)
        start += change_within(history.down_events, policy.period_s, now_s)
        proposed.append((pods if policy.type == "Pods" else percent)(start, policy.value))
    return (nearest if rules.select_policy == "Min" else farthest)(proposed)


def change_within(events: tuple[ScaleEvent, ...], period_s: float, now_s: float) -> int:
    """Sum of the changes that are strictly younger than the period."""
    return sum(event.change for event in events if event.time_s > now_s - period_s)


def record_change(history: History, behavior: Behavior | None, before: int, after: int, now_s: float) -> History:
    """Remember a change for the policies; without behavior nobody would ask for it."""
    if behavior is None or after == before:
        return history
    if after > before:
        return replace(history, up_events=_with_event(history.up_events, behavior.scale_up, after - before, now_s))
    return replace(history, down_events=_with_event(history.down_events, behavior.scale_down, before - after, now_s))


def _with_event(
    events: tuple[ScaleEvent, ...], rules: ScalingRules, change: int, now_s: float
) -> tuple[ScaleEvent, ...]:
    longest_s = max(policy.period_s for policy in rules.policies)
    marked = [event._replace(outdated=event.outdated or event.time_s < now_s - longest_s) for event in events]
    free = [k for k, event in enumerate(marked) if event.outdated]
    new = ScaleEvent(change, now_s)
    if free:
        marked[free[-1]] = new
    else:
        marked.append(new)
    return tuple(marked)
