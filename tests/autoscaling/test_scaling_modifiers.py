"""KEDA's scalingModifiers: one metric in place of those of the triggers, for the HPA and for activation."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.spec import MetricSpec
from testbed.autoscaling.policies import Keda
from tests.autoscaling.scene import Flowing, Scene, play

# In the scene as many wait as are in flight. The thresholds would want a thousand pods.
FLIGHT = {"metric": "in_flight_requests", "threshold": 0.01, "name": "flight"}
QUEUE = {"metric": "pending_requests", "threshold": 0.01, "name": "queue"}
NEVER_KNOWN = {"metric": "arrivals_per_second", "threshold": 0.01}
AT_ONCE = {"scale_down": {"stabilization_window_s": 0}}


def keda(formula: str, target: float, *others: dict[str, Any], **changes: Any) -> Keda:
    own = {key: changes.pop(key) for key in ("activation_target", "metric_type") if key in changes}
    settings = {"triggers": [FLIGHT, QUEUE, *others], "min_replicas": 1, "behavior": AT_ONCE, **changes}
    modifiers = {"formula": formula, "target": target, **own}
    built: Keda = build_policy({"kind": "keda", "scaling_modifiers": modifiers} | settings, 20, None)
    return built


def test_the_hpa_sees_the_formula_alone() -> None:
    """12 in flight and 12 waiting: 12 + 2 * 12 = 36, of 6 each."""
    policy = keda("flight + 2 * queue", 6)
    decision = policy.decide(Scene(500.0, 4, lambda t: 12.0), None)
    assert decision.replicas == 6
    assert decision.reason == "in_flight_requests 12, pending_requests 12, formula 36, target 6: 4 -> 6"
    assert decision.load == pytest.approx(1.5)  # 9 of each of the 4, of 6


def test_a_value_is_of_all_and_multiplies_the_ready_pods() -> None:
    """36 of 18 is twice the target: 3 pods become 6, 4 become 8."""
    policy = keda("flight + 2 * queue", 18, metric_type="Value")
    assert [policy.decide(Scene(500.0, n, lambda t: 12.0), None).replicas for n in (3, 4)] == [6, 8]


def test_cpu_stays_beside_the_formula() -> None:
    """12 in flight are 1.2 cores of 2, which is 60 %; of 20 % that is 3 times as many."""
    cpu = {"metric": "cpu", "threshold": 20}
    policy = keda("flight + queue", 24, cpu)
    assert policy.spec.metrics == (
        MetricSpec(type="Resource", name="cpu", target_utilization_pct=20),
        MetricSpec(type="External", name="composite-metric", target_average_value_m=24_000),
    )
    decision = policy.decide(Scene(500.0, 2, lambda t: 12.0), None)
    assert decision.replicas == 6
    assert "cpu 60, threshold 20, formula 24, target 24: 2 -> 6" in decision.reason


def test_the_formula_is_active_above_its_own_activation() -> None:
    """24 at each poll, at 30 s and every 30 s; sleeps when it never was active. The triggers are above theirs."""

    def changes(activation: float) -> list[tuple[float, int]]:
        policy = keda("flight + queue", 24, min_replicas=0, activation_target=activation)
        return play(policy, lambda t: 12.0, 200, start=1)

    assert changes(23.9) == []
    assert changes(24.0) == [(45, 0)]


def test_a_formula_has_no_value_while_a_trigger_has_none_named_or_not() -> None:
    known = keda("flight", 2)
    assert known.decide(Scene(500.0, 4, lambda t: 12.0), None).replicas == 6
    decision = keda("flight", 2, NEVER_KNOWN).decide(Scene(500.0, 4, lambda t: 12.0), None)
    assert decision.replicas == 4
    assert "unable to get External/composite-metric" in decision.reason
    assert decision.held == "missing"


def test_it_falls_back_where_one_of_its_triggers_does() -> None:
    """7 replicas, with the target of 2 each."""
    failing = {**NEVER_KNOWN, "ignore_null_values": False}
    policy = keda("flight", 2, failing, fallback={"failure_threshold": 0, "replicas": 7})
    decision = policy.decide(Scene(500.0, 4, lambda t: 12.0), None)
    assert decision.replicas == 7
    assert decision.reason == (
        "in_flight_requests 12, pending_requests 12, arrivals_per_second falls back, formula 14, target 2: 4 -> 7"
    )


@pytest.mark.parametrize(("threshold", "activation", "active"), [(0, 13.9, True), (0, 14.0, False), (1, 0.0, False)])
def test_its_fallback_is_active_above_the_activation_and_a_failure_is_not(
    threshold: int, activation: float, active: bool
) -> None:
    """The fallback is 7 replicas of 2 each; up to the threshold it is a failure."""
    failing = {**NEVER_KNOWN, "ignore_null_values": False}
    fallback = {"failure_threshold": threshold, "replicas": 7}
    metrics = keda("flight", 2, failing, fallback=fallback, activation_target=activation).metrics
    told = metrics.told({"in_flight_requests": 12.0, "pending_requests": 12.0, "arrivals_per_second": None}, lost=False)
    state = metrics.state(told, metrics.counted(told, {}), 0, 0)
    assert (bool(state.active), state.failed, state.unknown) == (active, threshold == 1, False)


def test_it_is_not_active_while_another_trigger_fails_still() -> None:
    """One falls back, and the other one has failed once, of two that are borne: the HPA is told the fallback."""
    metrics = keda("flight", 2, fallback={"failure_threshold": 2, "replicas": 7}).metrics
    told = metrics.told({"in_flight_requests": None, "pending_requests": None}, lost=True)
    failures = {"in_flight_requests": 3, "pending_requests": 1}
    assert metrics.answers_m(told, failures, 4, 4) == {"composite-metric": 14_000}
    assert metrics.state(told, failures, 4, 4) == ([], True, False)


def test_values_have_three_decimals() -> None:
    metrics = keda("1000 * flight + queue", 2).metrics
    told = metrics.told({"in_flight_requests": 0.0014, "pending_requests": 0.4996}, lost=False)
    assert metrics.answers_m(told, {}, 4, 4) == {"composite-metric": 1500}


LOST = {**NEVER_KNOWN, "name": "lost", "ignore_null_values": False}
ROUTED = {"failure_threshold": 2, "replicas": 7, "behavior": "scalingModifiers"}


def test_with_its_own_behaviour_the_formula_goes_round_what_failed() -> None:
    """The poll and the sync of 500 s and the sync of 515 s fail: the third is above the threshold of 2."""
    policy = keda("lost ?? flight", 2, LOST, fallback=ROUTED)
    first = policy.decide(Scene(500.0, 4, lambda t: 12.0), None)
    assert (first.replicas, first.held) == (4, "missing")
    second = policy.decide(Scene(515.0, 4, lambda t: 12.0), first.memory)
    assert second.replicas == 6
    assert second.reason.endswith("arrivals_per_second not known, formula 12, target 2: 4 -> 6")


@pytest.mark.parametrize(
    ("formula", "replicas", "active"),
    [("lost ?? 8", 4, True), ("lost ?? lost", 7, True), ("lost + flight", None, False), ("lost", None, False)],
)
def test_a_formula_of_nil_falls_back_and_one_that_computes_with_nil_has_no_value(
    formula: str, replicas: int | None, active: bool
) -> None:
    metrics = keda(formula, 2, LOST, fallback=ROUTED).metrics
    told = metrics.told({"in_flight_requests": 12.0, "pending_requests": 12.0, "arrivals_per_second": None}, lost=False)
    failures = {"arrivals_per_second": 3}
    answers = metrics.answers_m(told, failures, 4, 4)
    assert answers == ({} if replicas is None else {"composite-metric": 2000 * replicas})
    state = metrics.state(told, failures, 4, 4)
    assert (bool(state.active), state.failed, state.unknown) == (active, False, False)


def test_a_division_by_zero_scales_to_the_minimum_and_is_not_active() -> None:
    """Nothing waits. The sync of 30 s is the first with a window, the poll of 45 s too."""
    asleep = keda("flight / queue", 1, min_replicas=0)
    assert play(asleep, lambda t: 12.0, 200, start=4, scene=Flowing) == [(30, 1), (45, 0)]
    awake = keda("flight / queue", 1)
    decision = awake.decide(Flowing(500.0, 4, lambda t: 12.0), None)
    assert (decision.replicas, decision.load) == (1, 0.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"formula": "flight + wait", "target": 1}, "formula 'flight \\+ wait': 'wait' is no trigger's name"),
        ({"formula": "flight % 2", "target": 1}, "formula 'flight % 2': '%' is not modelled"),
        ({"formula": "flight", "target": 0}, "target: Input should be greater than or equal to 0.001"),
        ({"target": 1}, "scaling_modifiers.formula is missing"),
        ({"formula": "flight", "target": 1, "metric_type": "Utilization"}, "metric_type: Input should be 'Average"),
    ],
)
def test_wrong_modifiers_are_one_clear_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        build_policy({"kind": "keda", "triggers": [FLIGHT], "scaling_modifiers": settings}, 10, None)
    assert "\n" not in str(caught.value)


def test_what_does_not_go_together_is_one_clear_line() -> None:
    cpu = {"metric": "cpu", "threshold": 50, "name": "cpu"}
    with pytest.raises(Exception, match="'cpu' is no trigger's name: there are flight, queue"):
        keda("cpu", 2, cpu)
    with pytest.raises(Exception, match="scaling_modifiers is of triggers other than cpu"):
        keda("5", 2, triggers=[cpu])
    with pytest.raises(Exception, match="two triggers are named queue: give each its own name"):
        keda("queue", 2, {**NEVER_KNOWN, "name": "queue"})
    with pytest.raises(Exception, match="behavior scalingModifiers needs a formula: give one, or static"):
        keda("queue", 2, fallback=ROUTED, scaling_modifiers=None)
    with pytest.raises(Exception, match=r"ignores a fallback unless .* is a whole number \(got 2.5\)"):
        keda("queue", 2.5, fallback={"failure_threshold": 3, "replicas": 6})
