"""Run recorded cases of the Kubernetes HPA's own unit tests: `python -m tests.conformance.hpa FOLDER`.

FOLDER holds JSON files of inputs and expected outputs. The last line says 'N passed, M failed'; each failure is named.
A case that this runner does not understand counts as failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from testbed.autoscaling.hpa.controller import ScaleTarget, sync
from testbed.autoscaling.hpa.pods import MetricError, PodSample, PodState, group_pods, request_of
from testbed.autoscaling.hpa.proposal import MetricReadings, Tolerance, propose
from testbed.autoscaling.hpa.spec import (
    DEFAULT_SCALE_DOWN,
    DEFAULT_SCALE_UP,
    Behavior,
    ControllerFlags,
    HpaSpec,
    MetricSpec,
    ScalingRules,
)
from testbed.autoscaling.hpa.stabilization import (
    History,
    Recommendation,
    ScaleEvent,
    change_within,
    limit,
    limit_without_behavior,
    record_change,
    scale_down_limit,
    scale_up_limit,
    stabilize,
    stabilize_without_behavior,
)

NOW_S = 1_000_000_000.0
ZERO_TIME_S = -62_135_596_800.0  # Go's zero time, far before everything
# The upstream tests' own controller: other start-up times and another scale-up factor than in production.
FLAGS = ControllerFlags(cpu_initialization_period_s=120, initial_readiness_delay_s=10, scale_up_limit_factor=8)

Case = dict[str, Any]
Outcome = dict[str, tuple[Any, Any]]  # what was checked -> (expected, got)


def rules_of(data: Case | None, default: ScalingRules) -> ScalingRules:
    return default if data is None else ScalingRules.model_validate(data)


def behavior_of(up: Case | None, down: Case | None) -> Behavior:
    return Behavior(scale_up=rules_of(up, DEFAULT_SCALE_UP), scale_down=rules_of(down, DEFAULT_SCALE_DOWN))


def events_of(data: list[Case]) -> tuple[ScaleEvent, ...]:
    return tuple(ScaleEvent(one["change"], NOW_S - one["age_s"]) for one in data)


def recommendations_of(data: list[Case]) -> tuple[Recommendation, ...]:
    return tuple(Recommendation(one["replicas"], NOW_S - one["age_s"]) for one in data)


def since(age_s: float | None) -> float:
    return ZERO_TIME_S if age_s is None else NOW_S - age_s


def scaling_with_rules(case: Case) -> Outcome:
    history = History((), events_of(case["scale_up_events"]), events_of(case["scale_down_events"]))
    behavior = behavior_of(case["scale_up_rules"], case["scale_down_rules"])
    bounds = (case["min_replicas"], case["max_replicas"])
    got = limit(case["current_replicas"], case["desired_replicas"], bounds, behavior, history, NOW_S)
    expected = case["expected"]
    return {"replicas": (expected["replicas"], got.replicas), "reason": (expected["reason"], got.reason)}


def normalize_desired_replicas_no_behavior(case: Case) -> Outcome:
    record = recommendations_of(case["recommendations"])
    window_s = case["downscale_stabilization_window_s"]
    stable, record = stabilize_without_behavior(case["desired_replicas"], record, window_s, NOW_S)
    expected = case["expected"]
    return {
        "stabilized_replicas": (expected["stabilized_replicas"], stable),
        "log_length": (expected["log_length"], len(record)),
    }


def stabilize_with_behaviors(case: Case) -> Outcome:
    stable, record = stabilize(
        case["current_replicas"],
        case["desired_replicas"],
        recommendations_of(case["recommendations"]),
        case["scale_up_stabilization_window_s"],
        case["scale_down_stabilization_window_s"],
        NOW_S,
    )
    expected = case["expected"]
    outcome: Outcome = {"stabilized_replicas": (expected["stabilized_replicas"], stable)}
    if expected["recommendations_after"] is not None:
        outcome["recommendations_after"] = (expected["recommendations_after"], [one.replicas for one in record])
    return outcome


def store_scale_events(case: Case) -> Outcome:
    events, expected, change = events_of(case["prev_events"]), case["expected"], case["replica_change"]
    behavior = None if case["rules"] is None else behavior_of(case["rules"], case["rules"])
    up = record_change(History((), up_events=events), behavior, 10, 10 + change, NOW_S).up_events
    down = record_change(History((), down_events=events), behavior, 10, 10 - change, NOW_S).down_events
    outcome: Outcome = {
        "change before": (expected["change_in_last_60s_before_store"], change_within(events, 60, NOW_S))
    }
    for name, stored in (("up", up), ("down", down)):
        told = [{"change": one.change, "outdated": one.outdated} for one in stored]
        outcome[f"events after scale {name}"] = (expected["events_after"], told)
    return outcome


def convert_desired_replicas_no_behavior(case: Case) -> Outcome:
    spec = HpaSpec(min_replicas=case["min_replicas"], max_replicas=case["max_replicas"])
    got = limit_without_behavior(case["current_replicas"], case["desired_replicas"], spec, FLAGS)
    expected = case["expected"]
    return {"replicas": (expected["replicas"], got.replicas), "reason": (expected["reason"], got.reason)}


def scale_up_limit_with_rules(case: Case) -> Outcome:
    history = History((), up_events=events_of(case["events"]))
    got = scale_up_limit(case["current_replicas"], rules_of(case["rules"], DEFAULT_SCALE_UP), history, NOW_S)
    return {"limit": (case["expected"], got)}


def scale_down_limit_with_rules(case: Case) -> Outcome:
    history = History((), down_events=events_of(case["events"]))
    got = scale_down_limit(case["current_replicas"], rules_of(case["rules"], DEFAULT_SCALE_DOWN), history, NOW_S)
    return {"limit": (case["expected"], got)}


def group_pods_case(case: Case) -> Outcome:
    pods = [
        PodState(
            name=pod["name"],
            phase=pod["phase"],
            ready=pod["ready_condition"]["status"] if pod["ready_condition"] else None,
            ready_changed_s=since(pod["ready_condition"]["last_transition_age_s"]) if pod["ready_condition"] else 0.0,
            start_s=None if pod["start_age_s"] is None else since(pod["start_age_s"]),
            deleting=pod["deleting"],
        )
        for pod in case["pods"]
    ]
    samples = {
        one["pod"]: PodSample(one["value"], since(one["timestamp_age_s"]), one["window_s"] or 0.0)
        for one in case["metrics"]
    }
    got, expected = group_pods(pods, samples, case["resource"], NOW_S, FLAGS), case["expected"]
    return {
        "ready_count": (expected["ready_count"], got.ready_count),
        **{name: (expected[name], sorted(getattr(got, name))) for name in ("unready", "missing", "ignored")},
    }


def calculate_requests(case: Case) -> Outcome:
    containers = {one[0]: one[1] for one in (*case["containers"], *case["init_containers"])}
    whole = case["pod_level_request_m"] if case["pod_level_resources_enabled"] else None
    pod = PodState("test-pod", "Running", True, ZERO_TIME_S, ZERO_TIME_S, requests_m=containers, pod_request_m=whole)
    try:
        return {"request_m": (case["expected_request_m"], request_of(pod, "cpu", case["container"] or None))}
    except MetricError as error:
        return {"error": (case["error"], str(error))}


def replica_calculator(case: Case) -> Outcome:
    pods = [
        PodState(
            name=pod["name"],
            phase=pod["phase"],
            ready=pod["ready"],
            ready_changed_s=ZERO_TIME_S,
            start_s=since(pod["start_age_s"]),
            deleting=pod["deleting"],
            requests_m={f"container{k}": m for k, m in enumerate(pod.get("container_requests_m") or (), start=1)},
        )
        for pod in case["pods"]
    ]
    metric = _calculator_metric(case)
    samples = {
        one["pod"]: PodSample(one["value_m"], ZERO_TIME_S, 60.0)
        for one in case.get("metrics") or ()
        if one["value_m"] is not None
    }
    values = case.get("external_values_m") or ([case["object_value_m"]] if "object_value_m" in case else [])
    readings = MetricReadings(per_pod={metric.key: samples}, values={metric.key: values})
    tolerance = Tolerance(case["tolerance_down"], case["tolerance_up"])
    expected, current = case["expected"], case["current_replicas"]
    try:
        got = propose(metric, readings, pods, (current, current), NOW_S, tolerance, FLAGS)
    except MetricError as error:
        wanted = expected["error_contains"]
        return {"error": (wanted, wanted if wanted and wanted in str(error) else str(error))}
    outcome: Outcome = {"error": (expected["error_contains"], None), "replicas": (expected["replicas"], got.replicas)}
    for name, value in (
        ("utilization_pct", got.utilization_pct),
        ("raw_value_m", got.usage_m),
        ("usage_m", got.usage_m),
    ):
        if name in expected:
            outcome[name] = (expected[name], value)
    return outcome


def _calculator_metric(case: Case) -> MetricSpec:
    kind = case["kind"]
    if kind == "resource_utilization":
        container = case["container"]
        return MetricSpec(
            type="ContainerResource" if container else "Resource",
            name=case["resource"],
            container=container,
            target_utilization_pct=case["target_utilization_pct"],
        )
    if kind == "pods":
        return MetricSpec(type="Pods", name="qps", target_average_value_m=case["target_m"])
    source: Any = {"object": "Object", "external": "External"}[kind.removesuffix("_per_pod")]
    target = "target_average_value_m" if kind.endswith("_per_pod") else "target_value_m"
    return MetricSpec.model_validate({"type": source, "name": "qps", target: case["target_m"]})


def controller(case: Case) -> Outcome:
    failing = case.get("failing_sources") or []
    specs = [_controller_metric(data) for data in case["metrics_spec"]]
    behavior = None
    if case["behavior"] is not None:
        behavior = behavior_of(case["behavior"]["scale_up"], case["behavior"]["scale_down"])
    spec = HpaSpec(min_replicas=case["min_replicas"], max_replicas=case["max_replicas"], behavior=behavior)
    spec = spec.model_copy(update={"metrics": tuple(specs)})  # not validated: some are invalid on purpose
    pods = None if any(one.startswith("selector") for one in failing) else _controller_pods(case)
    target = ScaleTarget(case["spec_replicas"], case["status_replicas"], pods)
    preset = case["preset_recommendations"]
    history = History(None if preset == "nil" else recommendations_of(preset))
    readings = _controller_readings(case, specs, failing)
    got = sync(spec, None if "get scale" in failing else target, readings, history, NOW_S, FLAGS)
    desired = case["spec_replicas"] if got.desired_replicas is None else got.desired_replicas
    expected = case["expected"]
    step = desired - case["spec_replicas"]
    action = "scale_up" if step > 0 else "scale_down" if step < 0 else "none"
    outcome: Outcome = {
        "desired_replicas": (expected["desired_replicas"], desired),
        "action": (expected["action_label"], action),
        "failed": (expected["error_label"] != "none", got.error is not None),
    }
    for name, condition in expected["conditions_override"].items():
        outcome[name] = (tuple(condition), got.conditions.get(name))
    if expected["cpu_utilization_pct"] is not None:
        outcome["cpu_utilization_pct"] = (expected["cpu_utilization_pct"], got.utilization_pct.get("Resource/cpu"))
    return outcome


def _controller_metric(data: Case) -> MetricSpec:
    fields = dict(data)
    fields["name"] = fields.pop("resource", None) or fields.pop("metric", None) or fields["type"]
    if fields["type"] in ("Resource", "ContainerResource", "Pods", "Object", "External"):
        return MetricSpec.model_validate(fields)
    # The API refuses such a type; upstream hands it to the controller all the same.
    return MetricSpec.model_construct(container=None, target_value_m=1, **fields)


def _controller_pods(case: Case) -> list[PodState]:
    requests = case["pod_cpu_requests_m"]
    count = case["status_replicas"] if requests is None else len(requests)

    def given(name: str, k: int, default: Any) -> Any:
        return default if case[name] is None else case[name][k]

    pods = []
    for k in range(count):
        half = (1000 if requests is None else requests[k]) // 2
        start_s = since(given("pod_start_age_s", k, None))
        pods.append(
            PodState(
                name=f"pod-{k}",
                phase=given("pod_phase", k, "Running"),
                ready=given("pod_ready", k, True),
                ready_changed_s=start_s,
                start_s=start_s,
                deleting=given("pod_deleting", k, False),
                requests_m={"container1": half, "container2": half},
            )
        )
    return pods


def _controller_readings(case: Case, specs: list[MetricSpec], failing: list[str]) -> MetricReadings:
    per_pod: dict[str, dict[str, PodSample]] = {}
    values: dict[str, list[int]] = {}
    levels = case["reported_levels_m"]
    for metric in specs:
        if "all metrics APIs" in failing or metric.type in failing:
            continue
        if metric.type in ("Object", "External"):
            values[metric.key] = levels[:1] if metric.type == "Object" else levels
            continue
        parts = {"Resource": lambda level: 2 * (level // 2), "ContainerResource": lambda level: level // 2}
        part: Callable[[int], int] = parts.get(metric.type, lambda level: level)
        per_pod[metric.key] = {f"pod-{k}": PodSample(part(level), NOW_S, 60.0) for k, level in enumerate(levels)}
    return MetricReadings(per_pod, values)


SECTIONS: dict[str, Callable[[Case], Outcome]] = {
    "scaling_with_rules": scaling_with_rules,
    "normalize_desired_replicas_no_behavior": normalize_desired_replicas_no_behavior,
    "stabilize_with_behaviors": stabilize_with_behaviors,
    "store_scale_events": store_scale_events,
    "convert_desired_replicas_no_behavior": convert_desired_replicas_no_behavior,
    "scale_up_limit_with_rules": scale_up_limit_with_rules,
    "scale_down_limit_with_rules": scale_down_limit_with_rules,
    "group_pods": group_pods_case,
    "calculate_requests": calculate_requests,
    "replica_calculator": replica_calculator,
    "controller": controller,
}


def run_folder(folder: Path) -> Iterator[tuple[str, str | None]]:
    """(name, what is wrong, or None) of every case in the folder's JSON files."""
    for file in sorted(folder.glob("*.json")):
        for section, cases in json.loads(file.read_text()).items():
            if not isinstance(cases, list):
                continue
            for number, case in enumerate(cases, start=1):
                parts = dict.fromkeys(str(case[key]) for key in ("test", "name") if case.get(key))
                yield f"{section}: {', '.join(parts) or number}", problem_of(section, case)


def problem_of(section: str, case: Case) -> str | None:
    """What differs from the expected outcome, or None."""
    if section not in SECTIONS:
        return f"this runner knows no section '{section}'"
    try:
        outcome = SECTIONS[section](case)
    except Exception as error:  # one case that cannot be run must not hide the others
        return f"could not be run: {type(error).__name__}: {error}"
    wrong = [
        f"{what}: expected {expected!r}, got {got!r}" for what, (expected, got) in outcome.items() if expected != got
    ]
    return "; ".join(wrong) or None


def main(arguments: list[str]) -> int:
    """Exit code 0: all passed; 1: some failed; 2: there is nothing to run."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m tests.conformance.hpa FOLDER (a folder of JSON case files)", file=sys.stderr)
        return 2
    results = list(run_folder(Path(arguments[0])))
    if not results:
        print(f"{arguments[0]} holds no cases", file=sys.stderr)
        return 2
    failures = [(name, problem) for name, problem in results if problem is not None]
    for name, problem in failures:
        print(f"FAILED {name}: {problem}")
    print(f"{len(results) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
