"""A Deployment of Triton pods as a service with replicas: its endpoints followed, its pods' states with their times.

`with KubernetesService(api, "default", "triton-resnet50", folder) as it:` follows until the block ends. The
deployment is somebody's who applied a manifest: this scales it, and neither makes nor removes it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kubernetes import client

from loadgen.endpoints import write_endpoints
from testbed.errors import ServingError
from testbed.serving.kubernetes_api import AsClusterError, follow
from testbed.serving.kubernetes_objects import Listed, deleted_s, listed_in, seconds, to_clients
from testbed.serving.service import Endpoint, ReplicaEvent, ReplicaState

SERVICE_LABEL = "kubernetes.io/service-name"  # that an EndpointSlice carries
ASK_S = 2.0  # for a count; it is asked for again and again


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
    """See the module. The headless Service in front of the pods is named as the deployment."""

    def __init__(self, api: client.ApiClient, namespace: str, deployment: str, folder: Path) -> None:
        self._apps: Any = client.AppsV1Api(api)
        self._core: Any = client.CoreV1Api(api)
        self._discovery: Any = client.DiscoveryV1Api(api)
        self._namespace, self._deployment = namespace, deployment
        self.endpoints_file = folder / "endpoints.json"
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._events: list[ReplicaEvent] = []
        self._pods: dict[str, PodHistory] = {}
        self._slices: dict[str, list[Listed]] = {}  # EndpointSlice -> what it holds
        self._given: frozenset[str] = frozenset()  # names of those that clients were given last
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
        what = f"deployment {self._namespace}/{self._deployment}"
        with AsClusterError(what, "apply its manifest first", "is KUBECONFIG right?"):
            deployment_object = self._apps.read_namespaced_deployment(
                self._deployment, self._namespace, _request_timeout=10
            )
        self._selector = ",".join(
            f"{key}={value}" for key, value in deployment_object.spec.selector.match_labels.items()
        )
        self.endpoints_file.parent.mkdir(parents=True, exist_ok=True)
        write_endpoints(self.endpoints_file, [])
        for name, task in (("pods", self._follow_pods), ("endpoints", self._follow_slices)):
            thread = threading.Thread(target=task, name=f"follow-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Follow no more; the deployment stays as it is."""
        self._stopping.set()

    def scale(self, replicas: int) -> None:
        """Ask for this many replicas, and return without waiting for them."""
        if replicas < 0:
            raise ServingError(f"cannot scale to {replicas} replicas: give 0 or more")
        with AsClusterError(f"scale of {self._namespace}/{self._deployment}", away="try again when it is back"):
            self._apps.patch_namespaced_deployment_scale(
                self._deployment, self._namespace, {"spec": {"replicas": replicas}}, _request_timeout=10
            )

    def spec_replicas(self) -> int:
        """What its scale asks for, now; ClusterError if the API does not tell."""
        with AsClusterError(f"scale of {self._namespace}/{self._deployment}"):
            scale = self._apps.read_namespaced_deployment_scale(
                self._deployment, self._namespace, _request_timeout=ASK_S
            )
        return int(scale.spec.replicas or 0)

    def endpoints(self) -> list[Endpoint]:
        """The replicas that take requests now, oldest first."""
        with self._changed:
            return self._ready()

    def events(self) -> list[ReplicaEvent]:
        """Every state that a replica entered so far, in order of time."""
        with self._changed:
            return list(self._events)

    def pods(self) -> list[PodHistory]:
        """Every pod that was seen, oldest first."""
        with self._changed:
            return sorted(self._pods.values(), key=lambda pod: (pod.created_s or 0.0, pod.name))

    def wait_ready(self, replicas: int, timeout_s: float) -> None:
        """Wait until exactly so many take requests; ServingError if that does not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._ready()) == replicas, timeout_s):
                why = "; ".join(f"{pod.name}: {pod.pending_why}" for pod in self._pods.values() if pod.pending_why)
                raise ServingError(
                    f"{self._namespace}/{self._deployment}: {len(self._ready())} of {replicas} replicas take requests "
                    f"after {timeout_s:g} s{': ' + why if why else ''}"
                )

    def wait_settled(self, replicas: int, timeout_s: float) -> None:
        """Wait until exactly so many take requests and no other pod is left; ServingError if that does not come."""
        self.wait_ready(replicas, timeout_s)
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._left()) == replicas, timeout_s):
                raise ServingError(
                    f"{self._namespace}/{self._deployment}: {len(self._left())} pods are left after {timeout_s:g} s, "
                    f"{replicas} are wanted: {', '.join(self._left())}"
                )

    def _left(self) -> list[str]:
        return [name for name, pod in self._pods.items() if pod.states[-1] != "gone"]

    def _listed(self) -> list[Listed]:
        by_name = {listed.endpoint.name: listed for part in self._slices.values() for listed in part}
        return [by_name[name] for name in sorted(by_name, key=lambda name: (self._age(name), name))]

    def _ready(self) -> list[Endpoint]:
        return [listed.endpoint for listed in self._listed() if listed.ready]

    def _age(self, name: str) -> float:
        pod = self._pods.get(name)
        return 0.0 if pod is None or pod.created_s is None else pod.created_s

    def _follow_pods(self) -> None:
        def heard(kind: str, pod: Any) -> None:
            with self._changed:
                self._note_pod(kind, pod)
                self._changed.notify_all()

        follow(self._core.list_namespaced_pod, self._namespace, self._selector, heard, self._stopping)

    def _follow_slices(self) -> None:
        def heard(kind: str, listed_slice: Any) -> None:
            with self._changed:
                self._slices[listed_slice.metadata.name] = [] if kind == "DELETED" else listed_in(listed_slice)
                given = to_clients(self._listed(), self._given)
                self._given = frozenset(endpoint.name for endpoint in given)
                write_endpoints(self.endpoints_file, [endpoint.http for endpoint in given])
                self._changed.notify_all()

        list_slices, selector = self._discovery.list_namespaced_endpoint_slice, f"{SERVICE_LABEL}={self._deployment}"
        follow(list_slices, self._namespace, selector, heard, self._stopping)

    def _note_pod(self, kind: str, pod: Any) -> None:
        name = pod.metadata.name
        known = self._pods.setdefault(name, PodHistory(name))
        conditions = {condition.type: condition for condition in pod.status.conditions or ()}
        known.node = pod.spec.node_name
        known.created_s = seconds(pod.metadata.creation_timestamp)
        known.deleted_s = deleted_s(pod)
        scheduled, ready = conditions.get("PodScheduled"), conditions.get("Ready")
        if scheduled is not None and scheduled.status == "True":
            known.scheduled_s, known.pending_why = seconds(scheduled.last_transition_time), ""
        elif scheduled is not None:
            known.pending_why = scheduled.message or scheduled.reason or ""
        running = [
            container_status.state.running
            for container_status in pod.status.container_statuses or ()
            if container_status.state.running is not None
        ]
        if running:
            known.started_s = seconds(running[0].started_at)
        is_ready = ready is not None and ready.status == "True"
        if ready is not None and is_ready and known.ready_s is None:
            known.ready_s = seconds(ready.last_transition_time)
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
