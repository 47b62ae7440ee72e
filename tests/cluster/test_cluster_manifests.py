"""The manifests: valid to the API server, and real Triton pods from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import yaml
from localcluster_pods import MANIFESTS, ready_addresses, running

from testbed.config import ServeConfig, load_config
from workloads.catalog import find_model

pytestmark = pytest.mark.cluster

OVERLAYS = sorted(path.parent for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))


@pytest.mark.parametrize("kustomization", [MANIFESTS / "base", *OVERLAYS], ids=lambda path: path.name)
def test_the_api_server_accepts_every_object(kustomization: Path, kubectl: Callable[..., str], namespace: str) -> None:
    created = kubectl("apply", "--dry-run=server", "--namespace", namespace, "-k", str(kustomization))
    kinds = {line.split("/")[0] for line in created.splitlines()}
    assert {"deployment.apps", "service", "serviceaccount", "configmap"} <= kinds
    assert {"poddisruptionbudget.policy", "networkpolicy.networking.k8s.io"} <= kinds


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_names_and_ports_agree_with_the_catalog(overlay: Path, kubectl: Callable[..., str]) -> None:
    config = load_config(overlay / "serve.yaml", ServeConfig)
    objects = list(yaml.safe_load_all(kubectl("kustomize", str(overlay))))
    model = find_model(config.model).name
    for one in objects:
        assert one["metadata"]["name"].startswith(f"triton-{model}")
        assert one["metadata"]["labels"]["kis/model"] == model
    (pods,) = (one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment")
    (service,) = (one["spec"] for one in objects if one["kind"] == "Service")
    ports = {port["name"]: port["containerPort"] for port in pods["containers"][0]["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}
    assert ports == {port["name"]: port["port"] for port in service["ports"]}


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
    api: Any, namespace: str, emulated: list[Any]
) -> None:
    addresses = ready_addresses(api, namespace)
    assert addresses == sorted(pod.status.pod_ip for pod in emulated)
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    for address in addresses:
        assert np.array_equal(infer(address, "emulated", "x", x, "y"), x)


def test_resnet50_is_served_by_a_real_pod(
    local_cluster: Any,
    kubectl: Callable[..., str],
    api: Any,
    core: Any,
    namespace: str,
    eventually: Callable[..., Any],
) -> None:
    kubectl("apply", "--namespace", namespace, "-k", str(MANIFESTS / "overlays" / "local"))
    eventually(lambda: running(core, namespace), "the pod is ready", timeout_s=90)
    (address,) = ready_addresses(api, namespace)
    image = np.zeros((1, 3, 224, 224), dtype=np.float32)
    assert infer(address, "resnet50", "image", image, "logits").shape == (1, 1000)


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
    eventually(lambda: len(core.list_namespaced_pod(namespace).items) == 2, "it ends", timeout_s=20)
    server.close()


def infer(address: str, model: str, name: str, value: np.ndarray, output: str) -> np.ndarray:
    """The model's answer, over HTTP."""
    tensor = tritonclient.http.InferInput(name, list(value.shape), "FP32")
    tensor.set_data_from_numpy(value)
    server = tritonclient.http.InferenceServerClient(f"{address}:8000")
    try:
        answer: np.ndarray = server.infer(model, [tensor]).as_numpy(output)
        return answer
    finally:
        server.close()
