"""The control loop over a deployment and pods made of plain values: it acts, and it fails static."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.live.deployment import DeploymentStatus
from testbed.autoscaling.live.scraper import Counters, PodScraper
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policy import Decision
from testbed.controller.guard import Limits
from testbed.controller.loop import Controller
from testbed.errors import ClusterError
from testbed.measurement import triton_metrics
from testbed.measurement.triton_metrics import TritonAddress

LIMITS = Limits(min_replicas=1, max_replicas=10, stale_s=5.0)


@dataclass
class Deployment:
    """A deployment whose pods are ready at once. broken: what the API says instead of an answer."""

    replicas: int = 2
    broken: str = ""
    dead: set[str] = field(default_factory=set)  # pods that the API shows as not ready
    patches: list[int] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    def look(self) -> DeploymentStatus:
        if self.broken:
            raise ClusterError(self.broken)
        names = [f"pod-{k}" for k in range(self.replicas)]
        pods = [PodState(name, "Running", name not in self.dead, 0.0, 0.0) for name in names]
        addresses = [TritonAddress(n, f"{n}:8000", f"{n}:8002") for n in names if n not in self.dead]
        return DeploymentStatus(self.replicas, pods, addresses, not_ready=dict.fromkeys(self.dead, "its node is gone"))

    def patch(self, replicas: int, judged: int) -> None:
        assert judged == self.replicas
        self.patches.append(replicas)
        self.replicas = replicas

    def tell(self, reason: str, message: str, warning: bool) -> None:
        self.told.append((reason, message))


@dataclass
class Answers:
    """A policy that answers what it is told to."""

    answer: Callable[[Observation], Any]
    name: str = "answers"
    period_s: float = 2.0

    def decide(self, seen: Observation, memory: Any) -> Decision:
        return Decision(self.answer(seen), (memory or 0) + 1, "because")


def statistics_of(url: str, requests: int) -> str:
    """One of a Triton's two pages: of model m, whose queue has 3 requests in it."""
    if url.endswith("/stats"):
        ended = {"count": requests, "ns": 5_000_000_000}
        stats = {"success": ended, "fail": {"count": 0, "ns": 0}, "queue": {"count": 100, "ns": 1_000_000_000}}
        return json.dumps({"model_stats": [{"name": "m", "inference_stats": stats, "batch_stats": []}]})
    return '# TYPE nv_inference_pending_request_count gauge\nnv_inference_pending_request_count{model="m"} 3\n'


