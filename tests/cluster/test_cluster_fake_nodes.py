"""Hundreds of GPUs, on nodes that kwok plays, placed by the real scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from localcluster_pods import pending_reason, running

from testbed.localcluster.control_plane import FAKE_LABEL, FAKE_NODE, fake_node

pytestmark = pytest.mark.cluster

NODES, GPUS = 40, 8
ON_FAKE_NODES = {
    "nodeSelector": {FAKE_LABEL: "true"},
    "tolerations": [{"key": FAKE_NODE, "operator": "Exists"}],
}


@pytest.fixture
def fake_nodes(local_cluster: Any, core: Any, eventually: Callable[..., Any]) -> Iterator[None]:
    for index in range(NODES):
        core.create_node(fake_node(f"fake-{index}", GPUS))

    def ready() -> int:
        nodes = core.list_node(label_selector=FAKE_LABEL).items
        conditions = [condition for node in nodes for condition in node.status.conditions or []]
        return sum(condition.type == "Ready" and condition.status == "True" for condition in conditions)

    eventually(lambda: ready() == NODES, "the fake nodes are ready")
    yield
    core.delete_collection_node(label_selector=FAKE_LABEL)


@pytest.mark.usefixtures("fake_nodes")
def test_320_gpus_are_filled_by_80_pods_and_the_81st_waits(
    core: Any, apps: Any, namespace: str, deployment: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    apps.create_namespaced_deployment(namespace, deployment("wide", replicas=81, gpus=4, **ON_FAKE_NODES))
    eventually(lambda: len(running(core, namespace)) == 80, "eighty pods are ready")
    placed = Counter(pod.spec.node_name for pod in running(core, namespace))
    assert set(placed.values()) == {2}
    assert len(placed) == NODES
    assert "40 Insufficient nvidia.com/gpu" in eventually(lambda: pending_reason(core, namespace), "the reason")


@pytest.mark.usefixtures("fake_nodes")
def test_a_fake_pod_runs_at_once_and_is_ready_after_its_load_time(
    core: Any, apps: Any, namespace: str, deployment: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    slow = deployment("slow", replicas=1, gpus=1, annotations={"kis/load": "3s"}, **ON_FAKE_NODES)
    apps.create_namespaced_deployment(namespace, slow)
    (pod,) = eventually(lambda: running(core, namespace), "the pod is ready")
    ready_at = next(condition.last_transition_time for condition in pod.status.conditions if condition.type == "Ready")
    assert (ready_at - pod.status.start_time).total_seconds() >= 2, "whole seconds, and kwok may be late"
