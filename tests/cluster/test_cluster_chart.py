"""The Helm chart: valid to the API server, and an upgrade that leaves what others decide. Skipped without helm."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.localcluster import binaries
from tests.helm import CHART, HELM

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(not HELM, reason="needs helm (make helm)")]

EMULATED = ("--values", str(CHART / "values-emulated.yaml"))
WITH_ADAPTER = ("--set", "adapter.enabled=true,hpa.enabled=true,controller.enabled=false")


def helm(*arguments: str) -> str:
    done = subprocess.run([HELM or "", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("values", [(), EMULATED, WITH_ADAPTER], ids=["defaults", "emulated", "adapter"])
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
    helm("upgrade", "kis", str(CHART), *where, *EMULATED, *image, "--set", "triton.serve.threads=2")
    looked = ("get", "--namespace", namespace, "--output")
    assert kubectl(*looked, "jsonpath={.spec.replicas}", "deployment/triton-emulated") == "3"
    assert "threads: 2" in kubectl(*looked, "jsonpath={.data}", "configmap/triton-emulated")
    helm("uninstall", "kis", *where)
    left = kubectl(*looked, "name", "deployments,services,configmaps,serviceaccounts,roles").split()
    assert not [name for name in left if "kis-" in name or "triton" in name]
