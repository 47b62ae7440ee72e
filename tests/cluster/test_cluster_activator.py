"""Scale to zero and back: `kis activator` holds what is sent meanwhile, and `kis controller` wakes the deployment."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from emulated_service import LONG_S, NAME, Kis, replay_at, sent
from localcluster_pods import MANIFESTS

from loadgen.endpoints import write_endpoints
from testbed.autoscaling.live.activator import ActivatorReader

pytestmark = pytest.mark.cluster
POLICY = {
    "kind": "keda",
    "metric": "arrivals_per_second",
    "threshold": 500,  # one replica is enough
    "polling_interval_s": 1.0,
    "cooldown_s": 8.0,
    "metrics_delay_s": 0.0,
    "window_s": 2.0,
}


class Activator:
    """`kis activator` as a process before the emulated model."""

    def __init__(self, folder: Path, kubeconfig: Path, namespace: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.metrics = f"http://127.0.0.1:{free.getsockname()[1]}"
        config = {
            "namespace": namespace,
            "deployments": [{"deployment": NAME, "ports": [{"listen": 0, "pod": 8000}]}],
            "metrics_port": int(self.metrics.rpartition(":")[2]),
        }
        file, self.log = folder / "activator.yaml", folder / "activator.jsonl"
        file.write_text(yaml.safe_dump(config))
        command = [str(Path(sys.executable).with_name("kis")), "activator", str(file), "--kubeconfig", str(kubeconfig)]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "COLUMNS": "200"})

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    @property
    def port(self) -> int:
        return int(self.lines()[0]["listening"][0])

    def page(self) -> str:
        with urllib.request.urlopen(f"{self.metrics}/metrics", timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture
def activator(tmp_path: Path, kubeconfig: Path, applied: str, eventually: Callable[..., Any]) -> Iterator[Activator]:
    one = Activator(tmp_path, kubeconfig, applied)
    eventually(one.lines, "the activator listens")
    yield one
    one.process.kill()
    one.process.wait()


def test_from_zero_to_one_and_back_no_request_is_lost(
    activator: Activator,
    applied: str,
    apps: Any,
    controllers: Callable[..., Kis],
    eventually: Callable[..., Any],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    apps.patch_namespaced_deployment_scale(NAME, applied, {"spec": {"replicas": 0}})

    def replicas() -> tuple[int, int]:
        status = apps.read_namespaced_deployment(NAME, applied)
        return status.spec.replicas or 0, status.status.replicas or 0

    eventually(lambda: replicas() == (0, 0), "the deployment is at 0")
    one = controllers(
        namespace=applied, policy=POLICY, activator=activator.metrics, limits={"min_replicas": 0, "max_replicas": 4}
    )
    eventually(lambda: len(one.turns()) >= 3, "the controller decides")
    assert one.patched() == []

    kept = http.client.HTTPConnection("127.0.0.1", activator.port, timeout=LONG_S)

    def asked() -> tuple[int, float]:
        begin_s = time.monotonic()
        kept.request("GET", "/v2/models/emulated")
        answer = kept.getresponse()
        answer.read()
        return answer.status, time.monotonic() - begin_s

    status, first_s = asked()
    assert status == 200
    assert one.patched() == [1]
    eventually(lambda: replicas() == (0, 0), "it sleeps after the cooldown")
    assert one.patched() == [1, 0]

    connection = kept.sock
    write_endpoints(tmp_path / "endpoints.json", [f"127.0.0.1:{activator.port}"])
    rows = sent(replay_at(20.0, 20.0, tmp_path / "endpoints.json", tmp_path, timeout_s=LONG_S))
    assert set(rows["status"]) == {"ok"}
    status, _ = asked()
    assert (status, kept.sock) == (200, connection)  # neither scaling to zero nor the new pod closed it
    eventually(lambda: replicas() == (0, 0), "it sleeps again")
    assert one.patched() == [1, 0, 1, 0]

    count = ActivatorReader(activator.metrics, NAME).read()
    assert count.held == 0
    assert count.sent >= len(rows) + 2
    page = activator.page()
    told = [
        line for line in page.splitlines() if line.startswith(("kis_activator_refused_t", "kis_activator_broken_t"))
    ]
    assert [float(line.split()[-1]) for line in told] == [0.0] * 4

    activator.process.terminate()
    assert activator.process.wait(LONG_S) == 0
    assert activator.lines()[-1]["cut_off"] == 0
    waited_s = float((rows["completed_ns"] - rows["scheduled_ns"]).max()) / 1e9
    record_property("first_request_s", first_s)
    print(f"the first request took {first_s:.1f} s; the longest of the replay's {len(rows)} took {waited_s:.1f} s")


def test_all_that_comes_through_the_service_of_a_deployed_activator_is_answered(
    applied: str,
    apps: Any,
    api: Any,
    kubectl: Callable[..., str],
    controllers: Callable[..., Kis],
    eventually: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The local cluster has no Service addresses: clients take those of the Service's EndpointSlices."""
    from kubernetes import client

    apps.patch_namespaced_deployment_scale(NAME, applied, {"spec": {"replicas": 0}})
    kubectl("apply", "--namespace", applied, "-k", str(MANIFESTS / "overlays" / "local-activator"))
    of_service = "kubernetes.io/service-name=kis-activator-emulated"

    def addresses() -> dict[str, str]:
        """By the name of the port, of the pod that is ready."""
        slices = client.DiscoveryV1Api(api).list_namespaced_endpoint_slice(applied, label_selector=of_service).items
        return {
            port.name: f"{end.addresses[0]}:{port.port}"
            for part in slices
            for end in part.endpoints or []
            if end.conditions.ready
            for port in part.ports or []
        }

    at = eventually(addresses, "the activator's pod is ready")
    assert at.keys() == {"http", "grpc", "metrics"}
    page = f"http://{at['metrics']}"
    eventually(lambda: not apps.read_namespaced_deployment(NAME, applied).status.replicas, "the deployment is at 0")
    one = controllers(namespace=applied, policy=POLICY, activator=page, limits={"min_replicas": 0, "max_replicas": 4})
    eventually(lambda: len(one.turns()) >= 3, "the controller decides")
    assert one.patched() == []

    write_endpoints(tmp_path / "endpoints.json", [at["http"]])
    rows = sent(replay_at(20.0, 10.0, tmp_path / "endpoints.json", tmp_path, timeout_s=LONG_S))
    assert set(rows["status"]) == {"ok"}
    assert one.patched() == [1]
    with grpc.insecure_channel(at["grpc"]) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        assert ready(b"", timeout=LONG_S) == b"\x08\x01"  # ready: true
    count = ActivatorReader(page, NAME).read()
    assert count.held == 0
    assert count.sent >= len(rows) + 1
