"""The Kubernetes API for whoever works on a cluster: a client, a list that is followed, and errors as one line."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client, watch
from kubernetes import config as kubernetes_config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from testbed.errors import ClusterError, ConfigError
from testbed.log_line import of_error, print_line

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")  # of a pod, beside its token
WATCH_S = 60  # a watch that has said nothing so long is asked again
RETRY_S = 0.5
_config: Any = kubernetes_config  # untyped
_watch: Any = watch.Watch  # untyped


def api_client(kubeconfig: Path | None) -> client.ApiClient:
    """Of a kubeconfig, or the pod's own service account if there is none; ConfigError if there is neither.

    It tries nothing twice by itself: four tries of a few seconds each are longer than a lease, and whoever uses it asks
    again anyway.
    """
    settings = client.Configuration()
    settings.retries = False
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            _config.load_incluster_config(client_configuration=settings)
        else:
            file = None if kubeconfig is None else str(kubeconfig)
            _config.load_kube_config(file, client_configuration=settings)
        return client.ApiClient(settings)
    except (ConfigException, OSError) as error:
        raise ConfigError(f"no Kubernetes configuration ({error}): give --kubeconfig, or set KUBECONFIG") from None


def own_namespace(file: Path = OWN_NAMESPACE) -> str:
    """The namespace of the pod that this runs in; `default` if it runs in none."""
    return file.read_text().strip() if file.exists() else "default"


def follow(
    list_all: Callable[..., Any],
    namespace: str,
    selector: str,
    heard: Callable[[str, Any], None],
    stopping: threading.Event,
) -> None:
    """Tell `heard` of every object of a list, and of each change (MODIFIED, ADDED, DELETED), until `stopping`.

    List, then watch from there; list again when the watch has lost its place, or the API was away. What goes wrong is a
    line on stderr when it begins.
    """
    known: dict[str, Any] = {}
    last_error = ""
    while not stopping.is_set():
        try:
            listed = list_all(namespace, label_selector=selector, _request_timeout=10)
            now = {item.metadata.name: item for item in listed.items}
            for name in known.keys() - now.keys():  # went while nobody watched
                heard("DELETED", known[name])
            for item in now.values():
                heard("MODIFIED", item)
            known = now
            for event in _watch().stream(
                list_all,
                namespace,
                label_selector=selector,
                resource_version=listed.metadata.resource_version,
                timeout_seconds=WATCH_S,
                _request_timeout=WATCH_S + 5,
            ):
                item = event["object"]
                if event["type"] == "DELETED":
                    known.pop(item.metadata.name, None)
                else:
                    known[item.metadata.name] = item
                heard(event["type"], item)
                last_error = ""
                if stopping.is_set():
                    return
            last_error = ""  # the watch ended as it should
        except Exception as error:  # also what the client makes of half an answer: nobody would follow any more
            if type(error).__name__ != last_error:  # what it says has addresses in it that differ each time
                last_error = type(error).__name__
                print_line(followed=selector, namespace=namespace, error=in_words(error))
            stopping.wait(RETRY_S)  # what was known stays until the API is back


def in_words(error: Exception) -> str:
    """What the client raises, in one line."""
    if isinstance(error, ApiException):
        return f"the API answers {error.status} {error.reason}"
    return of_error(error)


class AsClusterError:
    """`with AsClusterError("deployment default/web"):` turns what the client raises into a ClusterError of one line.

    hint: what to look at when the API refuses. away: what to do when it does not answer.
    """

    def __init__(self, what: str, hint: str = "", away: str = "") -> None:
        self._what, self._hint, self._away = what, f": {hint}" if hint else "", f": {away}" if away else ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ApiException):
            raise ClusterError(f"{self._what}: the API answers {error.status} {error.reason}{self._hint}") from None
        if isinstance(error, (HTTPError, OSError)):
            raise ClusterError(f"{self._what}: the API does not answer ({type(error).__name__}){self._away}") from None
