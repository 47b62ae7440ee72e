"""Looking at pods, and running one command in a pod."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tritonclient.http

from testbed.localcluster import cgroups, processes
from testbed.localcluster.node import MAX_NODES, LocalNode
from testbed.localcluster.processes import Daemon

MANIFESTS = Path(__file__).parents[2] / "manifests"
HOST = "/var/lib/kis-cluster/host"


def running(core: Any, namespace: str) -> list[Any]:
    """The pods that run and are ready."""
    return [
        pod
        for pod in core.list_namespaced_pod(namespace).items
        if pod.metadata.deletion_timestamp is None
        and any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions or [])
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
    return next((condition.status for condition in conditions if condition.type == "Ready"), "")


def pending_reason(core: Any, namespace: str) -> str:
    """Why the scheduler leaves the one pod pending; empty if it has not said it yet."""
    pods = [pod for pod in core.list_namespaced_pod(namespace).items if pod.status.phase == "Pending"]
    reasons = [
        condition.message
        for pod in pods
        for condition in pod.status.conditions or []
        if condition.type == "PodScheduled" and condition.status == "False"
    ]
    return reasons[0] if len(reasons) == 1 else ""


def ready_addresses(api: Any, namespace: str) -> list[str]:
    """What the namespace's EndpointSlices say is ready."""
    from kubernetes import client

    slices = client.DiscoveryV1Api(api).list_namespaced_endpoint_slice(namespace).items
    ends = [end for slice_ in slices for end in slice_.endpoints or [] if end.conditions.ready]
    return sorted(address for end in ends for address in end.addresses)


def server_process(pod: Any) -> psutil.Process:
    """The tritonserver of a V1Pod, as this machine sees it."""
    (found,) = (
        process
        for process in cgroups.processes()
        if process.name() == "tritonserver"
        and f"pod{pod.metadata.uid}" in Path(f"/proc/{process.pid}/cgroup").read_text()
    )
    return found


def lose_node(node: str) -> None:
    """kill -9 of all that runs on it, as if its power were cut."""
    for daemon in (f"kubelet-{node}", f"containerd-{node}"):
        Daemon.recorded(daemon).kill()
    shims = [
        process for process in processes.ours(["containerd-shim-runc-v2"]) if f"/{node}/" in " ".join(process.cmdline())
    ]
    pods = [
        process for process in cgroups.processes() if f"/kis-{node}/" in Path(f"/proc/{process.pid}/cgroup").read_text()
    ]
    processes.kill({*shims, *pods})


def bring_back_node(node: str) -> None:
    """Its daemons start again; what they were doing is in their folders, as after a boot."""
    containerd = Daemon.recorded(f"containerd-{node}")
    containerd.start()
    (one,) = (found for found in map(LocalNode, range(MAX_NODES)) if found.name == node)
    processes.wait_until("containerd answers", one.answers, [containerd])
    Daemon.recorded(f"kubelet-{node}").start()


def host_root_pod(name: str, command: list[str], **metadata: Any) -> dict[str, Any]:
    """A pod that runs a command of this machine, with no rights but an ordinary user's."""
    mounts = {"usr": ("/usr", "/usr"), "python": (f"{HOST}/python", "/opt/python")}
    container = {
        "name": name,
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
        "volumeMounts": [{"name": of, "mountPath": to, "readOnly": True} for of, (_, to) in mounts.items()],
    }
    spec = {
        "restartPolicy": "Never",
        "dnsPolicy": "Default",
        "containers": [container],
        "volumes": [{"name": of, "hostPath": {"path": source}} for of, (source, _) in mounts.items()],
    }
    return {"metadata": {"name": name, **metadata}, "spec": spec}


def run_on_host_root(core: Any, namespace: str, command: list[str], eventually: Callable[..., Any]) -> str:
    """What a command prints in such a pod."""
    core.create_namespaced_pod(namespace, host_root_pod("command", command))

    def ended() -> bool:
        return core.read_namespaced_pod("command", namespace).status.phase in ("Succeeded", "Failed")

    eventually(ended, "the command ends")
    said: str = core.read_namespaced_pod_log("command", namespace)
    assert core.read_namespaced_pod("command", namespace).status.phase == "Succeeded", said
    return said


def infer(address: str, model: str, inputs: dict[str, np.ndarray], output: str) -> np.ndarray:
    """The model's answer, over HTTP."""
    datatypes = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}
    tensors = []
    for name, value in inputs.items():
        tensors.append(tritonclient.http.InferInput(name, list(value.shape), datatypes[value.dtype]))
        tensors[-1].set_data_from_numpy(value)
    server = tritonclient.http.InferenceServerClient(f"{address}:8000")
    try:
        answer: np.ndarray = server.infer(model, tensors).as_numpy(output)
        return answer
    finally:
        server.close()
