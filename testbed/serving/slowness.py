"""How slow a Deployment's emulated accelerators are: a number in a ConfigMap, which its pods read while they serve.

The pods' manifest has a volume `slowness` (manifests/components/slowness). A later pod reads the same number.
"""

from __future__ import annotations

import time
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from testbed.errors import ClusterError
from testbed.serving.kubernetes_api import AsClusterError

VOLUME, KEY = "slowness", "factor"
ANNOTATION = "kis/slowness"
RETRY_S = 0.5  # a kubelet may hear of the pod before it hears of the ConfigMap


class PodSlowness:
    """Of one Deployment's pods. ClusterError if the API does not answer."""

    def __init__(self, api: client.ApiClient, namespace: str, deployment: str) -> None:
        self._core: Any = client.CoreV1Api(api)
        self._apps: Any = client.AppsV1Api(api)
        self._namespace, self._deployment = namespace, deployment

    def set(self, factor: float) -> float:
        """Each batch takes `factor` of its profile's time; returns since when, on CLOCK_MONOTONIC, in seconds.

        Pods follow as soon as their kubelet has written the file (tenths of a second). ClusterError if the pods have no
        such volume.
        """
        with self._asking():
            volume_map, selector = self._volume()
            if volume_map is None:
                raise ClusterError(
                    f"the pods of {self._namespace}/{self._deployment} have no volume '{VOLUME}' of a ConfigMap: add "
                    "manifests/components/slowness to their overlay, or leave out `slow_down`"
                )
            return self._write(volume_map, selector, f"{factor:g}")

    def reset(self) -> None:
        """As the profile says; nothing is done to pods that have no such volume."""
        with self._asking():
            volume_map, selector = self._volume()
            if volume_map is not None:
                self._write(volume_map, selector, "1")

    def _asking(self) -> AsClusterError:
        what = f"slowness of the pods of {self._namespace}/{self._deployment}"
        return AsClusterError(what, "apply the overlay again", "try again when it is back")

    def _volume(self) -> tuple[str | None, str]:
        """Name of the ConfigMap (None: there is no such volume), and the pods' selector."""
        deployment_object = self._apps.read_namespaced_deployment(
            self._deployment, self._namespace, _request_timeout=10
        )
        volumes = {volume.name: volume.config_map for volume in deployment_object.spec.template.spec.volumes or ()}
        selector = ",".join(f"{key}={value}" for key, value in deployment_object.spec.selector.match_labels.items())
        volume_map = volumes.get(VOLUME)
        return (None if volume_map is None else str(volume_map.name)), selector

    def _write(self, config_map: str, selector: str, text: str) -> float:
        body: dict[str, Any] = {"data": {KEY: text}}
        self._core.patch_namespaced_config_map(config_map, self._namespace, body, _request_timeout=10)
        since_s, since_unix_s = time.monotonic(), time.time()
        # By itself a kubelet looks at its pods' ConfigMaps once a minute; at a pod that changes it looks now.
        for attempt in range(2):
            time.sleep(RETRY_S * attempt)
            body = {"metadata": {"annotations": {ANNOTATION: f"{text}, {attempt} after {since_unix_s:.3f}"}}}
            pods = self._core.list_namespaced_pod(self._namespace, label_selector=selector, _request_timeout=10)
            for pod in pods.items:
                self._annotate(pod.metadata.name, body)
        return since_s

    def _annotate(self, pod: str, body: dict[str, Any]) -> None:
        try:
            self._core.patch_namespaced_pod(pod, self._namespace, body, _request_timeout=10)
        except ApiException as error:
            if error.status != 404:  # it has gone meanwhile
                raise
