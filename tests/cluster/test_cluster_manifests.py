"""The manifests: valid to the API server, and real Triton pods from them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import yaml
from localcluster_pods import MANIFESTS, infer, ready_addresses, running

from testbed.autoscaling.metrics import METRICS
from testbed.config import ServeConfig
from testbed.config_file import load_config
from testbed.controller.config import ControllerConfig
from testbed.controller.health import HEALTH_PATH
from testbed.serving.kubernetes_objects import GRPC_PORT, HTTP_PORT, METRICS_PORT
from testbed.serving.load_pod import LoadPodConfig
from workloads.catalog import find_model

pytestmark = pytest.mark.cluster

OVERLAYS = sorted(path.parent for path in MANIFESTS.glob("overlays/**/kustomization.yaml"))
SERVICES = sorted(path.parent for path in MANIFESTS.glob("overlays/**/serve.yaml"))
CONTROLLERS = [MANIFESTS / "controller", MANIFESTS / "overlays" / "local-controller"]
LOADS = [MANIFESTS / "load", MANIFESTS / "overlays" / "local-load"]
AUTOSCALERS = sorted(
    path.parent for path in MANIFESTS.glob("autoscaling/*/kustomization.yaml") if path.parent.name != "base"
)
ON_A_REAL_CLUSTER = [
    MANIFESTS / name
    for name in ("overlays/gpu", "overlays/cpu", "overlays/embedded", "controller", "activator", "load")
]
CONTAINER_PORTS = {"http": HTTP_PORT, "grpc": GRPC_PORT, "metrics": METRICS_PORT}


def name_of(folder: Path) -> str:
    return str(folder.relative_to(MANIFESTS))


def built(kubectl: Callable[..., str], folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(kubectl("kustomize", str(folder))))


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (one for one in objects if one["kind"] == kind)
    return found


@pytest.mark.parametrize(
    "kustomization",
    [MANIFESTS / "base", *CONTROLLERS[:1], MANIFESTS / "activator", *LOADS[:1], *OVERLAYS],
    ids=name_of,
)
def test_the_api_server_accepts_every_object(kustomization: Path, kubectl: Callable[..., str], namespace: str) -> None:
    created = kubectl("apply", "--dry-run=server", "--namespace", namespace, "-k", str(kustomization))
    assert len(created.splitlines()) == len(built(kubectl, kustomization))
    assert all(line.endswith("created (server dry run)") for line in created.splitlines())


@pytest.mark.parametrize("kustomization", ON_A_REAL_CLUSTER, ids=name_of)
def test_a_namespace_of_the_restricted_security_standard_has_nothing_to_warn_of(
    kustomization: Path, kubectl: Callable[..., str], namespace: str
) -> None:
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    told = kubectl(
        "apply", "--dry-run=server", "--warnings-as-errors", "--namespace", namespace, "-k", str(kustomization)
    )
    assert len(told.splitlines()) == len(built(kubectl, kustomization))


@pytest.mark.parametrize("overlay", SERVICES, ids=name_of)
def test_names_and_ports_agree_with_the_catalog(overlay: Path, kubectl: Callable[..., str]) -> None:
    config = load_config(overlay / "serve.yaml", ServeConfig)
    objects = built(kubectl, overlay)
    model = find_model(config.model).name
    for one in objects:
        assert one["metadata"]["name"].startswith((f"triton-{model}", f"slowness-{model}"))
        assert one["metadata"]["labels"]["kis/model"].startswith(model)  # a variant has a name of its own
    pods = of_kind(objects, "Deployment")["spec"]["template"]["spec"]
    service = of_kind(objects, "Service")
    ports = {port["name"]: port["containerPort"] for port in pods["containers"][0]["ports"]}
    assert ports == CONTAINER_PORTS
    assert ports == {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert service["metadata"]["name"] == of_kind(objects, "Deployment")["metadata"]["name"]
    assert of_kind(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS_PORT),
        "prometheus.io/path": "/metrics",
    }


@pytest.mark.parametrize("overlay", SERVICES, ids=name_of)
def test_a_gpu_is_asked_for_where_it_is_used_and_nvidias_image_runs_onnx(
    overlay: Path, kubectl: Callable[..., str]
) -> None:
    pods = of_kind(built(kubectl, overlay), "Deployment")["spec"]["template"]["spec"]
    (server,), (repository,) = pods["containers"], pods["initContainers"]
    where = overlay.relative_to(MANIFESTS / "overlays").parts[0]
    device = load_config(overlay / "serve.yaml", ServeConfig).device
    assert (device == "gpu") == (where == "gpu")
    assert server["resources"]["limits"].get("nvidia.com/gpu") == (None if where in ("cpu", "embedded") else 1)
    if where in ("gpu", "cpu"):
        assert server["image"].startswith("nvcr.io/nvidia/tritonserver:")
        assert repository["image"] == "kis-testbed"
        assert repository["command"][-1] == "onnxruntime"
    else:
        image = "kis-testbed" if where == "embedded" else "kis.local/hostroot:1"
        assert server["image"] == repository["image"] == image
        assert repository["command"][-1] != "onnxruntime"


@pytest.mark.parametrize("folder", CONTROLLERS, ids=name_of)
def test_a_controllers_role_page_and_settings_name_the_same_things(folder: Path, kubectl: Callable[..., str]) -> None:
    config = load_config(folder / "controller.yaml", ControllerConfig)
    assert config.namespace is None, "the pod's own"
    assert config.deployment == f"triton-{find_model(config.model).name}"
    objects = built(kubectl, folder)
    named = {
        rule["resources"][0]: rule["resourceNames"]
        for rule in of_kind(objects, "Role")["rules"]
        if "resourceNames" in rule
    }
    assert named == {"deployments/scale": [config.deployment], "leases": [config.lease]}
    (container,) = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "metrics", "containerPort": config.metrics_port}]
    assert container["livenessProbe"]["httpGet"] == {"path": HEALTH_PATH, "port": "metrics"}
    annotations = of_kind(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(config.metrics_port)


@pytest.mark.parametrize("folder", LOADS, ids=name_of)
def test_the_load_asks_a_service_of_the_catalog_with_as_many_workers_as_the_master_expects(
    folder: Path, kubectl: Callable[..., str]
) -> None:
    config = load_config(folder / "load.yaml", LoadPodConfig)
    assert find_model(config.target.removeprefix("triton-"))
    objects = built(kubectl, folder)
    assert of_kind(objects, "Service")["metadata"]["name"] == config.master
    jobs = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Job"}
    workers = jobs["kis-load-workers"]["parallelism"]
    assert workers == jobs["kis-load-workers"]["completions"]
    (master,) = jobs["kis-load-master"]["template"]["spec"]["containers"]
    assert f"--expect-workers={workers}" in master["args"]


@pytest.mark.parametrize("autoscaler", AUTOSCALERS, ids=name_of)
def test_an_autoscaler_is_for_the_deployment_that_it_is_added_to(
    autoscaler: Path, kubectl: Callable[..., str], namespace: str, tmp_path: Path
) -> None:
    added = {
        "resources": [os.path.relpath(MANIFESTS / "overlays" / "gpu" / "bert", tmp_path)],
        "components": [os.path.relpath(autoscaler, tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(added))
    made = kubectl("apply", "--dry-run=server", "-o", "yaml", "--namespace", namespace, "-k", str(tmp_path))
    objects = yaml.safe_load(made)["items"]
    hpa, deployment = of_kind(objects, "HorizontalPodAutoscaler"), of_kind(objects, "Deployment")
    assert hpa["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"] == "triton-bert"
    (metric,) = hpa["spec"]["metrics"]
    if metric["type"] == "ContainerResource":
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert metric["containerResource"]["container"] == container["name"]
        assert metric["containerResource"]["name"] in container["resources"]["requests"]
    else:
        asked = metric[metric["type"].lower()]["metric"]
        assert asked["name"] in set(METRICS.known())
        if metric["type"] == "External":
            assert asked["selector"]["matchLabels"] == {"deployment": deployment["metadata"]["name"]}


@pytest.fixture
def emulated(
    local_cluster: Any, kubectl: Callable[..., str], core: Any, namespace: str, eventually: Callable[..., Any]
) -> list[Any]:
    """Two ready pods of the emulated model."""
    kubectl("apply", "--namespace", namespace, "-k", str(MANIFESTS / "overlays" / "emulated"))
    kubectl("scale", "--namespace", namespace, "deployment/triton-emulated", "--replicas=2")
    eventually(lambda: len(running(core, namespace)) == 2, "two Triton pods are ready")
    return running(core, namespace)


def test_real_triton_pods_answer_at_the_addresses_of_the_endpoint_slice(
    api: Any, namespace: str, emulated: list[Any], eventually: Callable[..., Any]
) -> None:
    addresses = sorted(pod.status.pod_ip for pod in emulated)
    eventually(lambda: ready_addresses(api, namespace) == addresses, "they are listed")
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    for address in addresses:
        assert np.array_equal(infer(address, "emulated", {"x": x}, "y"), x)


@pytest.mark.parametrize("model", ["resnet50", "bert"])
def test_a_network_is_served_by_a_real_pod(
    model: str,
    local_cluster: Any,
    kubectl: Callable[..., str],
    api: Any,
    core: Any,
    namespace: str,
    eventually: Callable[..., Any],
) -> None:
    kubectl("apply", "--namespace", namespace, "-k", str(MANIFESTS / "overlays" / "local" / model))
    eventually(lambda: running(core, namespace), "the pod is ready")
    (address,) = eventually(lambda: ready_addresses(api, namespace), "it is listed")
    spec = find_model(model)
    types = {"FP32": np.float32, "INT64": np.int64}
    inputs = {one.name: np.ones((1, *one.shape), dtype=types[one.datatype]) for one in spec.inputs}
    assert infer(address, model, inputs, spec.outputs[0].name).shape == (1, *spec.outputs[0].shape)


def test_a_triton_pod_is_an_ordinary_user_without_rights(
    kubectl: Callable[..., str], namespace: str, emulated: list[Any]
) -> None:
    def inside(*command: str) -> str:
        return kubectl("exec", "--namespace", namespace, emulated[0].metadata.name, "-c", "triton", "--", *command)

    status = dict(line.split(":\t", 1) for line in inside("cat", "/proc/1/status").splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["1000"] * 4
    assert int(status["CapEff"], 16) == 0
    assert status["Seccomp"] == "2", "a filter is on"
    assert status["NoNewPrivs"] == "1"
    with pytest.raises(AssertionError, match="Read-only file system"):
        inside("touch", "/written")


def test_a_triton_pod_that_is_deleted_leaves_the_endpoints_first_and_ends_in_time(
    api: Any, core: Any, namespace: str, emulated: list[Any], eventually: Callable[..., Any]
) -> None:
    leaving = emulated[0]
    server = tritonclient.http.InferenceServerClient(f"{leaving.status.pod_ip}:8000")
    core.delete_namespaced_pod(leaving.metadata.name, namespace)

    eventually(lambda: leaving.status.pod_ip not in ready_addresses(api, namespace), "it is listed no more")
    assert server.is_server_ready(), "it still answers"
    eventually(lambda: len(running(core, namespace)) == 2, "another takes its place")
    eventually(lambda: len(core.list_namespaced_pod(namespace).items) == 2, "it ends")
    server.close()
