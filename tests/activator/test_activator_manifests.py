"""The activator's manifests: settings, ports, page, rights and network name the same things. Needs kubectl."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import client

from testbed.activator.config import ActivatorConfig
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.live.deployment import DeploymentView
from testbed.config_file import load_config
from testbed.controller.config import ControllerConfig
from testbed.controller.health import HEALTH_PATH
from testbed.serving.kubernetes_objects import GRPC_PORT, HTTP_PORT
from tests.helm import KUBECTL, MANIFESTS, kustomized

ACTIVATORS = [MANIFESTS / "activator", MANIFESTS / "overlays" / "local-activator"]
TO_ZERO = MANIFESTS / "overlays" / "scale-to-zero"
needs_kubectl = pytest.mark.skipif(not KUBECTL, reason="needs kubectl")


class Right(NamedTuple):
    """What an account may do, or does. name: of the one object; None: any."""

    group: str
    resource: str
    name: str | None
    verb: str


def of_kind(objects: list[dict[str, Any]], kind: str, part: str = "kis-activator") -> dict[str, Any]:
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"].startswith(part))
    return found


class Played(BaseHTTPRequestHandler):
    """An API server with one deployment of no pods, which remembers what it was asked."""

    asked: list[Right]

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        group, rest = ("", parts[4:]) if parts[0] == "api" else (parts[1], parts[5:])
        one = len(rest) > 1
        resource = "/".join([rest[0], *rest[2:]])
        self.asked.append(Right(group, resource, rest[1] if one else None, "get" if one else "list"))
        said = {"spec": {"replicas": 0}, "status": {"replicas": 0, "selector": "app=web"}} if one else {"items": []}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def played() -> Iterator[tuple[client.ApiClient, list[Right]]]:
    """A client of it, and what was asked."""
    handler = type("Remembering", (Played,), {"asked": list[Right]()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = client.Configuration()
    settings.host = f"http://127.0.0.1:{server.server_port}"
    yield client.ApiClient(settings), handler.asked
    server.shutdown()
    server.server_close()


def test_the_role_permits_what_the_code_asks_for_and_nothing_else(
    played: tuple[client.ApiClient, list[Right]],
) -> None:
    api, asked = played
    config = load_config(MANIFESTS / "activator" / "activator.yaml", ActivatorConfig)
    for each in config.deployments:
        DeploymentView(api, "there", each.deployment).look()
    objects = list(yaml.safe_load_all((MANIFESTS / "activator" / "rbac.yaml").read_text()))
    role = of_kind(objects, "Role")
    permitted = [
        Right(group, resource, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [None])
        for verb in rule["verbs"]
    ]
    assert sorted(permitted) == sorted(asked)
    binding = of_kind(objects, "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [one["name"] for one in binding["subjects"]] == [of_kind(objects, "ServiceAccount")["metadata"]["name"]]


@needs_kubectl
@pytest.mark.parametrize("folder", ACTIVATORS, ids=lambda folder: folder.name)
def test_settings_ports_page_and_rights_name_the_same_things(folder: Path) -> None:
    config = load_config(folder / "activator.yaml", ActivatorConfig)
    assert config.namespace is None, "the pod's own"
    assert config.address == "0.0.0.0"
    (activated,) = config.deployments
    objects = kustomized(folder)
    assert of_kind(objects, "Role")["rules"][0]["resourceNames"] == [activated.deployment]

    spec = of_kind(objects, "Deployment")["spec"]
    pods = spec["template"]["spec"]
    (container,) = pods["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    of_pods = {HTTP_PORT: "http", GRPC_PORT: "grpc"}
    assert ports == {of_pods[port.pod]: port.listen for port in activated.ports} | {"metrics": config.metrics_port}
    service = of_kind(objects, "Service")["spec"]
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
    assert service["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    assert "clusterIP" not in service  # an address that stays
    allowed = of_kind(objects, "NetworkPolicy")["spec"]["ingress"]
    assert sorted(port["port"] for rule in allowed for port in rule["ports"]) == sorted(ports)

    annotations = spec["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(config.metrics_port)
    probes = [container[f"{of}Probe"]["httpGet"] for of in ("startup", "readiness", "liveness")]
    assert probes == [{"path": HEALTH_PATH, "port": "metrics"}] * 3
    assert pods["serviceAccountName"] == of_kind(objects, "ServiceAccount")["metadata"]["name"]


@needs_kubectl
@pytest.mark.parametrize("folder", ACTIVATORS, ids=lambda folder: folder.name)
def test_it_is_one_process_that_has_the_memory_and_the_time_that_its_settings_ask_for(folder: Path) -> None:
    config = load_config(folder / "activator.yaml", ActivatorConfig)
    spec = of_kind(kustomized(folder), "Deployment")["spec"]
    assert spec["replicas"] == 1
    pods = spec["template"]["spec"]
    (container,) = pods["containers"]
    leaving_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pods["terminationGracePeriodSeconds"] >= leaving_s + config.drain_s + 5
    held_mib = config.hold.max_held_mib + config.hold.max_waiting / 4  # 256 KiB each; a Python of 130 MiB
    assert container["resources"]["limits"]["memory"] == "1Gi"
    assert held_mib + 130 < 1024


@needs_kubectl
def test_the_controller_that_may_scale_to_zero_reads_the_activators_page() -> None:
    controller = load_config(TO_ZERO / "controller.yaml", ControllerConfig)
    activator = load_config(MANIFESTS / "activator" / "activator.yaml", ActivatorConfig)
    assert [one.deployment for one in activator.deployments] == [controller.deployment]
    objects = kustomized(TO_ZERO)
    service = of_kind(objects, "Service")
    (page,) = (port["port"] for port in service["spec"]["ports"] if port["targetPort"] == "metrics")
    assert controller.activator == f"http://{service['metadata']['name']}:{page}"
    policy = build_policy(controller.policy, controller.limits.max_replicas, None)
    assert controller.limits.min_replicas == controller.policy["min_replicas"] == 0
    assert policy.name == "keda"
    named = [
        rule["resourceNames"]
        for rule in of_kind(objects, "Role", "kis-controller")["rules"]
        if rule.get("resourceNames")
    ]
    assert named == [[controller.deployment], [controller.lease]]
    settings = of_kind(objects, "ConfigMap", "kis-controller")["data"]["controller.yaml"]
    assert yaml.safe_load(settings)["activator"] == controller.activator  # not that of manifests/controller
