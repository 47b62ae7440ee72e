"""Looking at pods, and running one command in a pod."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

MANIFESTS = Path(__file__).parents[2] / "manifests"
HOST = "/var/lib/kis-cluster/host"


def running(core: Any, namespace: str) -> list[Any]:
    """The pods that run and are ready."""
    return [
        pod
        for pod in core.list_namespaced_pod(namespace).items
        if pod.metadata.deletion_timestamp is None
        and any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or [])
    ]


def answers(core: Any) -> bool:
    """True if the API server answers at all."""
    from urllib3.exceptions import HTTPError

    try:
        return bool(core.list_node(_request_timeout=1).items)
    except HTTPError:
        return False


def readiness(core: Any, node: str) -> str:
    """The status of the node's condition Ready: True, False, Unknown; empty if it has none yet."""
    conditions = core.read_node_status(node).status.conditions or []
    return next((one.status for one in conditions if one.type == "Ready"), "")


def pending_reason(core: Any, namespace: str) -> str:
    """Why the scheduler leaves the one pod pending; empty if it has not said it yet."""
    pods = [pod for pod in core.list_namespaced_pod(namespace).items if pod.status.phase == "Pending"]
    reasons = [
        one.message
        for pod in pods
        for one in pod.status.conditions or []
        if one.type == "PodScheduled" and one.status == "False"
    ]
    return reasons[0] if len(reasons) == 1 else ""


def ready_addresses(api: Any, namespace: str) -> list[str]:
    """What the namespace's EndpointSlices say is ready."""
    from kubernetes import client

    slices = client.DiscoveryV1Api(api).list_namespaced_endpoint_slice(namespace).items
    ends = [end for one in slices for end in one.endpoints or [] if end.conditions.ready]
    return sorted(address for end in ends for address in end.addresses)


def run_on_host_root(core: Any, namespace: str, command: list[str], eventually: Callable[..., Any]) -> str:
    """What a command of this machine prints in a pod, with no rights but an ordinary user's."""
    mounts = {"usr": ("/usr", "/usr"), "python": (f"{HOST}/python", "/opt/python")}
    container = {
        "name": "command",
        "image": "kis.local/hostroot:1",
        "command": command,
        "env": [{"name": "LD_LIBRARY_PATH", "value": "/opt/python/lib"}],
        "securityContext": {
            "runAsUser": 1000,
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": name, "mountPath": to, "readOnly": True} for name, (_, to) in mounts.items()],
    }
    spec = {
        "restartPolicy": "Never",
        "dnsPolicy": "Default",
        "containers": [container],
        "volumes": [{"name": name, "hostPath": {"path": source}} for name, (source, _) in mounts.items()],
    }
    core.create_namespaced_pod(namespace, {"metadata": {"name": "command"}, "spec": spec})

    def ended() -> bool:
        return core.read_namespaced_pod("command", namespace).status.phase in ("Succeeded", "Failed")

    eventually(ended, "the command ends")
    said: str = core.read_namespaced_pod_log("command", namespace)
    assert core.read_namespaced_pod("command", namespace).status.phase == "Succeeded", said
    return said
