"""What comes up: two real nodes with GPUs that the scheduler counts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from localcluster_pods import answers, pending_reason, readiness, run_on_host_root, running

from testbed.localcluster.binaries import KUBERNETES
from testbed.localcluster.processes import Daemon

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_cluster")]


def test_two_nodes_are_ready_with_four_gpus_each(core: Any) -> None:
    nodes = core.list_node().items
    assert [node.metadata.name for node in nodes] == ["node-a", "node-b"]
    for node in nodes:
        assert {condition.type: condition.status for condition in node.status.conditions}["Ready"] == "True"
        assert node.status.allocatable["nvidia.com/gpu"] == "4"
        assert node.status.node_info.kubelet_version == f"v{KUBERNETES}"


def test_eight_pods_run_on_eight_gpus_and_the_ninth_waits_and_says_why(
    core: Any, apps: Any, namespace: str, deployment: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    apps.create_namespaced_deployment(namespace, deployment("idle", replicas=9, gpus=1))
    eventually(lambda: len(running(core, namespace)) == 8, "eight pods run")
    assert Counter(pod.spec.node_name for pod in running(core, namespace)) == {"node-a": 4, "node-b": 4}
    reason = eventually(lambda: pending_reason(core, namespace), "the scheduler's reason")
    assert "0/2 nodes are available: 2 Insufficient nvidia.com/gpu." in reason

    apps.patch_namespaced_deployment_scale("idle", namespace, {"spec": {"replicas": 8}})
    eventually(lambda: len(core.list_namespaced_pod(namespace).items) == 8, "the ninth is gone")
    assert len(running(core, namespace)) == 8, "the one that waited was the one to go"


def test_a_kubelet_that_crashed_comes_back(core: Any, eventually: Callable[..., Any]) -> None:
    kubelet = Daemon.recorded("kubelet-node-a")
    kubelet.kill()
    assert eventually(lambda: readiness(core, "node-a") == "Unknown", "the node is lost")
    kubelet.start()
    assert eventually(lambda: readiness(core, "node-a") == "True", "the node is back")


def test_a_node_that_registers_anew_gets_its_gpus_again(core: Any, eventually: Callable[..., Any]) -> None:
    kubelet = Daemon.recorded("kubelet-node-b")
    kubelet.kill()
    core.delete_node("node-b")
    kubelet.start()
    eventually(lambda: "node-b" in [node.metadata.name for node in core.list_node().items], "it registers")
    eventually(lambda: readiness(core, "node-b") == "True", "it is ready")
    assert eventually(lambda: core.read_node("node-b").status.allocatable.get("nvidia.com/gpu") == "4", "it has GPUs")


def test_gpus_that_were_set_to_zero_are_set_again(core: Any, eventually: Callable[..., Any]) -> None:
    none = {"nvidia.com/gpu": "0"}
    patched = core.patch_node_status("node-a", {"status": {"capacity": none, "allocatable": none}})
    assert patched.status.allocatable["nvidia.com/gpu"] == "0"
    eventually(lambda: core.read_node("node-a").status.allocatable["nvidia.com/gpu"] == "4", "it has them again")


def test_pods_run_on_while_the_api_server_is_away(
    core: Any, apps: Any, namespace: str, deployment: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    def lives() -> dict[str, int]:
        return {pod.metadata.uid: pod.status.container_statuses[0].restart_count for pod in running(core, namespace)}

    apps.create_namespaced_deployment(namespace, deployment("idle", replicas=2, gpus=1))
    eventually(lambda: len(lives()) == 2, "two pods run")
    before = lives()
    server = Daemon.recorded("kube-apiserver")
    server.kill()
    time.sleep(1)
    server.start()
    eventually(lambda: answers(core), "the API server answers again")
    eventually(lambda: len(lives()) == 2, "two pods are ready")  # its nodes may have been out of sight
    assert lives() == before
    assert list(before.values()) == [0, 0]
    apps.patch_namespaced_deployment_scale("idle", namespace, {"spec": {"replicas": 3}})
    eventually(lambda: len(lives()) == 3, "a third pod runs")


def test_a_pod_has_no_way_off_the_machine(core: Any, namespace: str, eventually: Callable[..., Any]) -> None:
    routes = run_on_host_root(core, namespace, ["cat", "/proc/net/route"], eventually)
    destinations = [line.split()[1] for line in routes.splitlines()[1:]]
    assert destinations == ["0000F40A"], "10.244.0.0, and no default route (00000000)"


def test_pods_call_the_api_server_on_the_bridge(core: Any, namespace: str, eventually: Callable[..., Any]) -> None:
    ask = "import ssl, urllib.request as r; c = ssl._create_unverified_context(); "
    ask += "print(r.urlopen('https://10.244.0.1:16443/livez', context=c).read().decode())"
    said = run_on_host_root(core, namespace, ["/opt/python/bin/python3", "-c", ask], eventually)
    assert said.strip() == "ok"
