"""The adapter's metrics behind the API server, and the stock HPA on them."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from emulated_service import LONG_S, NAME, replay_at
from local_cluster import cluster_command
from localcluster_pods import MANIFESTS, host_root_pod

from testbed.localcluster import pki
from testbed.serving.kubernetes import KubernetesService
from testbed.serving.kubernetes_objects import HTTP_PORT, METRICS_PORT

pytestmark = pytest.mark.cluster

APIS = ("v1beta1.external.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io")
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/pods/*/{}"
BUSY = f"""
import http.server, threading

class Busy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>busy</html>")

servers = [http.server.ThreadingHTTPServer(("", port), Busy) for port in ({HTTP_PORT}, {METRICS_PORT})]
threading.Thread(target=servers[0].serve_forever).start()
servers[1].serve_forever()
"""


@pytest.fixture
def adapter(
    applied: str, kubectl: Callable[..., str], api: Any, tmp_path: Path, eventually: Callable[..., Any]
) -> Iterator[str]:
    """manifests/adapter/local in the test's namespace: the address of the adapter's pod."""
    from kubernetes import client

    for name in ("adapter", "components"):
        shutil.copytree(MANIFESTS / name, tmp_path / "manifests" / name)
    local = tmp_path / "manifests" / "adapter" / "local"
    for file in (*local.glob("*.yaml"), *local.parent.glob("base/*.yaml")):
        file.write_text(file.read_text().replace("namespace: default", f"namespace: {applied}"))
    config = yaml.safe_load((local / "adapter.yaml").read_text())
    (local / "adapter.yaml").write_text(yaml.safe_dump({**config, "window_s": 3.0, "scrape_period_s": 0.5}))
    assert cluster_command("certificate", f"kis-adapter.{applied}.svc", str(local)).returncode == 0
    kubectl("apply", "-k", str(local))
    registered = client.ApiregistrationV1Api(api)

    def available() -> bool:
        conditions = [registered.read_api_service(name).status.conditions or [] for name in APIS]
        return all(any(one.type == "Available" and one.status == "True" for one in of_api) for of_api in conditions)

    try:
        eventually(available, "both APIs are available")
        (pod,) = (
            client.CoreV1Api(api)
            .list_namespaced_pod(applied, label_selector="app.kubernetes.io/name=kis-adapter")
            .items
        )
        yield pod.status.pod_ip
    finally:  # before the namespace: it cannot go while an API does not answer
        kubectl("delete", "--ignore-not-found", "-k", str(local))


METRICS = {
    "External": {
        "metric": {
            "name": "queue_time_ms",
            "selector": {"matchLabels": {"deployment": NAME}},
        },
        "target": {"type": "Value", "value": "20"},
    },
    "Pods": {"metric": {"name": "requests_per_second"}, "target": {"type": "AverageValue", "averageValue": "200"}},
}


def hpa(kind: str) -> dict[str, Any]:
    """A stock HPA; it may go down at once, since the test waits for it."""
    return {
        "metadata": {"name": NAME},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [{"type": kind, kind.lower(): METRICS[kind]}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }


@pytest.mark.usefixtures("adapter")
@pytest.mark.parametrize("kind", METRICS)
def test_the_stock_hpa_scales_up_under_load_and_down_after_it(
    kind: str,
    service: KubernetesService,
    applied: str,
    api: Any,
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    from kubernetes import client

    scaling = client.AutoscalingV2Api(api)
    service.wait_ready(1, LONG_S)
    scaling.create_namespaced_horizontal_pod_autoscaler(applied, hpa(kind))

    def wanted() -> int:
        return int(client.AppsV1Api(api).read_namespaced_deployment_scale(NAME, applied).spec.replicas)

    sizes, enough = list[int](), threading.Event()

    def look(*_: float) -> None:
        sizes.append(wanted())
        if sizes[-1] == 3:
            enough.set()

    replay_at(900.0, 60.0, service, tmp_path, look, enough)
    assert sizes[0] == 1
    assert max(sizes) == 3
    eventually(lambda: wanted() == 1, "it goes down when nothing comes any more")
    told = scaling.read_namespaced_horizontal_pod_autoscaler(NAME, applied).status
    assert {condition.type: condition.reason for condition in told.conditions}["ScalingActive"] == "ValidMetricFound"


def test_a_pod_that_tells_garbage_is_missing_and_so_is_the_sum_with_it(
    adapter: str, service: KubernetesService, applied: str, api: Any, core: Any, eventually: Callable[..., Any]
) -> None:
    def ask(path: str, metric: str, selector: str = "") -> list[Any] | int:
        """The items, or the status of the refusal."""
        query = [("labelSelector", selector)] if selector else []
        auth = {"auth_settings": ["BearerToken"]}
        response = api.call_api(*api.param_serialize("GET", path.format(applied, metric), query_params=query, **auth))
        response.read()
        told = json.loads(response.data)
        if told["kind"] == "Status":
            return int(told["code"])
        items: list[Any] = told["items"]
        return items

    def total() -> list[Any] | int:
        return ask(EXTERNAL, "pending_requests", f"deployment={NAME}")

    service.wait_ready(1, LONG_S)
    (triton,) = service.endpoints()

    def found(told: list[Any] | int) -> list[Any]:
        return told if isinstance(told, list) else []

    (item,) = eventually(lambda: found(total()), "a whole window is measured")
    assert (item["metricLabels"]["deployment"], item["value"]) == (NAME, "0m")
    assert item["windowSeconds"] >= 3
    labels = core.read_namespaced_pod(triton.name, applied).metadata.labels
    del labels["pod-template-hash"]  # the deployment's selector finds it, and its replica set does not take it
    command = ["/opt/python/bin/python3", "-c", BUSY]
    core.create_namespaced_pod(applied, host_root_pod("busy", command, labels=labels))
    eventually(lambda: len(service.endpoints()) == 2, "the pod that tells garbage is ready")
    eventually(lambda: total() == 404, "there is no sum without it")
    (of_pod,) = eventually(lambda: found(ask(CUSTOM, "queue_time_ms")), "there is one of the other pod")
    assert of_pod["describedObject"]["name"] == triton.name
    assert ask(CUSTOM, "queue_time_ms", "kis/model=bert") == 404
    assert ask(CUSTOM, "unheard_of") == 404
    assert ask(EXTERNAL, "requests_per_second", "=") == 400


def test_only_the_front_proxy_may_ask(adapter: str) -> None:
    pki.issue("stranger", pki.CA, "/CN=front-proxy-client", "clientAuth")
    pki.issue("impostor", pki.FRONT_PROXY_CA, "/CN=impostor", "clientAuth")
    for name in (None, "stranger"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _status(adapter, name)
    assert _status(adapter, "impostor") == 403
    assert _status(adapter, "front-proxy-client") == 200


def _status(address: str, certificate: str | None) -> int:
    """Of a request to the adapter itself, past the API server."""
    context = ssl.create_default_context(cafile=pki.CA)
    context.check_hostname = False  # it is asked by its address
    if certificate is not None:
        context.load_cert_chain(pki.PKI / f"{certificate}.crt", pki.PKI / f"{certificate}.key")
    with (
        socket.create_connection((address, 6443), timeout=60) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(b"GET /apis HTTP/1.1\r\nHost: adapter\r\nConnection: close\r\n\r\n")
        first = connection.recv(4096)
    if not first:
        raise ConnectionError("closed without an answer")
    return int(first.split()[1])
