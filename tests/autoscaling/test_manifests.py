"""Autoscalers as people have them in Git: what goes in as it is, and what one line refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.hpa.controller import ScaleTarget, sync
from testbed.autoscaling.hpa.manifest import hpa_object
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.hpa.proposal import MetricReadings, Tolerance, propose
from testbed.autoscaling.hpa.spec import (
    DEFAULT_SCALE_DOWN,
    DEFAULT_SCALE_UP,
    Behavior,
    ControllerFlags,
    HpaSpec,
    MetricSpec,
)
from testbed.autoscaling.hpa.stabilization import History
from testbed.autoscaling.keda_metrics import CPU, KedaTrigger
from testbed.autoscaling.manifests.api import milli_of, seconds_of
from testbed.autoscaling.manifests.file import read_manifest
from testbed.autoscaling.metrics import METRICS
from testbed.autoscaling.policies import Hpa, Keda, Knative
from testbed.autoscaling.policies.keda import FORECAST
from testbed.autoscaling.scaled_object import scaled_object
from testbed.errors import ConfigError
from tests.autoscaling.scene import Scene, play

DOWN_BY_DEFAULT = [{"type": "Percent", "value": 100, "period_s": 15.0}]


def hpa(*metrics: dict[str, Any], **spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "triton"}
    body = {"scaleTargetRef": target, "maxReplicas": 8, **spec} | ({"metrics": list(metrics)} if metrics else {})
    meta = {"name": "triton"}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": body}


def external(name: str = "queue_time_ms", **target: Any) -> dict[str, Any]:
    target = target or {"type": "AverageValue", "averageValue": "500m"}
    metric = {"name": name, "selector": {"matchLabels": {"queue": "q"}}}
    return {"type": "External", "external": {"metric": metric, "target": target}}


def resource(name: str = "cpu", **target: Any) -> dict[str, Any]:
    target = target or {"type": "Utilization", "averageUtilization": 60}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def written(tmp_path: Path, *documents: Any, name: str = "mine.yaml") -> Path:
    file = tmp_path / name
    file.write_text(yaml.safe_dump_all(documents))
    return file


def read(tmp_path: Path, *documents: Any, **more: Any) -> Any:
    return build_policy({"manifest": str(written(tmp_path, *documents)), **more}, 6, None)


def refused(tmp_path: Path, *documents: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as told:
        read(tmp_path, *documents, **more)
    assert "\n" not in str(told.value)
    return str(told.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("quantity", "milli"),
    [
        *(("500m", 500), ("0.5", 500), (0.1, 100), (15, 15_000), ("1k", 1_000_000), ("1e3", 1_000_000)),
        *(("1Gi", 1_073_741_824_000), ("10334m", 10334), ("100n", 1), ("1E", 10**21), ("512Mi", 536_870_912_000)),
    ],
)
def test_a_quantity_is_counted_in_thousandths(quantity: Any, milli: int) -> None:
    assert milli_of(quantity) == milli


@pytest.mark.parametrize("quantity", ["", "five", "5 apples", True, None, [], "nan", "1gi"])
def test_what_is_no_quantity(quantity: Any) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        milli_of(quantity)


def test_durations() -> None:
    assert [seconds_of(text) for text in ("30s", "1m", "1m30s", "1.5h", "250ms")] == [30, 60, 90, 5400, 0.25]
    for text in ("", "30", "s", "1m 30s", "1y"):
        with pytest.raises(ValueError, match="is no duration"):
            seconds_of(text)


def test_an_hpa_goes_in_as_it_is(tmp_path: Path) -> None:
    policy = read(tmp_path, hpa(external(), minReplicas=2))
    assert isinstance(policy, Hpa)
    assert policy.name == "mine"
    assert policy.spec == HpaSpec(
        min_replicas=2,
        max_replicas=8,
        metrics=(MetricSpec(type="External", name="queue_time_ms", target_average_value_m=500),),
    )


def test_a_total_of_thousandths_is_divided_as_the_hpa_does(tmp_path: Path) -> None:
    """31 of all pods, 15 each: 3 pods are enough, as the API shows 10334m of each of them."""
    policy = read(tmp_path, hpa(external(type="AverageValue", averageValue=15)))
    metric, pods = policy.spec.metrics[0], [PodState(f"pod-{k}", "Running", True, 0.0, 0.0) for k in range(3)]
    readings, flags = MetricReadings({}, {metric.key: [31_000]}), ControllerFlags()
    proposal = propose(metric, readings, pods, (3, 3), 0.0, Tolerance.of(policy.spec, flags), flags)
    assert (proposal.replicas, proposal.usage_m) == (3, 10334)


def test_what_is_left_out_is_as_the_api_server_fills_it(tmp_path: Path) -> None:
    policy = read(tmp_path, hpa())
    assert policy.spec.metrics == (MetricSpec(type="Resource", name="cpu", target_utilization_pct=80),)
    assert (policy.spec.min_replicas, policy.spec.behavior) == (1, None)


def test_of_behaviour_one_field_is_enough(tmp_path: Path) -> None:
    never_down = read(tmp_path, hpa(behavior={"scaleDown": {"selectPolicy": "Disabled"}})).spec.behavior
    assert never_down.scale_down.select_policy == "Disabled"
    assert never_down.scale_down.policies == DEFAULT_SCALE_DOWN.policies
    assert never_down.scale_up == DEFAULT_SCALE_UP
    slowly_up = read(tmp_path, hpa(behavior={"scaleUp": {"stabilizationWindowSeconds": 3600}})).spec.behavior
    assert slowly_up.scale_up.stabilization_window_s == 3600
    assert slowly_up.scale_up.policies == DEFAULT_SCALE_UP.policies
    assert read(tmp_path, hpa(behavior={})).spec.behavior == Behavior()
    tolerant = read(tmp_path, hpa(behavior={"scaleUp": {"tolerance": "20m"}})).spec.behavior
    assert tolerant.scale_up.tolerance == 0.02


def test_the_same_in_the_testbeds_own_words() -> None:
    metric = {"type": "External", "name": "queue_time_ms", "target_average_value_m": 5000}

    def spec(**behavior: Any) -> Any:
        given = {"kind": "hpa", "spec": {"max_replicas": 8, "metrics": [metric], "behavior": behavior}}
        return build_policy(given, 8, None).spec

    assert spec(scale_down={"select_policy": "Disabled"}).behavior.scale_down.policies == DEFAULT_SCALE_DOWN.policies
    assert spec(scale_up={"stabilization_window_s": 3600}).behavior.scale_up.policies == DEFAULT_SCALE_UP.policies
    with pytest.raises(ConfigError, match=r"scale_up\.policies: .*at least 1 item"):
        spec(scale_up={"policies": []})


def test_never_down_still_comes_back_below_its_maximum(tmp_path: Path) -> None:
    policy = read(tmp_path, hpa(external(), behavior={"scaleDown": {"selectPolicy": "Disabled"}}))
    key, pods = policy.spec.metrics[0].key, []
    idle = MetricReadings({}, {key: [0]})
    assert sync(policy.spec, ScaleTarget(8, 8, pods), idle, History(), 0.0).desired_replicas == 8
    assert sync(policy.spec, ScaleTarget(9, 9, pods), idle, History(), 0.0).desired_replicas == 8


def test_two_targets_of_one_metric_both_propose(tmp_path: Path) -> None:
    average, value = {"type": "AverageValue", "averageValue": 1}, {"type": "Value", "value": 1000}
    for metrics in ((average, value), (value, average)):
        policy = read(tmp_path, hpa(*(external("pending_requests", **one) for one in metrics)))
        pods = [PodState("pod-0", "Running", True, 0.0, 0.0)]
        readings = MetricReadings({}, {policy.spec.metrics[0].key: [3000]})
        assert sync(policy.spec, ScaleTarget(1, 1, pods), readings, History(), 0.0).desired_replicas == 3


V1_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
MIXED = {"type": "AverageValue", "value": 5}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            hpa(external(**MIXED)),
            "mine.yaml: spec.metrics.0.external.target: a target of type AverageValue has ",
        ),
        (hpa(external(type="Value", value=5, averageValue=5)), "type Value has value alone (got averageValue, value)"),
        (
            hpa(external(type="Utilization", averageUtilization=5)),
            "External metric has a target of type Value or ",
        ),
        (hpa(resource(type="Value", value=5)), "Resource metric has a target of type Utilization or AverageValue"),
        (hpa(external(type="AverageValue", averageValue="5 apples")), "averageValue: is no quantity: give a number"),
        (hpa(external(type="AverageValue", averageValue=0)), "averageValue: Input should be greater than 0"),
        (hpa(resource(), minReplicas=0), "mine.yaml: spec: min_replicas 0 needs an Object or External metric"),
        (hpa(minReplicas=9), "spec: min_replicas 9 is above max_replicas 8"),
        (hpa(resource("memory")), "mine.yaml: spec.metrics.0: resource memory: not modelled"),
        (
            hpa({"type": "Pods", "resource": resource()["resource"]}),
            "of type Pods has pods alone (got resource)",
        ),
        (hpa(maxReplica=3), "mine.yaml: unknown key 'spec.maxReplica': did you mean 'maxReplicas'?"),
        (hpa(behavior={"scaleUp": {"policies": []}}), "spec.behavior.scaleUp.policies: "),
        (
            hpa(behavior={"scaleUp": {"stabilizationWindowSeconds": 3601}}),
            "stabilizationWindowSeconds: Input ",
        ),
        (hpa() | {"apiVersion": "autoscaling/v2beta1"}, "apiVersion is autoscaling/v2beta1: give autoscaling/v2"),
        (hpa(resource()) | {"apiVersion": "autoscaling/v1"}, "unknown key 'spec.metrics'"),
        (
            hpa() | {"apiVersion": "autoscaling/v1", "metadata": {"annotations": {V1_METRICS: "[]"}}},
            "mine.yaml: metadata.annotations.autoscaling.alpha.kubernetes.io/metrics has what v1 has no field for",
        ),
        (hpa(external(type="AverageValue", averageValue="1_000")), "averageValue: is no quantity: give a number"),
        ({"apiVersion": "v1", "kind": "Pod"}, "mine.yaml: give a file with a HorizontalPodAutoscaler"),
        ({"kind": "HorizontalPodAutoscaler"}, "it has HorizontalPodAutoscaler of no apiVersion"),
        ({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}, "; KServe makes one of it: kubectl"),
    ],
)
def test_what_the_api_server_refuses_is_refused_in_one_line(tmp_path: Path, body: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, body)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "spec: {maxReplicas: {{ .Values.most }}}",
            "mine.yaml, line 2: is a template of Helm: give what `helm template`",
        ),
        ("spec: {maxReplicas: 3, maxReplicas: 8}", "mine.yaml, line 2, is not YAML: has the key 'maxReplicas' twice"),
    ],
)
def test_what_is_no_object_yet_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"kind: HorizontalPodAutoscaler\n{text}\n")
    with pytest.raises(ConfigError) as told:
        read_manifest({"manifest": str(file)})
    assert said in str(told.value)


def test_keys_that_are_merged_stand_there_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    head = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: &m {name: a}\n"
    file.write_text(f"{head}status: {{<<: *m, name: b}}\nspec: {{scaleTargetRef: {{}}, maxReplicas: 3}}\n")
    assert read_manifest({"manifest": str(file)})["spec"]["max_replicas"] == 3


def test_older_versions_say_the_same_and_null_is_left_out(tmp_path: Path) -> None:
    first = hpa(targetCPUUtilizationPercentage=60) | {"apiVersion": "autoscaling/v1"}
    assert read(tmp_path, first) == read(tmp_path, hpa(resource()))
    assert read(tmp_path, hpa() | {"apiVersion": "autoscaling/v1"}) == read(tmp_path, hpa())  # 80 % of cpu
    assert read(tmp_path, hpa(resource()) | {"apiVersion": "autoscaling/v2beta2"}) == read(tmp_path, hpa(resource()))
    assert read(tmp_path, hpa(minReplicas=None, metrics=None, behavior={"scaleUp": None})) == read(
        tmp_path, hpa(behavior={})
    )


def test_a_mean_over_pods_is_told_from_their_sum(tmp_path: Path) -> None:
    def first_step(name: str) -> int:
        policy = read(tmp_path, hpa(external("gpu", type="Value", value="70")), metrics={"gpu": name})
        return int(policy.decide(Scene(500.0, 3, lambda t: 2.1), None).replicas)

    assert "--metric 'gpu=mean_gpu_utilisation_pct'" in refused(tmp_path, hpa(external("gpu")))
    assert first_step("gpu_utilisation_pct") > first_step("mean_gpu_utilisation_pct") == 3


def test_the_only_autoscaler_of_a_file_is_found(tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "triton"}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [service, hpa(external())]}
    assert read(tmp_path, service, hpa(external())) == read(tmp_path, listed) == read(tmp_path, hpa(external()))
    assert "has 2 autoscalers (HorizontalPodAutoscaler triton, HorizontalPodAutoscaler triton)" in refused(
        tmp_path, hpa(), hpa()
    )


def test_a_metric_of_theirs_is_named(tmp_path: Path) -> None:
    body = hpa(external("nv_queue_us", type="Value", value="5k"), external("DCGM_FI_DEV_GPU_UTIL"))
    said = refused(tmp_path, body)
    assert "mine.yaml: spec.metrics.0: 'nv_queue_us' is none of the testbed's metrics (queue_time_ms, " in said
    assert "--metric 'nv_queue_us=" in said
    names = {"nv_queue_us": "1000 * queue_time_ms"}
    assert "'DCGM_FI_DEV_GPU_UTIL=mean_gpu_utilisation_pct'" in refused(tmp_path, body, metrics=names)
    policy = read(tmp_path, body, metrics={**names, "DCGM_FI_DEV_GPU_UTIL": "gpu_utilisation_pct"})
    assert policy.spec.metrics[0] == MetricSpec(type="External", name="queue_time_ms", target_value_m=5000)
    assert policy.spec.metrics[1].name == "gpu_utilisation_pct"
    assert "'queue_tim' is none of ours: did you mean 'queue_time_ms'?" in refused(
        tmp_path, hpa(external("a")), metrics={"a": "queue_tim"}
    )
    assert "metrics: it has no 'b': it has queue_time_ms" in refused(
        tmp_path, hpa(external()), metrics={"b": "queue_time_ms"}
    )


def test_what_no_object_says_stands_beside_the_manifest(tmp_path: Path) -> None:
    policy = read(tmp_path, hpa(external()), metrics_delay_s=30.0, name="prod")
    assert (policy.metrics_delay_s, policy.name) == (30.0, "prod")
    assert "which is of kind hpa, not keda" in refused(tmp_path, hpa(external()), kind="keda")


def prometheus(query: str = "sum(rate(nv_inference_request_success[1m]))", **more: Any) -> dict[str, Any]:
    metadata = {"serverAddress": "http://prometheus:9090", "query": query, "threshold": "10"}
    return {"type": "prometheus", **more, "metadata": {**metadata, **more.get("metadata", {})}}


def keda(*triggers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    body = {"scaleTargetRef": {"name": "triton"}, "triggers": list(triggers) or [prometheus()], **spec}
    meta = {"name": "triton", "annotations": annotations or {}}
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": meta, "spec": body}


def test_a_scaled_object_has_kedas_defaults(tmp_path: Path) -> None:
    policy = read(tmp_path, keda())
    assert isinstance(policy, Keda)
    assert policy.triggers == (KedaTrigger(metric="requests_per_second", threshold=10),)
    assert (policy.min_replicas, policy.max_replicas, policy.idle_replicas) == (0, 100, None)
    assert (policy.polling_interval_s, policy.cooldown_s, policy.initial_cooldown_s) == (30, 300, 0)
    assert policy.window_s == 60  # of its query


def test_a_scaled_object_says_its_clocks(tmp_path: Path) -> None:
    behavior = {"scaleDown": {"selectPolicy": "Disabled"}}
    advanced = {"horizontalPodAutoscalerConfig": {"behavior": behavior}, "restoreToOriginalReplicaCount": True}
    counts = {"minReplicaCount": 2, "maxReplicaCount": 9, "idleReplicaCount": 0}
    trigger = prometheus(metadata={"activationThreshold": "3"})
    clocks = {"pollingInterval": 10, "cooldownPeriod": 60, "initialCooldownPeriod": 120}
    policy = read(tmp_path, keda(trigger, **counts, **clocks, advanced=advanced))
    assert (policy.min_replicas, policy.max_replicas, policy.idle_replicas) == (2, 9, 0)
    assert (policy.polling_interval_s, policy.cooldown_s, policy.initial_cooldown_s) == (10, 60, 120)
    assert policy.behavior.scale_down.select_policy == "Disabled"
    assert policy.triggers[0].activation == 3


def test_a_query_of_ours_is_known_whatever_its_selector(tmp_path: Path) -> None:
    query = 'sum( rate(nv_inference_request_duration_us{model="a",\n pod=~"x.*"}[45s]) ) / 1e6'
    policy = read(tmp_path, keda(prometheus(query), minReplicaCount=1))
    assert (policy.triggers[0].metric, policy.window_s) == ("in_flight_requests", 45)


def test_a_forecast_of_forecasts_is_none_of_ours(tmp_path: Path) -> None:
    query = "sum(rate(nv_inference_request_success[30s]))"
    for _ in range(2000):
        query = f"predict_linear(({query})[5m:],60)"
    assert "its query is not one of the testbed's" in refused(tmp_path, keda(prometheus(query), minReplicaCount=1))


def test_a_paused_annotation_of_false_pauses_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, keda(annotations={"autoscaling.keda.sh/paused": "false"})) == read(tmp_path, keda())


def test_another_query_is_named(tmp_path: Path) -> None:
    other = keda(prometheus("avg(my_queue_seconds)", name="queue"), minReplicaCount=1)
    said = refused(tmp_path, other)
    assert "mine.yaml: spec.triggers.0: its query is not one of the testbed's (avg(my_queue_seconds))" in said
    assert "--metric 'queue=" in said
    policy = read(tmp_path, other, metrics={"queue": "0.001 * queue_time_ms"})
    assert policy.triggers == (KedaTrigger(metric="queue_time_ms", threshold=10_000, name="queue"),)


def test_cpu_scales_and_does_not_wake(tmp_path: Path) -> None:
    cpu = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}}
    policy = read(tmp_path, keda(cpu, minReplicaCount=1))
    assert policy.triggers == (KedaTrigger(metric="cpu", threshold=50),)
    # The scene's pods use a tenth of a core for each request in flight, of 1000m.
    assert [count for _, count in play(policy, lambda t: 30.0, 120, start=2)] == [4, 6]  # 3 cores, half a core each
    both = read(tmp_path, keda(cpu, prometheus("sum(nv_inference_pending_request_count)"), minReplicaCount=0))
    assert both.decide(Scene(500.0, 0, lambda t: 0.0), None).replicas == 0
    assert "cpu wakes nobody: give min_replicas of 1 or more" in refused(tmp_path, keda(cpu))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (keda(annotations={"autoscaling.keda.sh/paused-replicas": "2"}), "paused-replicas is not modelled"),
        (keda({"type": "kafka", "metadata": {}}), "spec.triggers.0: a trigger of type kafka is not modelled"),
        (keda(annotations={"autoscaling.keda.sh/paused": "true"}), "autoscaling.keda.sh/paused is not modelled"),
        (
            keda(prometheus(metadata={"threshold": "inf"})),
            "spec.triggers.0: metadata.threshold is no number (got 'inf')",
        ),
        (keda(prometheus("avg(DCGM_FI_DEV_GPU_UTIL)")), "--metric 'trigger-0=mean_gpu_utilisation_pct'"),
        (keda(prometheus(metricType="Utilization")), "spec.triggers.0: metricType Utilization is of cpu and memory"),
        (keda(prometheus(metadata={"threshold": "many"})), "spec.triggers.0: metadata.threshold is no number"),
        (keda(idleReplicaCount=0), "spec.idleReplicaCount 0 must be below minReplicaCount"),
        (
            keda(idleReplicaCount=1, minReplicaCount=2),
            "spec.idleReplicaCount 1 is not modelled: KEDA ",
        ),
        (keda(triggers=[]), "spec.triggers: "),
        (keda(cooldown=3), "unknown key 'spec.cooldown': did you mean 'cooldownPeriod'?"),
        (
            keda(prometheus(), prometheus("sum(rate(nv_inference_request_duration_us[30s]))/1e6")),
            "the windows of its queries differ (30 s, 60 s)",
        ),
    ],
)
def test_what_keda_or_the_policy_cannot_do_is_said_in_one_line(tmp_path: Path, body: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, body)


def knative(concurrency: int | None = None, **annotations: str) -> dict[str, Any]:
    named = {f"autoscaling.knative.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    spec = {} if concurrency is None else {"containerConcurrency": concurrency}
    template = {"metadata": {"annotations": {"min-scale": "no", **named}}, "spec": {**spec, "containers": []}}
    meta = {"name": "triton"}
    return {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": meta, "spec": {"template": template}}


def test_a_knative_service_has_knatives_defaults(tmp_path: Path) -> None:
    policy = read(tmp_path, knative(min_scale="1"))
    assert policy == Knative(container_concurrency=100, max_replicas=6, min_replicas=1, name="mine")


def test_a_knative_service_says_its_target_and_windows(tmp_path: Path) -> None:
    windows = {"window": "2m", "panic_window_percentage": "20.0", "panic_threshold_percentage": "150"}
    bounds = {"min_scale": "2", "maxScale": "7", "initial_scale": "3", "scale_down_delay": "15m"}
    policy = read(tmp_path, knative(8, target="10", target_utilization_percentage="80", **windows, **bounds))
    assert (policy.container_concurrency, policy.target_utilisation) == (8, 0.8)  # the smaller of target and hard limit
    assert (policy.stable_window_s, policy.panic_window_s, policy.panic_threshold) == (120, 24, 1.5)
    assert (policy.min_replicas, policy.max_replicas, policy.scale_down_delay_s) == (2, 7, 900)
    file = str(written(tmp_path, knative(min_scale="1", initial_scale="3")))
    assert Knative.start_replicas(read_manifest({"manifest": file})) == 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (knative(), "min_replicas 0 (Knative's own default) is not modelled"),
        (
            knative(min_scale="1", metric="rps"),
            "spec.template.metadata.annotations: metric rps is not modelled",
        ),
        (knative(min_scale="1", window="60"), "annotations: window is no duration"),
        (knative(min_scale="1", target="many"), "target is no number (got 'many')"),
        (knative(min_scale="1", target="nan"), "target is no number (got 'nan')"),
        (knative(min_scale="inf"), "min-scale is no whole number (got 'inf')"),
        (knative(min_scale="1.5"), "min-scale is no whole number (got '1.5')"),
        (knative(min_scale="3", max_scale="2"), "max-scale 2 is below min-scale 3"),
        (knative(min_scale="1", target_utilization_percentage="0.7"), "percentage must be from 1 to 100 (got '0.7')"),
        (knative(min_scale="1", panic_threshold_percentage="50"), "must be from 110 to 1000 (got '50')"),
        (knative(min_scale="1", window="2s"), "window, in seconds, must be from 6 to 3600 (got 2.0)"),
        (knative("many", min_scale="1"), "spec.template.spec.containerConcurrency is no whole number (got 'many')"),  # type: ignore[arg-type]
        (knative(min_scale="1", mn_scale="1"), "autoscaling.knative.dev/mn-scale is not known"),
    ],
)
def test_what_knative_or_the_policy_cannot_do_is_said_in_one_line(
    tmp_path: Path, body: dict[str, Any], said: str
) -> None:
    assert said in refused(tmp_path, body)


def test_knative_begins_in_panic_with_the_pods_that_are_there() -> None:
    """Nothing is in flight, and 4 pods are ready: they stay for a stable window, and then half of them goes at once."""
    policy = Knative(container_concurrency=10, max_replicas=8)
    changes = play(policy, lambda t: 0.0, 200, start=4)
    assert [count for _, count in changes] == [2, 1]
    assert 60 <= changes[0][0] <= 64


TARGETS = {
    "Resource": ("target_utilization_pct", "target_average_value_m"),
    "ContainerResource": ("target_utilization_pct", "target_average_value_m"),
    "Pods": ("target_average_value_m",),
    "Object": ("target_value_m", "target_average_value_m"),
    "External": ("target_value_m", "target_average_value_m"),
}
OURS = [name for name in METRICS.known() if METRICS.find(name).query("", "1m") is not None]
replicas = st.integers(1, 50)
rules = st.fixed_dictionaries(
    {
        "select_policy": st.sampled_from(["Max", "Min", "Disabled"]),
        "policies": st.lists(
            st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["Pods", "Percent"]),
                    "value": st.integers(1, 1000),
                    "period_s": st.integers(1, 1800),
                }
            ),
            min_size=1,
            max_size=3,
        ),
        "stabilization_window_s": st.none() | st.integers(0, 3600),
        "tolerance": st.none() | st.integers(0, 1000).map(lambda thousandths: thousandths / 1000),
    }
)
behaviors = st.none() | st.builds(
    lambda up, down: Behavior.model_validate({"scale_up": up, "scale_down": down}), rules, rules
)


@st.composite
def metrics(draw: st.DrawFn) -> MetricSpec:
    kind = draw(st.sampled_from(sorted(TARGETS)))
    cpu, container = kind in ("Resource", "ContainerResource"), "server" if kind == "ContainerResource" else None
    name = "cpu" if cpu else draw(st.sampled_from(list(METRICS.known())))
    target = {draw(st.sampled_from(TARGETS[kind])): draw(st.integers(1, 10**9))}
    return MetricSpec(type=kind, name=name, container=container, **target)


@settings(max_examples=60, deadline=None)
@given(least=replicas, more=st.integers(0, 20), listed=st.lists(metrics(), min_size=1, max_size=3), behavior=behaviors)
def test_an_hpa_that_is_written_is_read_as_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    least: int,
    more: int,
    listed: list[MetricSpec],
    behavior: Behavior | None,
) -> None:
    spec = HpaSpec(min_replicas=least, max_replicas=least + more, metrics=tuple(listed), behavior=behavior)
    again = read(tmp_path_factory.mktemp("hpa"), hpa_object(spec, "triton", "default", "triton"))
    assert again.spec == spec


@settings(max_examples=60, deadline=None)
@given(
    chosen=st.lists(st.sampled_from([*OURS, FORECAST, CPU]), min_size=1, max_size=4, unique=True),
    thresholds=st.lists(st.integers(1, 999_999), min_size=4, max_size=4),
    activation=st.integers(0, 1000),
    least=replicas,
    idle=st.sampled_from([None, 0]),
    clocks=st.lists(st.integers(1, 3600), min_size=6, max_size=6),
    behavior=behaviors,
)
def test_a_scaled_object_that_is_written_is_read_as_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    chosen: list[str],
    thresholds: list[int],
    activation: int,
    least: int,
    idle: Any,
    clocks: list[int],
    behavior: Behavior | None,
) -> None:
    names = [*chosen, "requests_per_second"] if chosen == [CPU] else chosen
    poll, cooldown, initial, window, history, ahead = (float(clock) for clock in clocks)
    timed = {FORECAST, "requests_per_second", "in_flight_requests", "queue_time_ms", "gpu_utilisation_pct"} & set(names)
    policy = Keda(
        triggers=tuple(
            KedaTrigger(metric=name, threshold=threshold, activation=0.0 if name == CPU else activation)
            for name, threshold in zip(names, thresholds, strict=False)
        ),
        min_replicas=least,
        max_replicas=least + 3,
        idle_replicas=idle,
        polling_interval_s=poll,
        cooldown_s=cooldown,
        initial_cooldown_s=initial,
        behavior=behavior,
        # What the object does not say cannot come back: a window without a rate, a forecast without one.
        **({"window_s": window} if timed else {}),
        **({"forecast_window_s": history, "forecast_ahead_s": ahead} if FORECAST in names else {}),
        name="mine",
    )
    again = read(tmp_path_factory.mktemp("keda"), scaled_object(policy, "triton", "serving", "bert"))
    assert again == policy
