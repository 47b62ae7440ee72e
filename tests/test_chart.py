"""The Helm chart prints what kustomize makes of manifests/: their objects are one source, and neither way may drift.

Skipped without helm (`make helm`) or kubectl.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.activator.config import ActivatorConfig
from testbed.adapter.run import AdapterConfig
from testbed.config import ServeConfig
from testbed.config_file import build
from testbed.controller.run import ControllerConfig
from testbed.localcluster import binaries
from tests.helm import CHART, HELM, KUBECTL, MANIFESTS, kustomized, run

ADAPTER_ALONE = {
    "triton": {"enabled": False},
    "controller": {"enabled": False},
    "adapter": {
        "enabled": True,
        "tls": {"secretName": "kis-adapter-tls"},
        "config": {"deployments": yaml.safe_load((MANIFESTS / "adapter/base/adapter.yaml").read_text())["deployments"]},
    },
}
MONITORING_ALONE = {"triton": {"enabled": False}, "controller": {"enabled": False}, "monitoring": {"enabled": True}}
ACTIVATOR_ALONE = {"triton": {"enabled": False}, "controller": {"enabled": False}, "activator": {"enabled": True}}
TO_ZERO = yaml.safe_load((CHART / "values-scale-to-zero.yaml").read_text()) | {"triton": {"enabled": False}}
BERT_ON_CPUS = {
    "triton": {
        "name": "bert",
        "gpus": 0,
        "tolerations": [],
        "serve": yaml.safe_load((MANIFESTS / "overlays/cpu/bert/serve.yaml").read_text()),
    },
    "controller": {"enabled": False},
}
EMULATED = yaml.safe_load((CHART / "values-emulated.yaml").read_text()) | {"controller": {"enabled": False}}
BOTH_WAYS = {
    "the defaults": ({}, ["overlays/gpu/resnet50", "controller"]),
    "the adapter": (ADAPTER_ALONE, ["adapter/base"]),
    "the activator": (ACTIVATOR_ALONE, ["activator"]),
    "scale to zero": (TO_ZERO, ["overlays/scale-to-zero"]),
    "monitoring": (MONITORING_ALONE, ["monitoring"]),
    "bert on processors": (BERT_ON_CPUS, ["overlays/cpu/bert"]),
    "the emulated accelerator": (EMULATED, ["overlays/embedded"]),
}
HPA_METRICS = sorted(path.parent.name for path in MANIFESTS.glob("autoscaling/*/kustomization.yaml"))
HPA_METRICS.remove("base")


pytestmark = pytest.mark.skipif(not HELM or not KUBECTL, reason="needs helm (make helm) and kubectl")


def helm(values: dict[str, Any], folder: Path, *flags: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    version = ("--kube-version", binaries.KUBERNETES)
    return run(HELM, "template", "kis", str(chart), *version, "--values", str(file), *flags)


def chart(values: dict[str, Any], folder: Path, *flags: str) -> list[dict[str, Any]]:
    done = helm(values, folder, *flags)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def same_terms(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by kind and name, without what each way does its own way.

    A change of settings rolls pods by a hash in the ConfigMap's name here, by an annotation there. The chart leaves
    Triton's replicas to who scales them; Kubernetes takes 1 then, which the manifests say. A release's own namespace,
    `default` here, need not be written.
    """
    hashed = {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"}
    text = yaml.safe_dump_all(objects)
    for name in hashed:
        text = text.replace(name, re.sub(r"-[2456789bcdfghkmt]{10}$", "", name))
    found = {}
    for one in yaml.safe_load_all(text):
        if one["metadata"].get("namespace") == "default":
            del one["metadata"]["namespace"]
        if one["kind"] == "ConfigMap":
            one["data"] = {file: yaml.safe_load(content) for file, content in one["data"].items()}
        if one["kind"] == "Deployment":
            one["spec"].setdefault("replicas", 1)
            pods = one["spec"]["template"]["metadata"]
            pods.get("annotations", {}).pop("checksum/settings", None)
            if not pods.get("annotations"):
                pods.pop("annotations", None)
        found[one["kind"], one["metadata"]["name"]] = one
    return found


def of_kind(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


@pytest.mark.parametrize("case", BOTH_WAYS)
def test_the_chart_and_kustomize_make_the_same_objects(case: str, tmp_path: Path) -> None:
    values, folders = BOTH_WAYS[case]
    printed, built = same_terms(chart(values, tmp_path)), same_terms(kustomized(*folders))
    assert printed.keys() == built.keys()
    for key, expected in built.items():
        assert printed[key] == expected


@pytest.mark.parametrize("metric", HPA_METRICS)
def test_the_charts_hpa_is_the_component_of_that_metric(metric: str, tmp_path: Path) -> None:
    added = {
        "resources": [os.path.relpath(MANIFESTS / "overlays/gpu/resnet50", tmp_path)],
        "components": [os.path.relpath(MANIFESTS / "autoscaling" / metric, tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(added))
    values = {"controller": {"enabled": False}, "hpa": {"enabled": True, "metric": metric}}
    printed, built = same_terms(chart(values, tmp_path)), same_terms(kustomized(tmp_path))
    key = ("HorizontalPodAutoscaler", "triton-resnet50")
    assert printed[key] == built[key]


def test_lint_has_nothing_to_say() -> None:
    done = run(HELM, "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert "ERROR" not in done.stdout
    assert "WARNING" not in done.stdout


def test_a_package_needs_no_repository(tmp_path: Path) -> None:
    done = run(HELM, "package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("kis-*.tgz")
    (tmp_path / "repository").mkdir()
    printed = helm({}, tmp_path / "repository", chart=package)
    assert printed.stdout == helm({}, tmp_path).stdout != ""


def test_what_the_pods_read_are_configuration_files_of_kis(tmp_path: Path) -> None:
    parts = {name: {"enabled": True} for name in ("controller", "adapter", "activator")}
    objects = chart(EMULATED | parts, tmp_path)
    read: dict[str, Any] = {}
    for one in objects:
        read |= {file: yaml.safe_load(text) for file, text in one.get("data", {}).items() if one["kind"] == "ConfigMap"}
    serve = build(ServeConfig, read["serve.yaml"], "serve.yaml")
    controller = build(ControllerConfig, read["controller.yaml"], "controller.yaml")
    (followed,) = build(AdapterConfig, read["adapter.yaml"], "adapter.yaml").deployments
    (activated,) = build(ActivatorConfig, read["activator.yaml"], "activator.yaml").deployments
    assert serve.model == controller.model == followed.model == "emulated"
    assert controller.deployment == followed.deployment == activated.deployment == "triton-emulated"
    (role,) = (one for one in objects if (one["kind"], one["metadata"]["name"]) == ("Role", "kis-activator"))
    assert [rule.get("resourceNames") for rule in role["rules"]] == [["triton-emulated"], None]


def test_a_policy_of_ones_own_replaces_the_default_and_the_role_names_what_is_scaled(tmp_path: Path) -> None:
    given = {
        "policy": {"kind": "fixed", "replicas": 2},
        "deployment": "mine",
        "lease": "mine-too",
        "metrics_port": 9999,
    }
    objects = chart({"triton": {"enabled": False}, "controller": {"config": given}}, tmp_path)
    settings = yaml.safe_load(of_kind(objects, "ConfigMap", "kis-controller")["data"]["controller.yaml"])
    assert {key: settings[key] for key in given} == given
    rules = of_kind(objects, "Role", "kis-controller")["rules"]
    named = {rule["resources"][0]: rule["resourceNames"] for rule in rules if "resourceNames" in rule}
    assert named == {"deployments/scale": ["mine"], "leases": ["mine-too"]}
    pods = of_kind(objects, "Deployment", "kis-controller")["spec"]["template"]
    assert pods["spec"]["containers"][0]["ports"] == [{"name": "metrics", "containerPort": 9999}]
    assert pods["metadata"]["annotations"]["prometheus.io/port"] == "9999"


def test_the_activators_page_and_time_to_finish_follow_its_settings(tmp_path: Path) -> None:
    given = {"metrics_port": 9999, "drain_s": 60.5}
    objects = chart({"activator": {"enabled": True, "config": given}}, tmp_path)
    template = of_kind(objects, "Deployment", "kis-activator")["spec"]["template"]
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 9999}
    assert template["metadata"]["annotations"]["prometheus.io/port"] == "9999"
    assert template["spec"]["terminationGracePeriodSeconds"] == 76
    served = {port["name"]: port for port in of_kind(objects, "Service", "kis-activator")["spec"]["ports"]}
    settings = yaml.safe_load(of_kind(objects, "ConfigMap", "kis-controller")["data"]["controller.yaml"])
    assert settings["activator"] == f"http://kis-activator:{served['metrics']['port']}"


def test_other_settings_roll_the_pods(tmp_path: Path) -> None:
    def annotation(seed: int) -> str:
        objects = chart({"triton": {"serve": {"weights_seed": seed}}}, tmp_path)
        annotations = of_kind(objects, "Deployment", "triton-resnet50")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/settings"])

    assert annotation(1) == annotation(1)
    assert annotation(1) != annotation(2)


def test_the_image_is_that_of_every_container_but_tritons(tmp_path: Path) -> None:
    values = {"image": "registry/kis:1", "imagePullSecrets": [{"name": "pull"}], "adapter": {"enabled": True}}
    pods = [one["spec"]["template"]["spec"] for one in chart(values, tmp_path) if one["kind"] == "Deployment"]
    images = [box["image"] for pod in pods for box in [*pod["containers"], *pod.get("initContainers", [])]]
    assert sorted(images) == ["nvcr.io/nvidia/tritonserver:24.10-py3", *["registry/kis:1"] * 3]
    assert [pod["imagePullSecrets"] for pod in pods] == [[{"name": "pull"}]] * 3


def test_the_adapter_gets_a_certificate_that_the_api_server_is_told_to_trust(tmp_path: Path) -> None:
    objects = chart({"adapter": {"enabled": True}}, tmp_path, "--namespace=there")
    secret = of_kind(objects, "Secret", "kis-adapter-tls")["data"]
    services = [one for one in objects if one["kind"] == "APIService"]
    assert [one["spec"]["caBundle"] for one in services] == [secret["ca.crt"]] * 2
    for file in ("ca.crt", "tls.crt"):
        (tmp_path / file).write_bytes(base64.b64decode(secret[file]))
    checked = ("-verify_hostname", "kis-adapter.there.svc", "-purpose", "sslserver")
    verified = run("openssl", "verify", "-CAfile", str(tmp_path / "ca.crt"), *checked, str(tmp_path / "tls.crt"))
    assert verified.returncode == 0, verified.stderr


def test_a_certificate_of_ones_own_is_taken(tmp_path: Path) -> None:
    tls = {"secretName": "mine", "caBundle": "bWluZQ=="}
    annotations = {"cert-manager.io/inject-ca-from": "default/mine"}
    given = {"enabled": True, "tls": tls, "apiServiceAnnotations": annotations}
    objects = chart({"adapter": given}, tmp_path)
    assert "Secret" not in {one["kind"] for one in objects}
    mounted = of_kind(objects, "Deployment", "kis-adapter")["spec"]["template"]["spec"]["volumes"]
    assert [one["secret"]["secretName"] for one in mounted if "secret" in one] == ["mine"]
    services = [one for one in objects if one["kind"] == "APIService"]
    assert [one["spec"]["caBundle"] for one in services] == ["bWluZQ=="] * 2
    assert [one["metadata"]["annotations"] for one in services] == [annotations] * 2


def test_where_and_with_what_a_triton_pod_runs_can_be_said(tmp_path: Path) -> None:
    given = {"replicas": 3, "gpus": 2, "nodeSelector": {"zone": "a"}, "resources": {"limits": {"memory": "16Gi"}}}
    deployment = of_kind(chart({"triton": given}, tmp_path), "Deployment", "triton-resnet50")["spec"]
    pod = deployment["template"]["spec"]
    assert deployment["replicas"] == 3
    assert pod["nodeSelector"] == {"zone": "a"}
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 2}


def test_a_release_is_in_its_own_namespace(tmp_path: Path) -> None:
    """But for the account's right to read by which certificates the API server calls the adapter."""
    printed = helm({"adapter": {"enabled": True}}, tmp_path, "--namespace=there").stdout
    assert set(re.findall(r"namespace: (\S+)", printed)) == {"there", "kube-system"}
    (elsewhere,) = (one for one in yaml.safe_load_all(printed) if one["metadata"].get("namespace") == "kube-system")
    assert elsewhere["metadata"]["name"] == "kis-adapter-authentication-reader"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"hpa": {"enabled": True}}, "the controller and the HPA would both scale the deployment"),
        ({"activator": {"enabled": True, "config": {"deployments": []}}}, "deployments follows from triton"),
        ({"activator": {"enable": True}}, "additional properties 'enable' not allowed"),
        ({"triton": {"replica": 3}}, "additional properties 'replica' not allowed"),
        ({"triton": {"gpus": "one"}}, "got string, want integer"),
        ({"hpa": {"metric": "memory"}}, "value must be one of 'cpu'"),
    ],
)
def test_values_that_are_wrong_are_refused(values: dict[str, Any], told: str, tmp_path: Path) -> None:
    done = helm(values, tmp_path)
    assert done.returncode != 0
    assert told in done.stderr