class World:
    """A controller on a clock that is turned by hand; down: pods that do not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[Observation], Any], **more: Any) -> None:
        self.now_s, self.down, self.requests = 0.0, set[str](), 0
        self.page = "<html>busy</html>"
        monkeypatch.setattr(triton_metrics, "_get", self._get)
        self.deployment, self.scraper = Deployment(), PodScraper("m")
        policy = Answers(answer)
        self.controller = Controller(self.deployment, self.scraper, policy, LIMITS, clock=lambda: self.now_s, **more)

    def _get(self, url: str, *_: object) -> str:
        if url.removeprefix("http://").partition(":")[0] in self.down:
            if self.page == "crash":
                raise ZeroDivisionError("a parser")
            return self.page
        return statistics_of(url, 100 + self.requests)

    def run(self, until_s: float) -> list[Any]:
        turns = []
        while self.now_s < until_s:
            self.now_s += 1.0
            turn = self.controller.turn()
            if turn is not None:
                turns.append(turn)
        return turns


def test_a_wish_is_patched_and_told(monkeypatch):
    world = World(monkeypatch, lambda seen: 5)
    turns = world.run(4)
    assert world.deployment.patches == [5]
    assert turns[0].replicas == 5
    assert world.deployment.told == [("Scaled", "2 -> 5: because")]
    assert [turn.time_s for turn in turns] == [1.0, 3.0]  # every two seconds, though it looks each second


def test_a_loop_that_turns_a_little_early_does_not_miss_its_decision(monkeypatch):
    world = World(monkeypatch, lambda seen: 2)
    turns = []
    for at_s in (1.0, 1.999, 2.998, 4.003, 4.999, 9.2, 10.0, 11.0):  # it stood still for four seconds
        world.now_s = at_s
        turn = world.controller.turn()
        turns += [] if turn is None else [turn.time_s]
    assert turns == [1.0, 2.998, 4.999, 9.2, 11.0]


def test_a_policy_sees_the_scrapes_as_windows(monkeypatch):
    seen_windows = []
    world = World(monkeypatch, lambda seen: seen_windows.append(seen.window(2.0, 0.0)) or 2)
    world.run(5)
    last = seen_windows[-1]
    assert last is not None
    assert (last.pods, last.seconds) == (("pod-0", "pod-1"), 2.0)
    assert last.waiting.tolist() == [3.0, 3.0]


def test_a_shadow_and_one_that_does_not_lead_never_patch(monkeypatch):
    for more in ({"shadow": True}, {"leads": lambda: False}):
        world = World(monkeypatch, lambda seen: 7, **more)
        turns = world.run(6)
        assert world.deployment.patches == []
        assert world.deployment.told == []
        assert [turn.wanted for turn in turns] == [7, 7, 7]
        assert not any(turn.acted for turn in turns)


def test_an_api_that_is_away_and_comes_back(monkeypatch):
    world = World(monkeypatch, lambda seen: 4)
    world.deployment.broken = "the API does not answer"
    turns = world.run(6)
    assert world.deployment.patches == []
    assert {turn.refusal for turn in turns} == {"the API does not answer"}
    world.deployment.broken = ""
    world.run(8)
    assert world.deployment.patches == [4]


def test_a_policy_that_fails_takes_nothing_with_it(monkeypatch):
    def answer(seen: Observation) -> int:
        if seen.now_s < 4:
            raise ZeroDivisionError("queue is empty")
        return 3

    world = World(monkeypatch, answer)
    turns = world.run(6)
    assert "ZeroDivisionError: queue is empty" in turns[0].reason
    assert turns[0].replicas is None
    assert world.deployment.patches == [3]


def test_nonsense_answers_are_held(monkeypatch):
    world = World(monkeypatch, lambda seen: float("nan"))
    assert all(turn.replicas is None and "nan" in turn.refusal for turn in world.run(5))


NEGATIVE = """{"model_stats": [{"name": "m", "batch_stats": [], "inference_stats":
    {"success": {"count": -7, "ns": 1}, "fail": {"count": 0, "ns": 0}, "queue": {"count": 0, "ns": 0}}}]}"""


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>busy</html>",
        "[" * 100_000,
        '{"model_stats": [{"name": "m", "inference_stats": []}]}',
        NEGATIVE,
        NEGATIVE.replace("-7", "1e999"),
        NEGATIVE.replace("-7", "NaN"),
        "crash",
    ],
    ids=["empty", "html", "deep", "list", "negative", "infinite", "nan", "crash"],
)
def test_pods_that_tell_garbage_stop_a_step_down_but_not_up(monkeypatch, page):
    world = World(monkeypatch, lambda seen: 1)
    world.down, world.page = {"pod-1"}, page
    turns = world.run(3)
    assert world.deployment.patches == []
    assert "told nothing" in turns[0].refusal
    assert "pod-1" in world.scraper.failures
    world.down = set()
    world.run(5)
    assert world.deployment.patches == [1]


def test_when_all_pods_have_been_silent_too_long_the_count_stays(monkeypatch):
    world = World(monkeypatch, lambda seen: 8 if seen.now_s > 4 else 2)
    world.run(3)
    world.down = {f"pod-{k}" for k in range(10)}
    turns = world.run(12)
    assert world.deployment.patches == [8]  # the metrics of second 3 were fresh enough at second 5
    world.deployment.replicas = 2
    assert all("old" in turn.refusal for turn in world.run(20))
    assert world.deployment.patches == [8]
    assert turns


def test_after_pods_were_lost_the_count_stays_though_the_policy_sees_less(monkeypatch):
    world = World(monkeypatch, lambda seen: sum(bool(pod.ready) for pod in seen.pods))
    world.controller._limits = LIMITS.model_copy(update={"loss_window_s": 10.0})
    world.deployment.replicas = 4
    world.run(3)
    world.deployment.dead = {"pod-2", "pod-3"}
    turns = world.run(13)
    assert world.deployment.patches == []
    assert "ready pods were lost" in turns[-1].refusal
    assert turns[-1].not_ready == {"pod-2": "its node is gone", "pod-3": "its node is gone"}
    world.run(16)
    assert world.deployment.patches == [2], "it is no accident any more"


def test_a_leader_that_was_stopped_between_its_question_and_its_deed_does_nothing(monkeypatch):
    leads = iter([True, False])  # asked, then stopped for longer than its lease
    world = World(monkeypatch, lambda seen: 5, leads=lambda: next(leads))
    (turn,) = world.run(1)
    assert world.deployment.patches == []
    assert turn.refusal == "the lease ran out before the decision was carried out"


def test_what_holds_is_told_when_it_begins_and_once_a_minute(monkeypatch):
    world = World(monkeypatch, lambda seen: 1)
    world.down = {"pod-1"}
    world.run(70)
    assert [what for what, _ in world.deployment.told] == ["Held", "Held"]


def test_a_server_that_started_again_in_its_pod_goes_on_counting():
    counters = Counters()
    assert counters.go_on("a", (100.0, 2.0, 3.0, 5.0, 1.0, 0.25, 100.0)) == (100.0, 2.0, 3.0, 5.0, 1.0, 0.25, 100.0)
    assert counters.go_on("a", (120.0, 2.5, 3.5, 0.0, 1.5, 0.25, 120.0))[0] == 120.0
    assert counters.go_on("a", (7.0, 0.5, 0.25, 4.0, 0.5, 0.25, 7.0)) == (127.0, 3.0, 3.75, 4.0, 2.0, 0.25, 127.0)
    assert counters.go_on("a", (9.0, 0.5, 0.25, 1.0, 0.5, 0.25, 9.0)) == (129.0, 3.0, 3.75, 1.0, 2.0, 0.25, 129.0)
    assert counters.go_on("b", (7.0, 0.5, 0.25, 4.0, 0.5, 0.25, 7.0))[0] == 7.0


def test_after_a_restart_the_count_that_is_found_is_a_wish(monkeypatch):
    world = World(monkeypatch, lambda seen: 1)
    world.controller._limits = LIMITS.model_copy(update={"down_window_s": 30.0})
    world.deployment.replicas = 6
    world.run(29)
    assert world.deployment.patches == []
    world.run(35)
    assert world.deployment.patches == [1]
