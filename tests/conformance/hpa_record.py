"""Stories played to the real kube-controller-manager: what its HPA was given at each sync, and what it made of it.

The metrics are a stand-in, since the series must be given: the adapter's own server over ScriptedMetrics. The pods are
kwok's. HPA, API server, scheduler and controllers are real. It needs the local cluster, up.
"""

from __future__ import annotations

import base64
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from testbed.adapter.api import Value
from testbed.adapter.server import AdapterServer, Trust
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.live.deployment import pod_state
from testbed.autoscaling.metrics import milli
from testbed.localcluster import pki
from testbed.localcluster.control_plane import FAKE_LABEL, FAKE_NODE, fake_node
from testbed.localcluster.layout import GPU, HOST_IP
from tests.conformance.hpa_stories import SECONDS, STORIES, Story, manifest

_SAME_SYNC_S = 2.0  # requests and the change of the scale that belong to one sync are closer than that
_GROUPS = (("external.metrics.k8s.io", "v1beta1"), ("custom.metrics.k8s.io", "v1beta2"))
_GPUS = 3


@dataclass
class Seen:
    """One sync of the real HPA. Values in milli-units by MetricSpec.key; a metric that was not measured is not there.

    pods: by number, oldest first. real: spec.replicas after it.
    """

    time_s: float
    status_replicas: int
    pods: dict[str, PodState]
    values: dict[str, int] = field(default_factory=dict)
    per_pod: dict[str, dict[str, int]] = field(default_factory=dict)
    real: int = 0


class ScriptedMetrics:
    """A stand-in for the adapter's source, for tests only: it says what the stories say, and notes who was told what.

    Each question of the HPA is part of a sync. A change of a scale that no question came before is a sync too.
    """

    def __init__(self, stories: Sequence[Story]) -> None:
        self._stories = {name: story for story in stories for name in story.series}
        self.metrics = tuple(self._stories)
        self.syncs: dict[str, list[Seen]] = {story.name: [] for story in stories}
        self.scales: dict[str, list[tuple[float, int]]] = {story.name: [] for story in stories}  # spec.replicas
        self._status: dict[str, int] = {}
        self._pods: dict[str, tuple[str, float, PodState]] = {}  # pod -> its story, when it was made, its state
        self._numbers: dict[str, str] = {}  # pod -> its number in its story
        self._lock = threading.Lock()
        self.start_s: float | None = None

    def of_deployments(self, namespace: str, metric: str) -> Sequence[Value]:
        """See Source."""
        with self._lock:
            now_s, story = time.time(), self._stories[metric]
            value = story.series[metric](self._elapsed(now_s), 0)
            sync = self._sync(story.name, now_s)
            if value is None:
                return []
            sync.values[f"External/{metric}"] = milli(value)
            return [Value("", {}, milli(value), now_s, 5.0)]

    def of_pods(self, namespace: str, metric: str) -> Sequence[Value]:
        """See Source."""
        with self._lock:
            now_s, story = time.time(), self._stories[metric]
            sync, told = self._sync(story.name, now_s), []
            for place, name in enumerate(self._names(story.name)):
                value = story.series[metric](self._elapsed(now_s), place)
                if value is not None and self._pods[name][2].phase == "Running":
                    told.append(Value(name, {"app": story.name}, milli(value), now_s, 5.0))
            sync.per_pod[f"Pods/{metric}"] = {self._numbers[one.pod]: one.value_m for one in told}
            return told

    def note_pod(self, kind: str, pod: Any) -> None:
        """A pod came, changed or went."""
        with self._lock:
            name, story = pod.metadata.name, pod.metadata.labels["app"]
            if kind == "DELETED":
                self._pods.pop(name, None)
                return
            same = sum(1 for number in self._numbers.values() if number.startswith(f"{story}/"))
            self._numbers.setdefault(name, f"{story}/{same}")
            self._pods[name] = (story, pod.metadata.creation_timestamp.timestamp(), pod_state(pod))

    def note_deployment(self, kind: str, one: Any) -> None:
        """Its scale or its status changed."""
        with self._lock:
            name, now_s = one.metadata.name, time.time()
            known = self.scales[name]
            if not known or known[-1][1] != one.spec.replicas:
                if self.start_s is not None:
                    self._sync(name, now_s)
                known.append((now_s, one.spec.replicas))
            self._status[name] = one.status.replicas or 0

    def _elapsed(self, now_s: float) -> float:
        return 0.0 if self.start_s is None else now_s - self.start_s

    def _names(self, story: str) -> list[str]:
        mine = [(made_s, name) for name, (of, made_s, _) in self._pods.items() if of == story]
        return [name for _, name in sorted(mine)]

    def _sync(self, story: str, now_s: float) -> Seen:
        """The sync that is going on."""
        known = self.syncs[story]
        if not known or now_s - known[-1].time_s > _SAME_SYNC_S:
            pods = {self._numbers[name]: self._pods[name][2] for name in self._names(story)}
            known.append(Seen(now_s, self._status.get(story, 0), pods))
        return known[-1]


