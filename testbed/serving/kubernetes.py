"""A Deployment of Triton pods as a service with replicas: its endpoints followed, its pods' states with their times.

`with KubernetesService(api, "default", "triton-resnet50", folder) as it:` follows until the block ends; implements
`Service`. The deployment is somebody's who applied a manifest: this scales it, and neither makes nor removes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from loadgen.endpoints import write_endpoints
from testbed.errors import ClusterError, ServingError
from testbed.serving.service import Endpoint, ReplicaEvent, ReplicaState

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002  # of every Triton container of the manifests
SERVICE_LABEL = "kubernetes.io/service-name"  # that an EndpointSlice carries
WATCH_S = 60  # a watch that has said nothing so long is asked again
RETRY_S = 0.5
_watch: Any = watch.Watch  # untyped


@dataclass
class PodHistory:
    """What a pod went through, each on the clock of whoever stamped it: seconds since 1970. None: not yet."""

    name: str
    node: str | None = None
    pending_why: str = ""  # the scheduler's reason, while there is one
    created_s: float | None = None
    scheduled_s: float | None = None
    started_s: float | None = None
    ready_s: float | None = None
    deleted_s: float | None = None
    gone_s: float | None = None  # when we heard of it
    states: list[ReplicaState] = field(default_factory=list)


class KubernetesService:
    """See the module. service: the headless Service in front of the pods; none: named as the deployment."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        deployment: str,
        folder: Path,
        *,
        service: str | None = None,
        publish: Literal["http", "grpc"] = "http",
    ) -> None:
        self._apps: Any = client.AppsV1Api(api)
        self._core: Any = client.CoreV1Api(api)
        self._discovery: Any = client.DiscoveryV1Api(api)
        self._namespace, self._deployment = namespace, deployment
        self._service = service or deployment
        self._publish = publish
        self.endpoints_file = folder / "endpoints.json"
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._events: list[ReplicaEvent] = []
        self._pods: dict[str, PodHistory] = {}
        self._slices: dict[str, list[Endpoint]] = {}  # EndpointSlice -> what it holds that is ready
        self._threads: list[threading.Thread] = []
        self._selector = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Follow from now on; ClusterError if there is no such deployment, or the API does not answer."""
        try:
            found = self._apps.read_namespaced_deployment(self._deployment, self._namespace, _request_timeout=10)
        except ApiException as error:
            raise ClusterError(
                f"deployment {self._namespace}/{self._deployment}: the API answers {error.status} {error.reason}: "
                "apply its manifest first"
            ) from None
        except (HTTPError, OSError) as error:
            raise ClusterError(
                f"the Kubernetes API does not answer ({type(error).__name__}): is KUBECONFIG right?"
            ) from None
        self._selector = ",".join(f"{key}={value}" for key, value in found.spec.selector.match_labels.items())
        self.endpoints_file.parent.mkdir(parents=True, exist_ok=True)
        write_endpoints(self.endpoints_file, [])
        for name, follow in (("pods", self._follow_pods), ("endpoints", self._follow_slices)):
            thread = threading.Thread(target=follow, name=f"follow-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Follow no more; the deployment stays as it is."""
        self._stopping.set()

    def scale(self, replicas: int) -> None:
        """See Service."""
        if replicas < 0:
            raise ServingError(f"cannot scale to {replicas} replicas: give 0 or more")
        try:
            self._apps.patch_namespaced_deployment_scale(
                self._deployment, self._namespace, {"spec": {"replicas": replicas}}, _request_timeout=10
            )
        except ApiException as error:
            raise ClusterError(
                f"scale of {self._namespace}/{self._deployment}: the API answers {error.status} {error.reason}"
            ) from None

    def endpoints(self) -> list[Endpoint]:
        """See Service."""
        with self._changed:
            return self._ready()

    def events(self) -> list[ReplicaEvent]:
        """See Service."""
        with self._changed:
            return list(self._events)

    def pods(self) -> list[PodHistory]:
        """Every pod that was seen, oldest first."""
        with self._changed:
            return sorted(self._pods.values(), key=lambda one: (one.created_s or 0.0, one.name))

    def wait_ready(self, replicas: int, timeout_s: float) -> None:
        """Wait until exactly so many take requests; ServingError if that does not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._ready()) == replicas, timeout_s):
                why = "; ".join(f"{one.name}: {one.pending_why}" for one in self._pods.values() if one.pending_why)
                raise ServingError(
                    f"{self._namespace}/{self._deployment}: {len(self._ready())} of {replicas} replicas take requests "
                    f"after {timeout_s:g} s{': ' + why if why else ''}"
                )

    def _ready(self) -> list[Endpoint]:
        found = {one.name: one for part in self._slices.values() for one in part}
        return [found[name] for name in sorted(found, key=lambda name: (self._age(name), name))]

    def _age(self, name: str) -> float:
        pod = self._pods.get(name)
        return 0.0 if pod is None or pod.created_s is None else pod.created_s

    def _follow_pods(self) -> None:
        def heard(kind: str, pod: Any) -> None:
            with self._changed:
                self._note_pod(kind, pod)
                self._changed.notify_all()

        self._follow(self._core.list_namespaced_pod, self._selector, heard)

    def _follow_slices(self) -> None:
        def heard(kind: str, one: Any) -> None:
            with self._changed:
                self._slices[one.metadata.name] = [] if kind == "DELETED" else _endpoints_of(one)
                write_endpoints(self.endpoints_file, [getattr(ready, self._publish) for ready in self._ready()])
                self._changed.notify_all()

        self._follow(self._discovery.list_namespaced_endpoint_slice, f"{SERVICE_LABEL}={self._service}", heard)

    def _follow(self, list_all: Callable[..., Any], selector: str, heard: Callable[[str, Any], None]) -> None:
        """List, then watch from there; list again when the watch has lost its place, or the API was away."""
        known: dict[str, Any] = {}
        while not self._stopping.is_set():
            try:
                listed = list_all(self._namespace, label_selector=selector, _request_timeout=10)
                now = {one.metadata.name: one for one in listed.items}
                for name in known.keys() - now.keys():  # went while nobody watched
                    heard("DELETED", known[name])
                for one in now.values():
                    heard("MODIFIED", one)
                known = now
                for event in _watch().stream(
                    list_all,
                    self._namespace,
                    label_selector=selector,
                    resource_version=listed.metadata.resource_version,
                    timeout_seconds=WATCH_S,
                    _request_timeout=WATCH_S + 5,
                ):
                    one = event["object"]
                    if event["type"] == "DELETED":
                        known.pop(one.metadata.name, None)
                    else:
                        known[one.metadata.name] = one
                    heard(event["type"], one)
                    if self._stopping.is_set():
                        return
            except (ApiException, HTTPError, OSError):
                self._stopping.wait(RETRY_S)  # what was known stays until the API is back

    def _note_pod(self, kind: str, pod: Any) -> None:
        name = pod.metadata.name
        known = self._pods.setdefault(name, PodHistory(name))
        conditions = {one.type: one for one in pod.status.conditions or ()}
        known.node = pod.spec.node_name
        known.created_s = _seconds(pod.metadata.creation_timestamp)
        known.deleted_s = _deleted_s(pod)
        scheduled, ready = conditions.get("PodScheduled"), conditions.get("Ready")
        if scheduled is not None and scheduled.status == "True":
            known.scheduled_s, known.pending_why = _seconds(scheduled.last_transition_time), ""
        elif scheduled is not None:
            known.pending_why = scheduled.message or scheduled.reason or ""
        running = [one.state.running for one in pod.status.container_statuses or () if one.state.running is not None]
        if running:
            known.started_s = _seconds(running[0].started_at)
        is_ready = ready is not None and ready.status == "True"
        if ready is not None and is_ready and known.ready_s is None:
            known.ready_s = _seconds(ready.last_transition_time)
        state: ReplicaState = "starting"
        if kind == "DELETED":
            state, known.gone_s = "gone", time.time()
        elif pod.metadata.deletion_timestamp is not None:
            state = "draining"
        elif is_ready:
            state = "ready"
        if not known.states or known.states[-1] != state:
            start_up_s = None
            if state == "ready" and known.started_s is not None and known.ready_s is not None:
                start_up_s = known.ready_s - known.started_s
            known.states.append(state)
            self._events.append(ReplicaEvent(time.monotonic_ns(), name, state, start_up_s))


def _endpoints_of(part: Any) -> list[Endpoint]:
    """Of an EndpointSlice: those that are ready, and not on their way out."""
    found = []
    for one in part.endpoints or ():
        conditions = one.conditions
        if conditions is None or not conditions.ready or conditions.terminating:
            continue
        ip, name = one.addresses[0], one.target_ref.name if one.target_ref is not None else one.addresses[0]
        found.append(Endpoint(name, f"{ip}:{HTTP_PORT}", f"{ip}:{GRPC_PORT}", f"{ip}:{METRICS_PORT}", None))
    return found


def _seconds(time_of: Any) -> float | None:
    return None if time_of is None else float(time_of.timestamp())


def _deleted_s(pod: Any) -> float | None:
    """The API stamps the end of the grace period; the deletion was that long before."""
    at = _seconds(pod.metadata.deletion_timestamp)
    return None if at is None else at - float(pod.metadata.deletion_grace_period_seconds or 0)
