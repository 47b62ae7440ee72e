"""A Deployment of Triton pods through the Kubernetes API: its scale, its pods, its events."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.utils import quantity
from urllib3.exceptions import HTTPError

from testbed.autoscaling.hpa.pods import PodState
from testbed.controller.loop import Seen
from testbed.errors import ClusterError
from testbed.measurement.triton_metrics import TritonAddress
from testbed.serving.kubernetes import HTTP_PORT, METRICS_PORT

COMPONENT = "kis-controller"
_parse: Any = quantity.parse_quantity  # untyped


class KubernetesDeployment:
    """See loop.Scalable. selector: the labels of its pods, as in `app=resnet50`."""

    def __init__(self, api: client.ApiClient, namespace: str, name: str, selector: str, timeout_s: float = 2.0) -> None:
        self._apps: Any = client.AppsV1Api(api)
        self._core: Any = client.CoreV1Api(api)
        self._namespace, self._name, self._selector = namespace, name, selector
        self._timeout_s = timeout_s

    def look(self) -> Seen:
        """See Scalable."""
        with _Told(f"deployment {self._namespace}/{self._name}"):
            scale = self._apps.read_namespaced_deployment_scale(
                self._name, self._namespace, _request_timeout=self._timeout_s
            )
            pods = self._core.list_namespaced_pod(
                self._namespace, label_selector=self._selector, _request_timeout=self._timeout_s
            ).items
        states = [pod_state(pod) for pod in pods]
        addresses = [
            TritonAddress(pod.metadata.name, f"{pod.status.pod_ip}:{HTTP_PORT}", f"{pod.status.pod_ip}:{METRICS_PORT}")
            for pod, state in zip(pods, states, strict=True)
            if state.ready and not state.deleting and pod.status.pod_ip
        ]
        return Seen(int(scale.spec.replicas or 0), states, addresses)

    def patch(self, replicas: int) -> None:
        """See Scalable. Sets nothing but the number of replicas."""
        with _Told(f"scale of {self._namespace}/{self._name}"):
            self._apps.patch_namespaced_deployment_scale(
                self._name, self._namespace, {"spec": {"replicas": replicas}}, _request_timeout=self._timeout_s
            )

    def tell(self, reason: str, message: str, warning: bool) -> None:
        """See Scalable."""
        now = dt.datetime.now(dt.UTC)
        event = client.CoreV1Event(
            metadata=client.V1ObjectMeta(generate_name=f"{self._name}-", namespace=self._namespace),
            involved_object=client.V1ObjectReference(
                api_version="apps/v1", kind="Deployment", name=self._name, namespace=self._namespace
            ),
            reason=reason,
            message=message[:1000],
            type="Warning" if warning else "Normal",
            first_timestamp=now,
            last_timestamp=now,
            count=1,
            source=client.V1EventSource(component=COMPONENT),
        )
        try:
            self._core.create_namespaced_event(self._namespace, event, _request_timeout=self._timeout_s)
        except (ApiException, HTTPError, OSError):
            return  # an event is a courtesy: what it tells is in the log and in the metrics too


class _Told:
    """Turns whatever the client raises into one line."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ApiException):
            raise ClusterError(f"{self._what}: the API answers {error.status} {error.reason}") from None
        if isinstance(error, (HTTPError, OSError)):
            raise ClusterError(f"{self._what}: the API does not answer ({type(error).__name__})") from None


def pod_state(pod: Any) -> PodState:
    """A V1Pod as the autoscaler sees it; CPU requests in milli-cores."""
    ready = next((one for one in pod.status.conditions or () if one.type == "Ready"), None)
    started = pod.status.start_time
    requests = {one.name: _milli((one.resources and one.resources.requests) or {}) for one in pod.spec.containers}
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