def record(api: Any, namespace: str, stories: Sequence[Story] = STORIES) -> dict[str, list[Seen]]:
    """Play all stories at the same time, in a namespace of their own. The last sync of each is left out, if it has not
    been followed to its end."""
    scripted = ScriptedMetrics(stories)
    core, apps, scaling = client.CoreV1Api(api), client.AppsV1Api(api), client.AutoscalingV2Api(api)
    with ExitStack() as stack:
        stack.enter_context(_fake_nodes(core))
        stack.enter_context(_served(api, namespace, scripted))
        ended, broken = threading.Event(), list[str]()
        for list_all, heard in (
            (core.list_namespaced_pod, scripted.note_pod),
            (apps.list_namespaced_deployment, scripted.note_deployment),
        ):
            threading.Thread(target=_follow, args=(list_all, namespace, heard, ended, broken), daemon=True).start()
        stack.callback(ended.set)
        _wait(lambda: bool(core.list_namespaced_service_account(namespace).items), "the namespace's service account")
        for story in stories:
            apps.create_namespaced_deployment(namespace, _deployment(story))
        wanted = {story.name: min(story.replicas, _GPUS) if story.gpus else story.replicas for story in stories}
        _wait(lambda: all(_ready(core, namespace, name) == count for name, count in wanted.items()), "the pods")
        scripted.start_s = time.time()
        for story in stories:
            scaling.create_namespaced_horizontal_pod_autoscaler(namespace, manifest(story))
        time.sleep(SECONDS)
        end_s = time.time()
        assert not broken, f"the pods were not followed to the end: {broken}"
        for story in stories:
            scaling.delete_namespaced_horizontal_pod_autoscaler(story.name, namespace)
            apps.delete_namespaced_deployment(story.name, namespace)
        _wait(lambda: not core.list_namespaced_pod(namespace).items, "the end of the pods")
    return {name: _decided(syncs, scripted.scales[name], end_s) for name, syncs in scripted.syncs.items()}


def _decided(syncs: list[Seen], scales: list[tuple[float, int]], end_s: float) -> list[Seen]:
    followed = [sync for sync in syncs if sync.time_s + _SAME_SYNC_S < end_s]
    ends = [sync.time_s for sync in syncs[1:]] + [end_s]
    for one, until_s in zip(followed, ends, strict=False):
        # A silent sync is noted when its change is heard of, which is then its own.
        one.real = [replicas for time_s, replicas in scales if time_s < until_s][-1]
    return followed


def _deployment(story: Story) -> dict[str, Any]:
    resources = {"limits": {GPU: "1"}} if story.gpus else {}
    container = {"name": "idle", "image": "kis.local/pause:1", "resources": resources}
    pod = {
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": {FAKE_LABEL: "true"},
        "tolerations": [{"key": FAKE_NODE, "operator": "Exists"}],
        "containers": [container],
    }
    template = {
        "metadata": {"labels": {"app": story.name}, "annotations": {"kis/load": f"{story.load_s}s"}},
        "spec": pod,
    }
    spec = {"replicas": story.replicas, "selector": {"matchLabels": {"app": story.name}}, "template": template}
    return {"metadata": {"name": story.name}, "spec": spec}


@contextmanager
def _fake_nodes(core: Any) -> Iterator[None]:
    for index, gpus in enumerate((0, 0, _GPUS)):
        core.create_node(fake_node(f"fake-{index}", gpus))
    try:
        yield
    finally:
        core.delete_collection_node(label_selector=FAKE_LABEL)


@contextmanager
def _served(api: Any, namespace: str, scripted: ScriptedMetrics) -> Iterator[None]:
    """Behind the API server, on this machine: a Service whose EndpointSlice is written by hand."""
    core, registered = client.CoreV1Api(api), client.ApiregistrationV1Api(api)
    with tempfile.TemporaryDirectory() as folder:
        tls = Path(folder)
        pki.serving_certificate(f"scripted.{namespace}.svc", tls)
        trust = Trust(pki.FRONT_PROXY_CA.read_text(), frozenset({"front-proxy-client"}))
        server = AdapterServer(scripted, (HOST_IP, 0), tls / "tls.crt", tls / "tls.key", trust)
        authority = base64.b64encode((tls / "ca.crt").read_bytes()).decode()
    server.start()
    port = {"name": "https", "port": server.port}
    core.create_namespaced_service(namespace, {"metadata": {"name": "scripted"}, "spec": {"ports": [port]}})
    labels = {"kubernetes.io/service-name": "scripted"}
    client.DiscoveryV1Api(api).create_namespaced_endpoint_slice(
        namespace,
        {
            "metadata": {"name": "scripted", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [HOST_IP], "conditions": {"ready": True}}],
            "ports": [{**port, "protocol": "TCP"}],
        },
    )
    names = [f"{version}.{group}" for group, version in _GROUPS]
    try:
        for group, version in _GROUPS:
            spec = {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100}
            spec |= {
                "caBundle": authority,
                "service": {"name": "scripted", "namespace": namespace, "port": server.port},
            }
            registered.create_api_service({"metadata": {"name": f"{version}.{group}"}, "spec": spec})
        _wait(lambda: all(_available(registered.read_api_service(name)) for name in names), "the metrics' APIs")
        yield
    finally:
        for name in names:
            registered.delete_api_service(name)
        server.close()


def _available(one: Any) -> bool:
    return any(each.type == "Available" and each.status == "True" for each in one.status.conditions or ())


def _ready(core: Any, namespace: str, app: str) -> int:
    found = core.list_namespaced_pod(namespace, label_selector=f"app={app}").items
    return sum(1 for pod in found if pod_state(pod).ready)


def _follow(
    list_all: Any, namespace: str, heard: Callable[[str, Any], None], ended: threading.Event, broken: list[str]
) -> None:
    try:
        for event in watch.Watch().stream(list_all, namespace, timeout_seconds=SECONDS + 120):
            if ended.is_set():
                return
            heard(event["type"], event["object"])
    except (ApiException, HTTPError, OSError) as error:
        if not ended.is_set():
            broken.append(f"{list_all.__name__}: {error}")


def _wait(value: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not value():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.2)
