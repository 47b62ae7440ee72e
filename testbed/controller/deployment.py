"""A Deployment that is looked at and scaled through the Kubernetes API, and told about in events."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from testbed.autoscaling.live.deployment import DeploymentStatus, DeploymentView
from testbed.errors import ClusterError
from testbed.serving.kubernetes_api import AsClusterError

COMPONENT = "kis-controller"
_TEST_FAILED = 422  # of a JSON patch


class KubernetesDeployment:
    """See loop.Scalable."""

    def __init__(self, api: client.ApiClient, namespace: str, name: str, timeout_s: float = 2.0) -> None:
        self._apps: Any = client.AppsV1Api(api)
        self._core: Any = client.CoreV1Api(api)
        self._view = DeploymentView(api, namespace, name, timeout_s)
        self._namespace, self._name, self._timeout_s = namespace, name, timeout_s

    def look(self) -> DeploymentStatus:
        """See Scalable."""
        return self._view.look()

    def patch(self, replicas: int, judged: int) -> None:
        """See Scalable. Sets nothing but the number of replicas.

        The API itself compares the count with the one that was judged. So a decision that comes late, of a controller
        that was stopped for a while, does not undo what another one, or somebody with kubectl, has set since.
        """
        test = {"op": "test", "path": "/spec/replicas", "value": judged or None}  # 0 is left out of a scale
        steps = [test, {"op": "add", "path": "/spec/replicas", "value": replicas}]
        with AsClusterError(f"scale of {self._namespace}/{self._name}"):
            try:
                self._apps.patch_namespaced_deployment_scale(
                    self._name, self._namespace, steps, _request_timeout=self._timeout_s
                )
            except ApiException as error:
                if error.status != _TEST_FAILED:
                    raise
                raise ClusterError(
                    f"scale of {self._namespace}/{self._name}: it is no longer {judged}: somebody else scales it too"
                ) from None

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
