"""Nodes that kwok plays: real to the API server and the scheduler, so that hundreds of GPUs can be placed on.

Their pods start and become ready without running (kwok.yaml), and answer nothing.
"""

from __future__ import annotations

from typing import Any

from testbed.localcluster.control_plane import FAKE_NODE
from testbed.localcluster.layout import GPU

LABEL = "kis/fake"  # of the nodes, for a nodeSelector
_PODS = 110


def fake_node(name: str, gpus: int, cpus: int = 64, memory: str = "512Gi") -> dict[str, Any]:
    """The manifest of a fake node. Only pods that tolerate its taint, whose key is FAKE_NODE, go there."""
    resources = {"cpu": str(cpus), "memory": memory, "pods": str(_PODS)} | ({GPU: str(gpus)} if gpus else {})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE_NODE: "fake"},
            "labels": {LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": FAKE_NODE, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"capacity": resources, "allocatable": resources},
    }
