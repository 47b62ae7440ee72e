"""What holds for any HPA: bounds, direction, quiet under constant load. And the version switch, by example."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.autoscaling.hpa.controller import ScaleTarget, Sync, sync
from testbed.autoscaling.hpa.pods import PodSample, PodState
from testbed.autoscaling.hpa.proposal import MetricReadings, Tolerance
from testbed.autoscaling.hpa.spec import Behavior, ControllerFlags, HpaSpec, MetricSpec, ScalingPolicy, ScalingRules
from testbed.autoscaling.hpa.stabilization import History, Recommendation, ScaleEvent, limit, stabilize

PER_POD = MetricSpec(type="Pods", name="load", target_average_value_m=1000)

policies = st.builds(
    ScalingPolicy,
    type=st.sampled_from(["Pods", "Percent"]),
    value=st.integers(1, 200),
    period_s=st.integers(1, 300).map(float),
)
rules = st.builds(
    ScalingRules,
    stabilization_window_s=st.none() | st.integers(0, 600).map(float),
    select_policy=st.sampled_from(["Max", "Min", "Disabled"]),
    policies=st.lists(policies, min_size=1, max_size=3).map(tuple),
)
behaviors = st.builds(Behavior, scale_up=rules, scale_down=rules)
events = st.lists(st.builds(ScaleEvent, st.integers(1, 20), st.floats(0, 1000)), max_size=4).map(tuple)
histories = st.builds(
    History,
    st.lists(st.builds(Recommendation, st.integers(0, 100), st.floats(0, 1000)), max_size=5).map(tuple),
    events,
    events,
)


def pods_of(replicas: int) -> list[PodState]:
    return [PodState(f"pod-{k}", "Running", ready=True, ready_changed_s=0.0, start_s=0.0) for k in range(replicas)]


def one_sync(spec: HpaSpec, replicas: int, total_m: int, history: History, now_s: float) -> Sync:
    """A load that is shared evenly by the pods that there are."""
    samples = {f"pod-{k}": PodSample(total_m // replicas, now_s, 15.0) for k in range(replicas)}
    target = ScaleTarget(replicas, replicas, pods_of(replicas))
    return sync(spec, target, MetricReadings({PER_POD.key: samples}, {}), history, now_s)


@given(
    bounds=st.tuples(st.integers(1, 50), st.integers(1, 50)).map(sorted),
    current=st.integers(1, 60),
    total_m=st.integers(0, 10**6),
    behavior=st.none() | behaviors,
    history=histories,
)
def test_the_size_is_never_outside_its_bounds(bounds, current, total_m, behavior, history):
    spec = HpaSpec(min_replicas=bounds[0], max_replicas=bounds[1], metrics=(PER_POD,), behavior=behavior)
    desired = one_sync(spec, current, total_m, history, 1000.0).desired_replicas
    assert desired is not None
    assert bounds[0] <= desired <= bounds[1]


@given(current=st.integers(1, 100), desired=st.integers(1, 100), behavior=behaviors, history=histories)
def test_limits_never_reverse_a_direction_nor_go_beyond_it(current, desired, behavior, history):
    got = limit(current, desired, (1, 100), behavior, history, 1000.0).replicas
    assert min(current, desired) <= got <= max(current, desired)


@given(
    current=st.integers(1, 100),
    desired=st.integers(1, 100),
    history=histories,
    windows=st.tuples(st.floats(0, 600), st.floats(0, 600)),
)
def test_stabilizing_lies_between_the_current_size_and_what_was_wanted(current, desired, history, windows):
    record = history.recommendations
    assert record is not None
    stable, after = stabilize(current, desired, record, *windows, 1000.0)
    wanted = [desired, *(one.replicas for one in record)]
    assert min(current, *wanted) <= stable <= max(current, *wanted)
    assert stable >= min(current, desired)  # never below both: what goes down waits
    assert stable <= max(current, desired)
    assert len(after) <= len(record) + 1


@settings(max_examples=60)
@given(start=st.integers(1, 40), total_m=st.integers(0, 60_000), behavior=st.none() | behaviors)
def test_constant_load_does_not_flap(start, total_m, behavior):
    spec = HpaSpec(min_replicas=1, max_replicas=40, metrics=(PER_POD,), behavior=behavior)
    replicas, history, sizes = start, History(), [start]
    for step in range(1400):  # one pod in 300 s, forty of them, is the slowest there is
        if step >= 400 and len(set(sizes[-60:])) == 1:
            break
        answer = one_sync(spec, replicas, total_m, history, 15.0 * step)
        assert answer.desired_replicas is not None
        replicas, history = answer.desired_replicas, answer.history
        sizes.append(replicas)
    steps = [b - a for a, b in pairwise(sizes) if a != b]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)
    assert len(set(sizes[-20:])) == 1


def test_the_tolerance_edge_scales_before_1_33_and_not_from_then_on():
    spec = HpaSpec(max_replicas=10)
    assert not Tolerance.of(spec, ControllerFlags(kubernetes_minor=32)).covers(1.1)
    assert Tolerance.of(spec, ControllerFlags(kubernetes_minor=33)).covers(1.1)


def test_a_direction_has_a_tolerance_of_its_own_from_1_33_on():
    fast_up = ScalingRules(policies=(ScalingPolicy(type="Pods", value=4, period_s=15),), tolerance=0.0)
    spec = HpaSpec(max_replicas=10, behavior=Behavior(scale_up=fast_up))
    new, old = (Tolerance.of(spec, ControllerFlags(kubernetes_minor=minor)) for minor in (34, 32))
    assert not new.covers(1.05)
    assert new.covers(0.95)
    assert old.covers(1.05)


def test_after_a_restart_a_scale_down_waits_for_a_whole_window():
    """The first pass records the current size, so 5 -> 1 happens 300 s later and not at once."""
    spec = HpaSpec(max_replicas=10, metrics=(PER_POD,))
    replicas, history, changed_s = 5, History(), None
    for step in range(40):
        answer = one_sync(spec, replicas, 900, history, 15.0 * step)
        assert answer.desired_replicas is not None
        if answer.desired_replicas != replicas and changed_s is None:
            changed_s = 15.0 * step
        replicas, history = answer.desired_replicas, answer.history
    assert changed_s == 315.0  # at 300 s the first record is not older than the window
    assert replicas == 1
