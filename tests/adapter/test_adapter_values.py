"""What the adapter tells of a deployment whose pages are written by hand, on a clock that is turned by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from testbed.adapter.followed import Followed
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.live.deployment import DeploymentStatus
from testbed.autoscaling.live.scraper import PodScraper
from testbed.errors import ClusterError
from testbed.measurement import triton_metrics
from testbed.measurement.triton_metrics import TritonAddress


@dataclass
class Pod:
    """A Triton pod's counters, and what its GPU says; None: it has none. garbage: its page is none."""

    answered: int = 0
    queue_s: float = 0.0
    waiting: int = 0
    gpu: float | None = None
    garbage: bool = False

    def page(self, url: str) -> str:
        if self.garbage:
            return "<html>busy</html>"
        if url.endswith("/stats"):
            ended = {"count": self.answered, "ns": 0}
            queue = {"count": self.answered, "ns": round(self.queue_s * 1e9)}
            stage = {"count": self.answered, "ns": self.answered * 10_000_000}  # 10 ms each, one at a time
            none = {"count": 0, "ns": 0}
            batch = {"batch_size": 1, "compute_input": none, "compute_infer": stage, "compute_output": none}
            stats = {"success": ended, "fail": none, "queue": queue}
            return json.dumps({"model_stats": [{"name": "m", "inference_stats": stats, "batch_stats": [batch]}]})
        lines = ["# TYPE nv_inference_pending_request_count gauge"]
        lines += [f'nv_inference_pending_request_count{{model="m"}} {self.waiting}']
        if self.gpu is not None:
            lines += ["# TYPE nv_gpu_utilization gauge", f'nv_gpu_utilization{{gpu_uuid="a"}} {self.gpu}']
        return "\n".join(lines) + "\n"


@dataclass
class World:
    """Ready pods by name, and the deployment that they make."""

    pods: dict[str, Pod]
    broken: bool = False
    now_s: float = 0.0
    followed: Followed = field(init=False)

    def __post_init__(self) -> None:
        labels = {"deployment": "web", "model": "m"}
        self.followed = Followed(self, PodScraper("m"), labels, window_s=2.0, stale_s=5.0, clock=lambda: self.now_s)

    def look(self) -> DeploymentStatus:
        if self.broken:
            raise ClusterError("the API does not answer")
        states = [PodState(name, "Running", True, 0.0, 0.0) for name in self.pods]
        addresses = [TritonAddress(name, f"{name}:8000", f"{name}:8002") for name in self.pods]
        return DeploymentStatus(len(states), states, addresses, {name: {"app": "web"} for name in self.pods})

    def second(self, **changed: Pod) -> None:
        """A second passes, in which pods become as given; then one turn."""
        self.now_s += 1.0
        self.pods |= changed
        self.told = self.followed.turn()

    def of_pods(self, metric: str) -> dict[str, int]:
        return {of_pod.pod: of_pod.value_m for of_pod in self.followed.of_pods(metric)}

    def total(self, metric: str) -> int | None:
        found = self.followed.of_deployment(metric)
        return found[0].value_m if found else None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World({"a": Pod(), "b": Pod()})
    monkeypatch.setattr(
        triton_metrics, "_get", lambda url, *_: made.pods[url.removeprefix("http://").partition(":")[0]].page(url)
    )
    return made


def test_values_are_means_over_the_window_and_add_up(world: World) -> None:
    world.second()
    world.second()
    assert world.of_pods("requests_per_second") == {}  # not a whole window yet
    world.second(a=Pod(30, 0.3, 4), b=Pod(10, 0.5, 1))
    assert world.of_pods("requests_per_second") == {"a": 15000, "b": 5000}
    assert world.total("requests_per_second") == 20000
    assert world.of_pods("queue_time_ms") == {"a": 10_000, "b": 50_000}
    assert world.total("queue_time_ms") == 20_000  # of all forty requests, not of two pods
    assert world.of_pods("pending_requests") == {"a": 4000, "b": 1000}
    assert world.of_pods("gpu_utilisation_pct") == {"a": 15_000, "b": 5_000}
    assert world.total("gpu_utilisation_pct") == 20_000
    (value,) = world.followed.of_deployment("requests_per_second")
    assert (value.time_s, value.window_s, value.labels) == (3.0, 2.0, {"deployment": "web", "model": "m"})
    assert {of_pod.labels["app"] for of_pod in world.followed.of_pods("requests_per_second")} == {"web"}


def test_what_the_gpu_says_goes_before_what_the_server_counts(world: World) -> None:
    world.second()
    world.second(a=Pod(gpu=0.5))
    world.second(a=Pod(30, gpu=0.7), b=Pod(10))
    assert world.of_pods("gpu_utilisation_pct") == {"a": 60_000, "b": 5_000}


def test_no_request_waited_is_0_and_some_wait_is_not_known(world: World) -> None:
    for _ in range(3):
        world.second(a=Pod(), b=Pod(waiting=3))
    assert world.of_pods("queue_time_ms") == {"a": 0}
    assert world.total("queue_time_ms") is None
    assert world.total("pending_requests") == 3000


def test_a_pod_that_tells_garbage_is_missing_and_so_is_the_sum(world: World) -> None:
    for _ in range(3):
        world.second(b=Pod(garbage=True))
    assert list(world.told) == ["b"]
    assert world.of_pods("pending_requests") == {"a": 0}
    assert world.total("pending_requests") is None


def test_a_server_that_was_started_anew_goes_on_counting(world: World) -> None:
    for _ in range(3):
        world.second(a=Pod(100, 1.0))
    world.second(a=Pod(3, 0.1))
    assert world.of_pods("requests_per_second") == {"a": 1500, "b": 0}
    assert world.total("requests_per_second") == 1500
    world.second()
    world.second(a=Pod(7, 0.1))
    assert world.of_pods("requests_per_second")["a"] == 2000


def test_values_that_are_too_old_are_not_known(world: World) -> None:
    for _ in range(3):
        world.second()
    world.broken = True
    for _ in range(5):
        world.second()
    assert world.told == {"web": "the API does not answer"}
    assert world.total("pending_requests") == 0
    world.second()
    assert world.total("pending_requests") is None
    assert world.of_pods("pending_requests") == {}


def test_without_pods_nothing_is_known(world: World) -> None:
    world.pods.clear()
    for _ in range(3):
        world.second()
    assert world.total("pending_requests") is None
