"""fallback and scalingModifiers of a ScaledObject: what goes in, what one line refuses, and what comes out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.autoscaling.keda_metrics import Fallback, FallbackBehavior, KedaTrigger, ScalingModifiers, Told
from testbed.autoscaling.policies import Keda
from testbed.autoscaling.scaled_object import scaled_object
from tests.autoscaling.scene import Scene
from tests.autoscaling.test_manifests import OURS, keda, prometheus, read, refused

FLIGHT = prometheus("sum(rate(nv_inference_request_duration_us[30s])) / 1e6", name="flight")
QUEUE = prometheus("sum(nv_inference_pending_request_count)", name="queue")
BOTH = {"formula": "flight > 2 ? max(flight, 2 * queue) : 1", "target": "4"}
FALLBACK = {"failureThreshold": 3, "replicas": 6}
CPU = {"type": "cpu", "name": "cores", "metricType": "Utilization", "metadata": {"value": "50"}}


def modified(*triggers: dict[str, Any], fallback: Any = None, **modifiers: Any) -> dict[str, Any]:
    spec = {} if fallback is None else {"fallback": fallback}
    return keda(*(triggers or (FLIGHT, QUEUE)), advanced={"scalingModifiers": modifiers}, minReplicaCount=1, **spec)


def test_both_go_in_as_they_are(tmp_path: Path) -> None:
    more = {"activationTarget": "1.5", "metricType": "Value"}
    policy = read(tmp_path, modified(**BOTH, **more, fallback={**FALLBACK, "behavior": "currentReplicasIfHigher"}))
    assert policy.scaling_modifiers == ScalingModifiers(
        formula=BOTH["formula"], target=4, activation_target=1.5, metric_type="Value"
    )
    assert policy.fallback == Fallback(failure_threshold=3, replicas=6, behavior="currentReplicasIfHigher")
    assert [trigger.name for trigger in policy.triggers] == ["flight", "queue"]


def test_what_is_left_out_is_as_keda_has_it(tmp_path: Path) -> None:
    policy = read(tmp_path, modified(**BOTH, fallback=FALLBACK))
    assert policy.scaling_modifiers == ScalingModifiers(formula=BOTH["formula"], target=4)
    assert policy.fallback == Fallback(failure_threshold=3, replicas=6, behavior="static")
    empty = read(tmp_path, modified())
    assert (empty.scaling_modifiers, empty.fallback) == (None, None)
    assert policy.decide(Scene(500.0, 4, lambda t: 12.0), None).replicas == 6  # 2 * 12, of 4


def test_a_formula_keeps_its_meaning_in_the_testbeds_units(tmp_path: Path) -> None:
    """Their metric counts microseconds: 10 ms are 10,000, of 2,500 each."""
    mine = prometheus("avg(my_queue_us)", name="wait", metricType="Value")
    names = {"wait": "1000 * queue_time_ms"}
    policy = read(tmp_path, modified(mine, formula="wait / 2", target="2500"), metrics=names)
    assert policy.scaling_modifiers.formula == "(1000.0 * wait) / 2"
    assert policy.metrics.answers_m(Told({"queue_time_ms": 10.0}), {}, 1, 1) == {"composite-metric": 5_000_000}
    assert policy.triggers[0] == KedaTrigger(metric="queue_time_ms", threshold=0.01, name="wait", metric_type="Value")


@pytest.mark.parametrize(("written", "ignored"), [("true", True), ("false", False), ("False", False), (None, True)])
def test_a_trigger_says_whether_no_result_is_a_failure(tmp_path: Path, written: str | None, ignored: bool) -> None:
    said = {} if written is None else {"ignoreNullValues": written}
    assert read(tmp_path, keda(prometheus(metadata=said))).triggers[0].ignore_null_values is ignored


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (keda(fallback={"replicas": 3}), "mine.yaml: spec.fallback.failureThreshold is missing"),
        (keda(fallback={**FALLBACK, "replicas": -1}), "spec.fallback.replicas: "),
        (keda(fallback={**FALLBACK, "behaviour": "static"}), "unknown key 'spec.fallback.behaviour'"),
        (keda(fallback={**FALLBACK, "behavior": "none"}), "spec.fallback.behavior: "),
        (keda(fallback={**FALLBACK, "behavior": "scalingModifiers"}), "behavior scalingModifiers needs a formula: "),
        (
            keda(prometheus(metadata={"ignoreNullValues": "no"})),
            "metadata.ignoreNullValues is true or false (got 'no')",
        ),
        (keda(CPU, fallback=FALLBACK, minReplicaCount=1), "fallback is of triggers other than cpu"),
        (modified(**BOTH | {"target": "2.0"}, fallback=FALLBACK), "a whole number in digits (got '2.0')"),
        (modified(**BOTH | {"target": "3e6"}, fallback=FALLBACK), "a whole number in digits (got '3e6')"),
        (modified(formula="flight"), "scalingModifiers: KEDA needs both formula and target"),
        (modified(target="3"), "scalingModifiers: KEDA needs both formula and target"),
        (modified(formula="flight", target="3k"), "scalingModifiers.target is no number (got '3k')"),
        (modified(formula="flight", target=3), "scalingModifiers.target: Input should be a valid string"),
        (modified(formula="flight", target="0"), "scaling_modifiers.target: Input should be greater than"),
        (modified(formula="flight", target="3", activationTarget="no"), "activationTarget is no number (got 'no')"),
        (modified(formula="flight", target="3", metricType="Utilization"), "scalingModifiers.metricType: "),
        (modified(formula="flight % 3", target="3"), "scalingModifiers.formula 'flight % 3': '%' is not modelled"),
        (modified(formula="flight | 3", target="3"), "formula 'flight | 3': '|' is not modelled"),
        (modified(formula="s0 + 1", target="3"), "'s0' is no trigger's name: there are flight, queue"),
        (modified(FLIGHT, CPU, formula="cores", target="3"), "'cores' is no trigger's name: there are flight"),
        (modified(prometheus(), formula="trigger", target="3"), "'trigger' is no trigger's name: there are none"),
        (modified(FLIGHT, {**QUEUE, "name": "flight"}, formula="flight", target="3"), "two triggers are named flight"),
    ],
)
def test_what_keda_or_the_policy_cannot_do_is_said_in_one_line(tmp_path: Path, body: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, body)


def test_a_whole_target_is_written_without_an_exponent(tmp_path: Path) -> None:
    """KEDA's fallback reads no other."""
    policy = read(tmp_path, modified(formula="flight", target="3e6"))
    spec = scaled_object(policy, "triton", "serving", "bert")["spec"]
    assert spec["advanced"]["scalingModifiers"]["target"] == "3000000"


