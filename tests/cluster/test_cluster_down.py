"""Nothing is left, whatever happened before."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_cluster import COMMAND, LocalCluster, cluster_command
from localcluster_pods import MANIFESTS, running
from machine_state import machine_state

from testbed.localcluster import cgroups, lifecycle, processes

pytestmark = pytest.mark.cluster

SHIM = "containerd-shim-runc-v2"


@pytest.fixture
def clean_machine(the_local_cluster: LocalCluster) -> dict[str, object]:
    """What the machine looks like without the cluster."""
    the_local_cluster.down()
    return machine_state()


@pytest.fixture
def with_pods(
    clean_machine: dict[str, object],
    local_cluster: LocalCluster,
    core: Any,
    apps: Any,
    kubectl: Callable[..., str],
    deployment: Callable[..., Any],
    eventually: Callable[..., Any],
) -> None:
    """The cluster, with real Triton pods and idle ones."""
    kubectl("apply", "-k", str(MANIFESTS / "overlays" / "emulated"))
    kubectl("scale", "deployment/triton-emulated", "--replicas=2")
    apps.create_namespaced_deployment("default", deployment("idle", replicas=2, gpus=1))
    eventually(lambda: len(running(core, "default")) == 4, "four pods run")


@pytest.mark.usefixtures("with_pods")
def test_down_leaves_nothing(clean_machine: dict[str, object], local_cluster: LocalCluster) -> None:
    busy = machine_state()
    assert all(busy[kind] != clean_machine[kind] for kind in ("processes", "mounts", "links", "cgroups", "files"))
    local_cluster.down()
    assert machine_state() == clean_machine


@pytest.mark.usefixtures("with_pods")
def test_down_leaves_nothing_after_every_daemon_was_killed(
    clean_machine: dict[str, object], local_cluster: LocalCluster
) -> None:
    _crash()
    local_cluster.down()
    assert machine_state() == clean_machine


@pytest.mark.usefixtures("with_pods")
def test_a_cluster_comes_up_in_place_of_a_crashed_one(local_cluster: LocalCluster, kubeconfig: Path, core: Any) -> None:
    _crash()
    local_cluster.up()
    from kubernetes import client, config

    with config.new_client_from_config(str(kubeconfig)) as api:
        fresh = client.CoreV1Api(api)
        assert len(fresh.list_node().items) == 2
        assert fresh.list_namespaced_pod("default").items == [], "the old cluster's pods are gone with it"


def test_down_without_a_cluster_does_nothing(clean_machine: dict[str, object]) -> None:
    done = cluster_command("down")
    assert (done.returncode, done.stdout) == (0, "the cluster is down\n")
    assert machine_state() == clean_machine


def test_two_cannot_bring_it_up_or_down_at_once(clean_machine: dict[str, object]) -> None:
    with lifecycle.alone():
        done = cluster_command("down")
    assert done.returncode == 2
    assert done.stderr == "cluster: another process is bringing the cluster up or down: try again when it is done\n"
    assert machine_state() == clean_machine


def test_an_up_that_is_interrupted_leaves_what_the_next_down_removes(
    clean_machine: dict[str, object], the_local_cluster: LocalCluster, eventually: Callable[..., Any]
) -> None:
    starting = subprocess.Popen([*COMMAND, "up"], stdout=subprocess.DEVNULL)
    eventually(lambda: processes.ours(["kube-apiserver"]), "the API server starts")
    starting.kill()
    starting.wait()
    the_local_cluster.down()
    assert machine_state() == clean_machine


def _crash() -> None:
    """kill -9 of every daemon; the pods and their shims go on, as after a crash."""
    pods = {process.pid for process in cgroups.processes()}
    processes.kill(process for process in processes.ours(processes.PROGRAMS - {SHIM}) if process.pid not in pods)
