"""`kis controller` while things break: never below the last safe count, it says what is wrong, and it goes on after."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from emulated_service import LONG_S, NAME, Kis, replay_at
from local_cluster import LocalCluster
from localcluster_pods import bring_back_node, host_root_pod, lose_node, readiness, running

from testbed.controller.deployment import KubernetesDeployment
from testbed.errors import ClusterError
from testbed.localcluster.processes import Daemon
from testbed.serving.kubernetes import KubernetesService

pytestmark = [pytest.mark.cluster, pytest.mark.long]

AWAY_S = 20.0
READINESS = "/spec/template/spec/containers/0/readinessProbe/httpGet/path"
GARBAGE = """
import http.server, itertools, threading
pages = itertools.cycle([b'', b'<html>busy</html>', b'{"model_stats": [{"name": "emulated", "inference_stats": []}]}',
    b'nv_inference_pending_request_count{model="emulated"} -1e999', b'[' * 100000, bytes(range(256))])
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(next(pages))
for port in (8000, 8002):
    threading.Thread(target=http.server.ThreadingHTTPServer(('', port), Page).serve_forever).start()
"""


def fixed(namespace: str, replicas: int, **more: Any) -> dict[str, Any]:
    """Settings of a controller that wants so many replicas, and decides twice a second."""
    policy = {"kind": "fixed", "replicas": replicas, "period_s": 0.5}
    return {"namespace": namespace, "policy": policy, "scrape_period_s": 0.5, **more}


def leases(api: Any) -> Any:
    from kubernetes import client

    return client.CoordinationV1Api(api)


@pytest.fixture
def another_cluster_after(the_local_cluster: LocalCluster) -> Iterator[None]:
    """For a test after which this one needs a minute until its nodes are believed in again."""
    yield
    the_local_cluster.down()


@pytest.mark.usefixtures("another_cluster_after")
def test_an_api_server_that_is_away_for_twenty_seconds_costs_no_request_and_no_replica(
    service: KubernetesService,
    applied: str,
    core: Any,
    controllers: Callable[..., Kis],
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    service.scale(2)
    service.wait_ready(2, LONG_S)

    def lives() -> dict[str, int]:
        pods = core.list_namespaced_pod(applied).items
        return {pod.metadata.uid: pod.status.container_statuses[0].restart_count for pod in pods}

    before = lives()
    keeper = controllers(**fixed(applied, 2))
    eventually(keeper.acts, "the controller decides")
    instants: list[float] = []
    server, steps = Daemon.recorded("kube-apiserver"), ["start", "kill"]

    def away(elapsed_s: float, _: float) -> None:
        if steps and elapsed_s >= (2.0 if steps[-1] == "kill" else 2.0 + AWAY_S):
            getattr(server, steps.pop())()
            instants.append(time.time())

    log = replay_at(300.0, AWAY_S + 8.0, service, tmp_path, on_progress=away)
    assert log.counts()["ok"] == len(log)
    killed_s, started_s = instants
    silent = [turn for turn in keeper.turns() if killed_s + 1 < turn["time_s"] < started_s]
    assert len(silent) >= 5
    assert all("the API does not answer" in turn["refusal"] for turn in silent)
    assert {turn["replicas"] for turn in keeper.turns()} == {None}
    assert lives() == before, "no pod was replaced or started again"

    eventually(lambda: keeper.turns()[-1]["spec_replicas"] == 2, "the controller sees the deployment again")
    service.scale(1)
    eventually(lambda: keeper.patched() == [2], "it acts again")


def test_of_two_controllers_one_acts_though_leaders_stand_still_and_are_killed(
    service: KubernetesService,
    applied: str,
    controllers: Callable[..., Kis],
    eventually: Callable[..., Any],
    core: Any,
    api: Any,
) -> None:
    """They want different counts, so the count shows who acts."""
    service.wait_ready(1, LONG_S)  # else the first finds a pod missing, and takes no step down for a minute
    lease: dict[str, Any] = {"lease": "kis-test", "lease_s": 3.0}
    first = controllers(**fixed(applied, 2, **lease))
    eventually(first.acts, "the first acts")
    second = controllers(**fixed(applied, 3, **lease))
    service.wait_ready(2, LONG_S)
    eventually(lambda: len(second.turns()) >= 4, "the second decides")
    assert not any(turn["acted"] for turn in second.turns())

    os.kill(first.process.pid, signal.SIGSTOP)
    eventually(lambda: second.patched() == [3], "the second takes over")
    seen, acted = len(first.turns()), sum(turn["acted"] for turn in first.turns())
    os.kill(first.process.pid, signal.SIGCONT)
    eventually(lambda: len(first.turns()) >= seen + 6, "the first goes on, and wants 2 of the 3")
    late = first.turns()[seen + 1 :]
    assert all(turn["wanted"] == 2 and turn["spec_replicas"] == 3 for turn in late)
    assert sum(turn["acted"] for turn in first.turns()) - acted <= 1, "of the turn that it was stopped in"
    assert first.patched() == [2]

    service.wait_ready(3, LONG_S)
    renewed_s = leases(api).read_namespaced_lease("kis-test", applied).spec.renew_time.timestamp()
    second.process.kill()  # without a word
    eventually(lambda: first.patched() == [2, 2], "the first takes over")
    acted_s = [turn["time_s"] for turn in first.turns() if turn["acted"] and turn["replicas"] is not None]
    assert acted_s[-1] >= renewed_s + lease["lease_s"], "not before the lease has run out"

    def told() -> list[str]:
        events = core.list_namespaced_event(applied).items
        return sorted(event.message.partition(":")[0] for event in events if event.reason == "Scaled")

    eventually(lambda: told() == ["1 -> 2", "2 -> 3", "3 -> 2"], "the three changes are told")


def test_a_count_that_somebody_else_has_changed_since_it_was_judged_is_left_alone(
    api: Any, apps: Any, namespace: str, deployment: Callable[..., Any]
) -> None:
    def count() -> int:
        return apps.read_namespaced_deployment_scale("idle", namespace).spec.replicas or 0

    apps.create_namespaced_deployment(namespace, deployment("idle", replicas=2, gpus=0))
    scaled = KubernetesDeployment(api, namespace, "idle")
    scaled.patch(1, judged=2)
    with pytest.raises(ClusterError, match="it is no longer 2: somebody else scales it too"):
        scaled.patch(3, judged=2)
    assert count() == 1
    scaled.patch(0, judged=1)
    with pytest.raises(ClusterError, match="it is no longer 1"):
        scaled.patch(2, judged=1)
    assert count() == 0
    scaled.patch(1, judged=0)
    assert count() == 1
    with pytest.raises(ClusterError, match="it is no longer 0"):
        scaled.patch(2, judged=0)


def test_a_pod_whose_pages_are_nonsense_stops_every_step_down_until_it_is_gone(
    service: KubernetesService, applied: str, core: Any, controllers: Callable[..., Kis], eventually: Callable[..., Any]
) -> None:
    service.scale(2)
    service.wait_ready(2, LONG_S)
    labels = running(core, applied)[0].metadata.labels
    labels = {key: value for key, value in labels.items() if key != "pod-template-hash"}
    core.create_namespaced_pod(
        applied, host_root_pod("liar", ["/opt/python/bin/python3", "-c", GARBAGE], labels=labels)
    )
    service.wait_ready(3, LONG_S)
    one = controllers(**fixed(applied, 1))
    eventually(lambda: len(one.turns()) >= 12, "it decides, whatever the page says")
    for turn in one.turns()[1:]:
        assert turn["refusal"].endswith("of 3 ready pods told nothing: no step down")
        assert "liar" in turn["not_scraped"]
    assert one.patched() == []
    core.delete_namespaced_pod("liar", applied, grace_period_seconds=0)
    eventually(lambda: one.patched() == [1], "down, now that all is known")


def test_a_node_that_is_lost_is_replaced_and_the_count_stays(
    service: KubernetesService,
    applied: str,
    core: Any,
    controllers: Callable[..., Kis],
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    """The policy follows the load that it sees, and for a while it sees only the other node's part of it."""
    service.scale(4)
    service.wait_ready(4, LONG_S)
    before = eventually(lambda: len(running(core, applied)) == 4 and running(core, applied), "four are ready")
    assert Counter(pod.spec.node_name for pod in before) == {"node-a": 2, "node-b": 2}
    gone = {f"{pod.status.pod_ip}:8000" for pod in before if pod.spec.node_name == "node-b"}
    one = controllers(**fixed(applied, 1, limits={"min_replicas": 1, "max_replicas": 4, "down_window_s": 12.0}))
    eventually(one.acts, "the controller decides")
    lost_ns: list[int] = []

    def lose(elapsed_s: float, _: float) -> None:
        if elapsed_s >= 2.0 and not lost_ns:
            lose_node("node-b")
            lost_ns.append(time.monotonic_ns())

    try:
        log = replay_at(300.0, 18.0, service, tmp_path, on_progress=lose)
        lost = log.frame[~log.ok]
        assert set(lost["endpoint"]) <= gone, "only what its servers were answering"
        lost_at_ns = lost_ns[0] - log.provenance["start_monotonic_ns"]
        assert (lost["sent_ns"] <= lost_at_ns).all(), "and nothing that was sent when they were gone"
        service.wait_ready(4, LONG_S)
        nodes = {"node-a"}
        eventually(lambda: {pod.spec.node_name for pod in running(core, applied)} == nodes, "all are on the other node")
        for why in ("told nothing", "ready pods were lost"):
            eventually(lambda why=why: any(why in turn["refusal"] for turn in one.turns()), f"it holds: {why}")
        assert {turn["spec_replicas"] for turn in one.turns()} == {4}
    finally:
        bring_back_node("node-b")
    eventually(lambda: readiness(core, "node-b") == "True", "the node is back")
    eventually(lambda: len(core.list_namespaced_pod(applied).items) == 4, "its old pods are gone")


