"""A Deployment of Triton pods through the Kubernetes API: its scale, its pods, and where their Triton answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from kubernetes import client
from kubernetes.utils import quantity

from loadgen.endpoints import at
from testbed.autoscaling.hpa.pods import PodState
from testbed.errors import ClusterError
from testbed.measurement.triton_metrics import TritonAddress
from testbed.serving.kubernetes_api import AsClusterError
from testbed.serving.kubernetes_objects import HTTP_PORT, METRICS_PORT, why_not_ready

_parse: Any = quantity.parse_quantity  # untyped


class DeploymentStatus(NamedTuple):
    """A deployment as the API shows it. addresses: of its ready pods that are not being deleted; labels: by pod.

    not_ready: its other pods, but those that are being deleted, and why each is not ready.
    """

    spec_replicas: int
    pods: Sequence[PodState]
    addresses: Sequence[TritonAddress]
    labels: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    not_ready: Mapping[str, str] = MappingProxyType({})


class DeploymentView:
    """Looks at one deployment. It needs to get its scale, and to list pods: its selector is in the scale's status."""

    def __init__(self, api: client.ApiClient, namespace: str, name: str, timeout_s: float = 2.0) -> None:
        self._apps: Any = client.AppsV1Api(api)
        self._core: Any = client.CoreV1Api(api)
        self.namespace, self.name, self._timeout_s = namespace, name, timeout_s

    def look(self) -> DeploymentStatus:
        """Its scale and its pods, now; ClusterError if the API does not answer, or refuses."""
        what = f"deployment {self.namespace}/{self.name}"
        with AsClusterError(what, "is it applied, and may this account read its scale and list pods?"):
            scale = self._apps.read_namespaced_deployment_scale(
                self.name, self.namespace, _request_timeout=self._timeout_s
            )
            if not scale.status.selector:  # an empty one would select every pod there is
                raise ClusterError(f"{what}: its scale has no selector yet")
            pods = self._core.list_namespaced_pod(
                self.namespace, label_selector=scale.status.selector, _request_timeout=self._timeout_s
            ).items
        states = [pod_state(pod) for pod in pods]
        addresses = [
            TritonAddress(pod.metadata.name, at(pod.status.pod_ip, HTTP_PORT), at(pod.status.pod_ip, METRICS_PORT))
            for pod, state in zip(pods, states, strict=True)
            if state.ready and not state.deleting and pod.status.pod_ip
        ]
        labels = {pod.metadata.name: dict(pod.metadata.labels or {}) for pod in pods}
        not_ready = {
            pod.metadata.name: why_not_ready(pod)
            for pod, state in zip(pods, states, strict=True)
            if not state.ready and not state.deleting
        }
        return DeploymentStatus(int(scale.spec.replicas or 0), states, addresses, labels, not_ready)


def pod_state(pod: Any) -> PodState:
    """A V1Pod as the autoscaler sees it; CPU requests in milli-cores."""
    ready = next((condition for condition in pod.status.conditions or () if condition.type == "Ready"), None)
    started = pod.status.start_time
    requests = {
        container.name: _milli((container.resources and container.resources.requests) or {})
        for container in pod.spec.containers
    }
    return PodState(
        name=pod.metadata.name,
        phase=pod.status.phase if pod.status.phase in ("Running", "Succeeded", "Failed") else "Pending",
        ready=None if ready is None else ready.status == "True",
        ready_changed_s=0.0 if ready is None else ready.last_transition_time.timestamp(),
        start_s=None if started is None else started.timestamp(),
        deleting=pod.metadata.deletion_timestamp is not None,
        requests_m=requests,
    )


def _milli(requests: Mapping[str, str]) -> int | None:
    return None if "cpu" not in requests else int(_parse(requests["cpu"]) * Decimal(1000))
