"""What the pods of the load generator learn from EndpointSlices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kubernetes import client

from loadgen.endpoints import read_endpoints
from testbed.serving.load_pod import Addresses


def part(name: str, *addresses: str, ready: bool = True, terminating: bool = False) -> client.V1EndpointSlice:
    """An EndpointSlice of pods in one state."""
    conditions = client.V1EndpointConditions(ready=ready, terminating=terminating)
    ends = [client.V1Endpoint(addresses=[address], conditions=conditions) for address in addresses]
    return client.V1EndpointSlice(address_type="IPv4", endpoints=ends, metadata=client.V1ObjectMeta(name=name))


def test_the_endpoints_of_all_slices_are_followed(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path, needs_master=False)
    addresses.heard_target("ADDED", part("a", "10.0.0.1", "10.0.0.2"))
    addresses.heard_target("ADDED", part("b", "10.0.0.3"))
    assert read_endpoints(tmp_path / "endpoints.json") == ("10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000")
    addresses.heard_target("MODIFIED", part("a", "10.0.0.2"))
    addresses.heard_target("DELETED", part("b", "10.0.0.3"))
    assert read_endpoints(tmp_path / "endpoints.json") == ("10.0.0.2:8000",)


@pytest.mark.parametrize("state", [{"ready": False}, {"terminating": True}], ids=["not ready", "leaving"])
def test_a_pod_that_takes_no_requests_is_none_and_locust_waits(tmp_path: Path, state: dict[str, bool]) -> None:
    addresses = Addresses(tmp_path, needs_master=False)
    addresses.heard_target("ADDED", part("a", "10.0.0.1", **state))
    assert read_endpoints(tmp_path / "endpoints.json") == ()
    assert not (tmp_path / "ready").exists()
    addresses.heard_target("MODIFIED", part("a", "10.0.0.1"))
    assert (tmp_path / "ready").exists()


@pytest.mark.parametrize("first", ["target", "master"])
def test_a_worker_waits_for_the_master_as_well_whichever_comes_first(tmp_path: Path, first: str) -> None:
    addresses = Addresses(tmp_path, needs_master=True)
    news = {"target": (addresses.heard_target, "10.0.0.1"), "master": (addresses.heard_master, "10.0.0.9")}
    for who in sorted(news, key=lambda name: name != first):
        assert not (tmp_path / "ready").exists()
        heard, address = news[who]
        heard("ADDED", part(who, address))
    assert (tmp_path / "ready").exists()
    assert (tmp_path / "locust.conf").read_text() == "master-host = 10.0.0.9\n"


@pytest.mark.parametrize(
    ("settings", "role", "said"),
    [
        ("target: triton-bert\nmaster: kis-load-master\n", "wrker", "unknown role 'wrker': give master or worker"),
        ("target: triton-bert\n", "worker", "master is missing"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, settings: str, role: str, said: str) -> None:
    (tmp_path / "load.yaml").write_text(settings)
    command = [sys.executable, "-m", "testbed.serving.load_pod", str(tmp_path / "load.yaml"), str(tmp_path), role]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("load pod: ")
    assert done.stderr.endswith(f"{said}\n")