def test_pods_that_never_become_ready_are_told_and_leave_the_others_alone(
    service: KubernetesService,
    applied: str,
    kubectl: Callable[..., str],
    controllers: Callable[..., Kis],
    eventually: Callable[..., Any],
) -> None:
    service.scale(2)
    service.wait_ready(2, LONG_S)
    served = {endpoint.name for endpoint in service.endpoints()}
    probe = [{"op": "add", "path": READINESS, "value": "/v2/models/nothing/ready"}]
    kubectl("patch", "--namespace", applied, f"deployment/{NAME}", "--type=json", f"--patch={json.dumps(probe)}")
    one = controllers(**fixed(applied, 3))
    eventually(lambda: one.turns() and "unready status: [triton]" in str(one.turns()[-1]["not_ready"]), "it is told")
    asked = len(one.turns())
    eventually(lambda: len(one.turns()) >= asked + 6, "the controller goes on")
    assert one.patched() == [3], "once, and no more because they do not come"
    assert served <= {endpoint.name for endpoint in service.endpoints()}
    kubectl("rollout", "undo", "--namespace", applied, f"deployment/{NAME}")
    service.wait_ready(3, LONG_S)
    eventually(lambda: one.turns()[-1]["not_ready"] == {}, "nothing is wrong any more")


def test_pods_that_a_quota_refuses_are_told_and_made_when_it_is_gone(
    service: KubernetesService,
    applied: str,
    core: Any,
    kubectl: Callable[..., str],
    controllers: Callable[..., Kis],
    eventually: Callable[..., Any],
) -> None:
    service.wait_ready(1, LONG_S)
    core.create_namespaced_resource_quota(
        applied, {"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "2"}}}
    )
    eventually(lambda: core.read_namespaced_resource_quota("gpus", applied).status.used, "the quota is counted")
    one = controllers(**fixed(applied, 4))
    eventually(lambda: [turn["not_made"] for turn in one.turns()][-6:] == [2] * 6, "two are made, and two are not")
    service.wait_ready(2, LONG_S)
    assert one.patched() == [4], "it asks once, and does not run away"
    assert one.turns()[-1]["spec_replicas"] == 4
    core.delete_namespaced_resource_quota("gpus", applied)
    # Kubernetes tries again by itself, each time after twice as long; a change of the ReplicaSet makes it try now.
    kubectl("annotate", "--namespace", applied, "replicasets", "--all", "kis/quota=gone")
    service.wait_ready(4, LONG_S)
    eventually(lambda: one.turns()[-1]["not_made"] == 0, "all are there")