names = st.lists(st.sampled_from(["a", "b1", "wait_ms", "Queue", "one"]), min_size=3, max_size=3, unique=True)
types = st.sampled_from(["AverageValue", "Value"])
behaviors = st.sampled_from(get_args(FallbackBehavior))
fallbacks = st.none() | st.builds(
    Fallback, failure_threshold=st.integers(0, 99), replicas=st.integers(0, 99), behavior=behaviors
)


@settings(max_examples=60, deadline=None)
@given(
    metrics=st.lists(st.sampled_from(OURS), min_size=3, max_size=3, unique=True),
    names=names,
    of_each=st.lists(types, min_size=3, max_size=3),
    fallback=fallbacks,
    modifiers=st.none() | st.tuples(st.integers(1, 10**9), st.floats(-1e9, 1e9), types),
    fraction=st.booleans(),
    ignores=st.booleans(),
)
def test_what_is_written_is_read_as_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    metrics: list[str],
    names: list[str],
    of_each: list[Any],
    fallback: Fallback | None,
    modifiers: tuple[int, float, Any] | None,
    fraction: bool,
    ignores: bool,
) -> None:
    if fallback is not None and fallback.behavior == "scalingModifiers":
        modifiers = modifiers or (1, 0.0, "AverageValue")
    whole = modifiers is None or fallback is not None or not fraction
    policy = Keda(
        triggers=tuple(
            KedaTrigger(metric=metric, threshold=2.5, name=name, metric_type=kind, ignore_null_values=ignores)
            for metric, name, kind in zip(metrics, names, of_each, strict=True)
        ),
        min_replicas=1,
        max_replicas=9,
        fallback=fallback,
        scaling_modifiers=None
        if modifiers is None
        else ScalingModifiers(
            formula=f"({names[0]} ?? 1) + max({names[1]}, 2)",
            target=modifiers[0] if whole else modifiers[0] / 1000,
            activation_target=modifiers[1],
            metric_type=modifiers[2],
        ),
        name="mine",
    )
    body = scaled_object(policy, "triton", "serving", "bert")
    assert read(tmp_path_factory.mktemp("keda"), body) == policy
