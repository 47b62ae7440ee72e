"""The HPA's limits and records at their edges, with the reasons that Kubernetes gives."""

from __future__ import annotations

import pytest

from testbed.autoscaling.hpa.spec import Behavior, ControllerFlags, HpaSpec, ScalingPolicy, ScalingRules
from testbed.autoscaling.hpa.stabilization import (
    History,
    Recommendation,
    ScaleEvent,
    limit,
    limit_without_behavior,
    record_change,
    stabilize,
    stabilize_without_behavior,
)

IN_RANGE = "DesiredWithinRange"
BY_PODS = Behavior(
    scale_up=ScalingRules(policies=(ScalingPolicy(type="Pods", value=4, period_s=15),)),
    scale_down=ScalingRules(policies=(ScalingPolicy(type="Pods", value=2, period_s=15),)),
)


@pytest.mark.parametrize(
    ("current", "desired", "limited"),
    [
        (3, 1, (2, "TooFewReplicas")),
        (3, 2, (2, IN_RANGE)),
        (3, 6, (6, IN_RANGE)),
        (3, 7, (6, "ScaleUpLimit")),  # doubled
        (4, 8, (8, IN_RANGE)),
        (4, 9, (8, "TooManyReplicas")),  # as many as the limit of a step allows
    ],
)
def test_without_behavior(current: int, desired: int, limited: tuple[int, str]) -> None:
    spec = HpaSpec(min_replicas=2, max_replicas=8)
    assert limit_without_behavior(current, desired, spec, ControllerFlags()) == limited


@pytest.mark.parametrize(
    ("current", "desired", "bounds", "limited"),
    [
        (3, 7, (1, 8), (7, IN_RANGE)),
        (3, 8, (1, 8), (7, "ScaleUpLimit")),
        (3, 7, (1, 7), (7, IN_RANGE)),
        (3, 8, (1, 7), (7, "TooManyReplicas")),
        (5, 3, (2, 8), (3, IN_RANGE)),
        (5, 2, (2, 8), (3, "ScaleDownLimit")),
        (5, 3, (3, 8), (3, IN_RANGE)),
        (5, 2, (3, 8), (3, "TooFewReplicas")),
        (5, 5, (1, 4), (5, IN_RANGE)),  # no direction: bounds are another rule's
        (2, 2, (3, 8), (2, IN_RANGE)),
    ],
)
def test_with_behavior(current: int, desired: int, bounds: tuple[int, int], limited: tuple[int, str]) -> None:
    assert limit(current, desired, bounds, BY_PODS, History(), 100.0) == limited


def test_a_recommendation_of_exactly_a_window_ago_counts_and_keeps_its_place() -> None:
    before, now = Recommendation(5, 0.0), Recommendation(3, 300.0)
    assert stabilize_without_behavior(3, (before,), 300.0, 300.0) == (5, (before, now))
    assert stabilize_without_behavior(3, (before,), 299.0, 300.0) == (3, (now,))


def test_with_behavior_it_counts_no_more_but_keeps_its_place() -> None:
    before, now = Recommendation(5, 0.0), Recommendation(3, 300.0)
    assert stabilize(5, 3, (before,), 0.0, 300.0, 300.0) == (3, (before, now))
    assert stabilize(5, 3, (before,), 0.0, 299.0, 300.0) == (3, (now,))


def test_a_change_of_exactly_a_period_ago_counts_no_more_but_keeps_its_place() -> None:
    history = History(up_events=(ScaleEvent(3, 85.0),))
    assert limit(5, 20, (1, 30), BY_PODS, history, 100.0) == (9, "ScaleUpLimit")
    assert record_change(history, BY_PODS, 5, 9, 100.0).up_events == (ScaleEvent(3, 85.0), ScaleEvent(4, 100.0))
    assert record_change(history, BY_PODS, 5, 9, 101.0).up_events == (ScaleEvent(4, 101.0),)


def test_percents_are_exact_of_many_replicas() -> None:
    rules = ScalingRules(policies=(ScalingPolicy(type="Percent", value=100, period_s=15),))
    behavior = Behavior(scale_up=rules, scale_down=rules)
    assert limit(200, 500, (0, 500), behavior, History(), 100.0) == (400, "ScaleUpLimit")
    assert limit(200, 0, (0, 500), behavior, History(), 100.0) == (0, IN_RANGE)
