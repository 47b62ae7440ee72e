"""Our own programs as pods: the controller, and the load generator."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emulated_service import LONG_S
from localcluster_pods import MANIFESTS, running

from loadgen.job import ReplayJob, RequestShape, run_replay
from loadgen.patterns import make_pattern
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule, poisson_schedule
from testbed.localcluster.layout import SHARED
from testbed.serving.kubernetes import KubernetesService
from workloads.catalog import find_model

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.usefixtures("local_cluster")]


@pytest.fixture
def apply(kubectl: Callable[..., str], namespace: str) -> Callable[[str], None]:
    """apply(overlay): into the test's namespace."""

    def run(overlay: str) -> None:
        kubectl("apply", "--namespace", namespace, "-k", str(MANIFESTS / "overlays" / overlay))

    return run


class Controllers:
    """The controller's pods, as `kubectl logs` and their pages show them."""

    def __init__(self, core: Any, kubectl: Callable[..., str], namespace: str) -> None:
        self._core, self._kubectl, self._namespace = core, kubectl, namespace

    def ready(self) -> list[Any]:
        pods = running(self._core, self._namespace)
        return [pod for pod in pods if pod.metadata.labels["app.kubernetes.io/name"] == "kis-controller"]

    def turns(self, pod: Any) -> list[dict[str, Any]]:
        log = self._kubectl("logs", "--namespace", self._namespace, pod.metadata.name)
        return [json.loads(line) for line in log.splitlines() if line.startswith("{")]  # stderr is in it too

    def acting(self) -> list[Any]:
        """Those whose last decision was theirs to carry out."""
        last = [(pod, self.turns(pod)[-1:]) for pod in self.ready()]
        return [pod for pod, turns in last if turns and turns[0]["acted"]]


@pytest.fixture
def controllers(apply: Callable[[str], None], core: Any, kubectl: Callable[..., str], namespace: str) -> Controllers:
    apply("emulated")
    apply("local-controller")
    return Controllers(core, kubectl, namespace)


def page(pod: Any, path: str) -> str:
    with urllib.request.urlopen(f"http://{pod.status.pod_ip}:9108{path}", timeout=60) as answer:
        return str(answer.read().decode())


def test_of_two_controller_pods_one_acts_scales_under_load_and_is_replaced(
    controllers: Controllers, api: Any, core: Any, namespace: str, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    eventually(lambda: len(controllers.ready()) == 2, "both are ready")
    eventually(lambda: all(len(controllers.turns(pod)) >= 3 for pod in controllers.ready()), "both decide")
    (leader,) = eventually(controllers.acting, "one acts")
    (other,) = (pod for pod in controllers.ready() if pod.metadata.name != leader.metadata.name)
    assert not any(turn["acted"] for turn in controllers.turns(other))
    assert page(leader, "/healthz") == "ok\n"
    assert 'kis_controller_acting{deployment="triton-emulated",policy="knative"} 1.0' in page(leader, "/metrics")
    assert 'kis_controller_acting{deployment="triton-emulated",policy="knative"} 0.0' in page(other, "/metrics")

    with KubernetesService(api, namespace, "triton-emulated", tmp_path) as service:
        service.wait_ready(1, LONG_S)
        spec = find_model("emulated")
        poisson_schedule(make_pattern("constant", rate=900.0), 8.0, 1, spec.name).write(tmp_path / "schedule.parquet")
        run_replay(
            ReplayJob(
                schedule=tmp_path / "schedule.parquet",
                run_dir=tmp_path,
                endpoints=service.endpoints_file,
                requests={spec.name: RequestShape(inputs=spec.inputs)},
            )
        )
    patched = eventually(
        lambda: [turn["replicas"] for turn in controllers.turns(leader) if turn["replicas"]], "it acts"
    )
    assert max(patched) > 1

    def events() -> list[Any]:
        return [one for one in core.list_namespaced_event(namespace).items if one.reason == "Scaled"]

    assert {one.source.component for one in eventually(events, "they are told")} == {"kis-controller"}

    core.delete_namespaced_pod(leader.metadata.name, namespace, grace_period_seconds=0)
    eventually(
        lambda: [pod.metadata.name for pod in controllers.acting()] == [other.metadata.name], "the other takes over"
    )


def test_load_pods_share_one_schedule_and_leave_the_run_in_the_volume(
    apply: Callable[[str], None],
    kubectl: Callable[..., str],
    core: Any,
    api: Any,
    namespace: str,
    eventually: Callable[..., Any],
) -> None:
    from kubernetes import client

    apply("emulated")
    kubectl("scale", "--namespace", namespace, "deployment/triton-emulated", "--replicas=2")
    eventually(lambda: len(running(core, namespace)) == 2, "two Triton pods are ready")
    addresses = {f"{pod.status.pod_ip}:8000" for pod in running(core, namespace)}
    apply("local-load")
    jobs: Any = client.BatchV1Api(api)

    def ended() -> bool:
        states = [job.status for job in jobs.list_namespaced_job(namespace).items]
        return all(state.succeeded or state.failed for state in states)

    eventually(ended, "the load ends")
    said = kubectl("logs", "--namespace", namespace, "job/kis-load-master", "-c", "locust")
    assert [job.status.failed for job in jobs.list_namespaced_job(namespace).items] == [None, None], said

    run = SHARED / "bursty"
    schedule, log = Schedule.read(run / "schedule.parquet"), RequestLog.read(run / "requests.parquet")
    assert len(log) == len(schedule) > 0
    assert log.counts()["ok"] == len(log), said
    assert set(log.frame["endpoint"]) == addresses
    clients = log.provenance["clients"]
    assert [one["worker"] for one in clients] == [0, 1]
    assert [sum(one["counts"].values()) for one in clients] == [-(-len(log) // 2), len(log) // 2]
