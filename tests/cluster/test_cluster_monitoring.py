"""Monitors, alert rules and dashboard: each metric that they name is on a real page.

The Prometheus operator is not on the local cluster. Its two kinds are defined here as far as our objects use them: our
own reading of its API, and no proof that an operator takes them.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from localcluster_pods import MANIFESTS, infer, running
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from testbed.activator.config import HoldLimits
from testbed.activator.front import Front
from testbed.activator.page import Counts
from testbed.controller.exporter import Exporter
from testbed.controller.health import Pulse
from testbed.controller.loop import Turn
from workloads.catalog import CATALOG

pytestmark = pytest.mark.cluster

MONITORING = MANIFESTS / "monitoring"
METRIC = re.compile(r"\b((?:nv|kis)_[a-z0-9_]+|up)\b")
OF_A_GPU = {"nv_gpu_utilization"}  # on no page of a server without one (testbed/measurement/triton_metrics.py reads it)
OF_PROMETHEUS = {"up"}


def rules() -> list[dict[str, Any]]:
    spec = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
    return [rule for group in spec["groups"] for rule in group["rules"]]


def dashboard() -> list[str]:
    panels = json.loads((MONITORING / "kis-dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def of(kind: str, plural: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A CustomResourceDefinition of the operator's, with so much of a schema."""
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [version],
        },
    }


TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def a(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


ENDPOINT = a(port=TEXT, path=TEXT, interval=TEXT)
RULE = a(**{"alert": TEXT, "expr": TEXT, "for": TEXT, "labels": TEXTS, "annotations": TEXTS})
DEFINITIONS = [
    of("PodMonitor", "podmonitors", a(selector=a(matchLabels=TEXTS), podMetricsEndpoints=list_of(ENDPOINT))),
    of("PrometheusRule", "prometheusrules", a(groups=list_of(a(name=TEXT, rules=list_of(RULE))))),
]


@pytest.fixture
def operator(local_cluster: Any, api: Any, eventually: Callable[..., Any]) -> Iterator[None]:
    """The operator's kinds, while the test runs."""
    from kubernetes import client

    extensions: Any = client.ApiextensionsV1Api(api)
    names = [one["metadata"]["name"] for one in DEFINITIONS]
    for one in DEFINITIONS:
        extensions.create_custom_resource_definition(one)

    def established(name: str) -> bool:
        conditions = extensions.read_custom_resource_definition(name).status.conditions or []
        return any(condition.type == "Established" and condition.status == "True" for condition in conditions)

    eventually(lambda: all(map(established, names)), "the kinds are there")
    yield
    for name in names:
        extensions.delete_custom_resource_definition(name)


@pytest.mark.usefixtures("operator")
def test_the_api_server_accepts_the_monitors_the_rules_and_the_dashboard(
    kubectl: Callable[..., str], namespace: str
) -> None:
    created = kubectl("apply", "--dry-run=server", "--namespace", namespace, "-k", str(MONITORING))
    kinds = sorted(line.split("/")[0] for line in created.splitlines())
    assert kinds == [
        "configmap",
        "podmonitor.monitoring.coreos.com",
        "podmonitor.monitoring.coreos.com",
        "podmonitor.monitoring.coreos.com",
        "prometheusrule.monitoring.coreos.com",
    ]


def test_the_monitors_find_the_pods_and_their_port(kubectl: Callable[..., str]) -> None:
    monitors = yaml.safe_load_all((MONITORING / "podmonitors.yaml").read_text())
    found = {monitor["metadata"]["name"]: monitor["spec"] for monitor in monitors}
    folders = {"triton": "overlays/gpu/bert", "kis-controller": "controller", "kis-activator": "activator"}
    assert found.keys() == folders.keys()
    for name, folder in folders.items():
        objects = yaml.safe_load_all(kubectl("kustomize", str(MANIFESTS / folder)))
        (template,) = (one["spec"]["template"] for one in objects if one["kind"] == "Deployment")
        assert found[name]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        (endpoint,) = found[name]["podMetricsEndpoints"]
        assert endpoint["port"] in ports
        assert endpoint["path"] == template["metadata"]["annotations"]["prometheus.io/path"]


def test_thresholds_are_the_catalogs_targets() -> None:
    shares = {"TritonP95OverTarget": 1.0, "TritonQueueTimeHigh": 0.5}
    found = {}
    for rule in rules():
        model = re.search(r'model="([a-z0-9]+)"', rule["expr"])
        if rule["alert"] in shares and model is not None:
            found[rule["alert"], model[1]] = float(rule["expr"].rpartition(">")[2])
    networks = [spec for spec in CATALOG.values() if not spec.emulated]
    assert found == {
        (alert, spec.name): pytest.approx(share * spec.targets.accelerator_s * 1e6)
        for alert, share in shares.items()
        for spec in networks
    }


def names_on(page: str) -> set[str]:
    """The names of the samples, as a query has them. (Triton's counters have no _total, which the parser would add.)"""
    list(text_string_to_metric_families(page))  # it is a page
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in page.splitlines() if line and not line.startswith("#")}


def test_every_metric_of_rules_and_dashboard_is_on_a_real_page(
    local_cluster: Any,
    kubectl: Callable[..., str],
    core: Any,
    namespace: str,
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    """Triton's page from a pod with the same flags as on GPUs; the others' from what makes them."""
    added = {
        "resources": [os.path.relpath(MANIFESTS / "overlays" / "emulated", tmp_path)],
        "components": [os.path.relpath(MANIFESTS / "components" / "latency-summaries", tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(added))
    kubectl("apply", "--namespace", namespace, "-k", str(tmp_path))
    (pod,) = eventually(lambda: running(core, namespace), "the pod is ready")
    infer(pod.status.pod_ip, "emulated", {"x": np.ones((1, 4), dtype=np.float32)}, "y")
    with urllib.request.urlopen(f"http://{pod.status.pod_ip}:8002/metrics", timeout=60) as answer:
        triton = answer.read().decode()
    exporter = Exporter("triton-emulated", "fixed", [Pulse(60.0)], log=io.StringIO())
    exporter.tell(Turn(time.time(), True, 1, 1, None, "", "", ready=1, pending=0), {})
    exporter.registry.register(Counts([Front("triton-emulated", HoldLimits())]))
    known = names_on(triton) | names_on(generate_latest(exporter.registry).decode())

    used = {name for expr in [*(rule["expr"] for rule in rules()), *dashboard()] for name in METRIC.findall(expr)}
    assert used - known == OF_A_GPU | OF_PROMETHEUS
    assert 'quantile="0.95"' in triton
    labels = {"model", "version", "quantile", "why"}
    selected = {name for expr in [rule["expr"] for rule in rules()] for name in re.findall(r"(\w+)[!=][=~]?\"", expr)}
    assert selected - {"job"} <= labels
