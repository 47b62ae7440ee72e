"""The Helm chart: valid to the API server, and an upgrade that leaves what others decide. Skipped without helm."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from emulated_service import LONG_S, NAME

from testbed.localcluster import binaries
from tests.helm import CHART, HELM

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not HELM, reason="needs helm (make helm)")]

EMULATED = ("--values", str(CHART / "values-emulated.yaml"))
WITH_ADAPTER = ("--set", "adapter.enabled=true,hpa.enabled=true,controller.enabled=false")
WITH_ACTIVATOR = ("--set", "activator.enabled=true")


def helm(*arguments: str) -> str:
    done = subprocess.run([HELM or "", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "values", [(), EMULATED, WITH_ADAPTER, WITH_ACTIVATOR], ids=["defaults", "emulated", "adapter", "activator"]
)
def test_the_api_server_accepts_every_object(
    values: tuple[str, ...], kubectl: Callable[..., str], tmp_path: Path
) -> None:
    printed = helm("template", "kis", str(CHART), "--kube-version", binaries.KUBERNETES, *values)
    (tmp_path / "objects.yaml").write_text(printed)
    created = kubectl("apply", "--dry-run=server", "-f", str(tmp_path / "objects.yaml"))
    assert len(created.splitlines()) == printed.count("\nkind: ")
    assert all(line.endswith("created (server dry run)") for line in created.splitlines())


def test_an_upgrade_leaves_the_count_to_who_scales(
    kubeconfig: Path, kubectl: Callable[..., str], namespace: str
) -> None:
    """No pod of it runs: its image is the pause image, which is there."""
    where = ("--kubeconfig", str(kubeconfig), "--namespace", namespace)
    image = ("--set", "image=kis.local/pause:1")
    helm("install", "kis", str(CHART), *where, *EMULATED, *image)
    kubectl("scale", "--namespace", namespace, "deployment/triton-emulated", "--replicas=3")
    changed = ("--set", "triton.serve.threads=2,activator.enabled=true")
    notes = helm("upgrade", "kis", str(CHART), *where, *EMULATED, *image, *changed)
    assert f"Clients: http://kis-activator.{namespace}:8000" in notes
    looked = ("get", "--namespace", namespace, "--output")
    assert kubectl(*looked, "jsonpath={.spec.replicas}", "deployment/triton-emulated") == "3"
    assert "threads: 2" in kubectl(*looked, "jsonpath={.data}", "configmap/triton-emulated")
    helm("uninstall", "kis", *where)
    left = kubectl(*looked, "name", "deployments,services,configmaps,serviceaccounts,roles").split()
    assert not [name for name in left if "kis-" in name or "triton" in name]


@pytest.fixture
def on_host_python(tmp_path: Path, local_cluster: object) -> tuple[str, str]:
    """Flags of helm: what it prints goes through kustomize, so that pods of kis-testbed run on the local cluster."""
    tritonserver = ["/opt/site-packages/pytriton/tritonserver/bin/tritonserver"]
    command = {"op": "replace", "path": "/spec/template/spec/containers/0/command", "value": tritonserver}
    component = CHART.parents[1] / "manifests" / "components" / "host-python"
    overlay = {
        "resources": ["all.yaml"],
        "components": [os.path.relpath(component, tmp_path)],
        "patches": [{"target": {"kind": "Deployment", "name": NAME}, "patch": yaml.safe_dump([command])}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    script, folder = tmp_path / "render", shlex.quote(str(tmp_path))
    kubectl = shlex.quote(str(binaries.folder() / "kubectl"))
    script.write_text(f"#!/bin/sh\ncat > {folder}/all.yaml && exec {kubectl} kustomize {folder}\n")
    script.chmod(0o755)
    return "--post-renderer", str(script)


@pytest.mark.long
def test_a_release_runs_is_upgraded_to_an_hpa_and_leaves_only_its_lease(
    on_host_python: tuple[str, str],
    kubeconfig: Path,
    kubectl: Callable[..., str],
    namespace: str,
    eventually: Callable[..., Any],
) -> None:
    where = ("--kubeconfig", str(kubeconfig), "--namespace", namespace)
    how = (*where, *EMULATED, *on_host_python, "--wait", "--timeout", f"{LONG_S:.0f}s")
    helm("install", "kis", str(CHART), *how, "--set-json", 'controller.config.policy={"kind": "fixed", "replicas": 2}')
    count = ("get", "--namespace", namespace, "--output", "jsonpath={.status.readyReplicas}", f"deployment/{NAME}")
    eventually(lambda: kubectl(*count) == "2", "its controller has scaled its pods")
    helm("upgrade", "kis", str(CHART), *how, *WITH_ADAPTER)
    hpa = ("get", "--namespace", namespace, "--output", "jsonpath={.status.currentMetrics}", f"hpa/{NAME}")
    eventually(lambda: "queue_time_ms" in kubectl(*hpa), "the HPA has the adapter's metric")
    helm("uninstall", "kis", *where)
    everything = "deployments,services,configmaps,secrets,serviceaccounts,roles,rolebindings,hpa,pdb,netpol,leases"
    left = kubectl("get", "--namespace", namespace, "--output", "name", everything).split()
    usual = ["configmap/kube-root-ca.crt", "serviceaccount/default"]
    assert sorted(set(left) - set(usual)) == [f"lease.coordination.k8s.io/{NAME}-controller"]
    assert "metrics.k8s.io" not in kubectl("get", "apiservices", "--output", "name")
    assert "kis-" not in kubectl("get", "rolebindings", "--namespace", "kube-system", "--output", "name")
