"""One cluster for the session, brought up when a test first needs it; `make test` leaves all of these out.

KIS_TEST_KUBECONFIG=/path/to/kubeconfig uses an existing cluster instead: tests that need the local one are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from emulated_service import LONG_S, NAME, Kis
from local_cluster import LocalCluster
from localcluster_pods import MANIFESTS

from testbed.localcluster import binaries
from testbed.localcluster.layout import KUBECONFIG
from testbed.serving.kubernetes import KubernetesService

EXISTING = os.environ.get("KIS_TEST_KUBECONFIG")


@pytest.fixture(scope="session")
def the_local_cluster() -> Iterator[LocalCluster]:
    if EXISTING:
        pytest.skip("needs the local cluster, and KIS_TEST_KUBECONFIG names another")
    cluster = LocalCluster()
    yield cluster
    cluster.down()


@pytest.fixture
def local_cluster(the_local_cluster: LocalCluster) -> LocalCluster:
    """The local cluster, up; a test may take it down."""
    if not the_local_cluster.is_up:
        the_local_cluster.up()
    return the_local_cluster


@pytest.fixture
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    """Of the cluster to test on."""
    if EXISTING:
        return Path(EXISTING)
    request.getfixturevalue("local_cluster")
    return KUBECONFIG


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[Any]:
    """kubernetes.client.ApiClient."""
    from kubernetes import config

    with config.new_client_from_config(str(kubeconfig)) as client:
        yield client


@pytest.fixture
def core(api: Any) -> Any:
    from kubernetes import client

    return client.CoreV1Api(api)


@pytest.fixture
def apps(api: Any) -> Any:
    from kubernetes import client

    return client.AppsV1Api(api)


@pytest.fixture
def namespace(core: Any, eventually: Callable[..., Any]) -> Iterator[str]:
    """A namespace of the test's own, gone after it with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    eventually(lambda: core.list_namespaced_service_account(name).items, "the namespace's service account")
    yield name
    core.delete_namespace(name)  # from now on nothing new is made in it
    core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
    eventually(lambda: not core.list_namespaced_pod(name).items, "the namespace's pods are gone")


@pytest.fixture
def kubectl(kubeconfig: Path) -> Callable[..., str]:
    """kubectl(*arguments) -> what it printed."""
    found = shutil.which("kubectl") if EXISTING else str(binaries.folder() / "kubectl")
    if found is None:
        pytest.skip("there is no kubectl on PATH")

    def run(*arguments: str) -> str:
        command = [found, f"--kubeconfig={kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """eventually(value, what): wait until `value()` is true, and return it; fail with `what` otherwise."""

    def wait(value: Callable[[], Any], what: str, timeout_s: float = LONG_S) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := value()):
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
            time.sleep(0.1)
        return found

    return wait


@pytest.fixture
def deployment() -> Callable[..., dict[str, Any]]:
    """deployment(name, replicas, gpus, ...) -> the manifest of one whose pods do nothing but hold their GPUs."""

    def make(name: str, replicas: int, gpus: int, **pod: Any) -> dict[str, Any]:
        container = {
            "name": "idle",
            "image": "kis.local/pause:1",
            "resources": {"requests": {"cpu": "10m"}, "limits": {"nvidia.com/gpu": str(gpus)}},
        }
        return {
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}, "annotations": pod.pop("annotations", {})},
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "dnsPolicy": "Default",
                        "containers": [container],
                        **pod,
                    },
                },
            },
        }

    return make


@pytest.fixture
def applied(local_cluster: LocalCluster, kubectl: Callable[..., str], namespace: str) -> str:
    """The namespace that the emulated model is applied in."""
    kubectl("apply", "--namespace", namespace, "-k", str(MANIFESTS / "overlays" / "emulated"))
    return namespace


@pytest.fixture
def service(applied: str, api: Any, tmp_path: Path) -> Iterator[KubernetesService]:
    """The emulated model as a service whose endpoints are followed."""
    with KubernetesService(api, applied, NAME, tmp_path / "serving") as followed:
        yield followed


@pytest.fixture
def controllers(tmp_path: Path, kubeconfig: Path) -> Iterator[Callable[..., Kis]]:
    """controllers(**settings) -> a new `kis controller`; all are killed at the end."""
    started: list[Kis] = []

    def start(**settings: Any) -> Kis:
        started.append(Kis(tmp_path, kubeconfig, len(started), **settings))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
