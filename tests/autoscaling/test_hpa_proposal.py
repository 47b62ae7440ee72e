"""What one metric proposes where pods tell nothing: they are taken as what dampens the change."""

from __future__ import annotations

import pytest

from testbed.autoscaling.hpa.pods import Groups, MetricError, PodSample, PodState
from testbed.autoscaling.hpa.proposal import (
    MetricReadings,
    Proposal,
    Tolerance,
    of_average,
    of_total,
    of_utilization,
    propose,
)
from testbed.autoscaling.hpa.spec import ControllerFlags, MetricSpec

CLOSE = Tolerance(down=0.1, up=0.1)
NONE: frozenset[str] = frozenset()


def samples(**value_m: int) -> dict[str, PodSample]:
    return {name: PodSample(value, 100.0, 30.0) for name, value in value_m.items()}


def test_pods_that_start_use_nothing_when_it_is_to_be_more() -> None:
    measured = samples(a=300, b=300)
    assert of_average(measured, Groups(2, NONE, NONE, NONE), 100, 2, CLOSE).replicas == 6
    starting = Groups(2, frozenset({"c", "d"}), NONE, NONE)
    assert of_average(measured, starting, 100, 4, CLOSE).replicas == 6  # 600 over four is 150, so 1.5 times four
    assert of_average(measured, Groups(2, frozenset({"c", "d", "e", "f"}), NONE, NONE), 100, 6, CLOSE).replicas == 6


def test_missing_pods_use_nothing_when_it_is_to_be_more_and_all_they_may_when_it_is_to_be_less() -> None:
    missing = Groups(2, NONE, frozenset({"c"}), NONE)
    assert of_average(samples(a=300, b=300), missing, 100, 3, CLOSE).replicas == 6
    assert of_average(samples(a=20, b=20), missing, 100, 3, CLOSE).replicas == 2  # (20 + 20 + 100) / 3 is 46
    requests = {"a": 100, "b": 100, "c": 100}
    assert of_utilization(samples(a=20, b=20), missing, requests, 50, 3, CLOSE).replicas == 3  # 140 of 300 is 46 %


def test_exactly_on_target_nothing_is_filled_in() -> None:
    assert of_average(samples(a=100, b=100), Groups(2, frozenset({"c"}), NONE, NONE), 100, 3, CLOSE).replicas == 3
    missing = Groups(2, NONE, frozenset({"c"}), NONE)
    requests = {"a": 100, "b": 100, "c": 100}
    assert of_utilization(samples(a=50, b=50), missing, requests, 50, 3, CLOSE) == Proposal(3, 50, 50)


def test_a_total_from_zero_replicas() -> None:
    assert of_total(500, 200, 0, CLOSE) == Proposal(3, None)
    assert of_total(500, 200, 2, CLOSE) == Proposal(3, 250)
    assert of_total(440, 200, 2, CLOSE) == Proposal(2, 220)  # within the tolerance


def test_what_tells_nothing_is_an_error() -> None:
    metric = MetricSpec(type="Pods", name="load", target_average_value_m=100)
    readings = MetricReadings({metric.key: samples(a=300)}, {})
    pending = PodState("a", "Pending", ready=None, ready_changed_s=0.0, start_s=None)

    def proposed(pods: list[PodState]) -> Proposal:
        return propose(metric, readings, pods, (1, 1), 100.0, CLOSE, ControllerFlags())

    with pytest.raises(MetricError, match="no pods returned by selector"):
        proposed([])
    with pytest.raises(MetricError, match="did not receive metrics for targeted pods"):
        proposed([pending])


@pytest.mark.parametrize("per_direction", [False, True])
def test_the_edge_of_a_tolerance_is_within_it(per_direction: bool) -> None:
    half = Tolerance(down=0.5, up=0.5, per_direction=per_direction)  # exact in binary
    assert half.covers(1.5)
    assert half.covers(0.5)
    assert not half.covers(1.51)
    assert not half.covers(0.49)
