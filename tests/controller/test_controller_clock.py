"""The machine's clock is set back an hour while a controller, or the adapter, runs: both go on as if nothing was."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from testbed.adapter.followed import Followed, FollowedDeployments
from testbed.autoscaling.live.scraper import PodScraper, steady_clock
from testbed.controller import run
from testbed.controller.config import ControllerConfig
from testbed.controller.guard import Limits
from testbed.controller.loop import Controller, Turn
from testbed.controller.run import run_controller
from testbed.measurement import triton_metrics
from tests.controller.test_controller_loop import Answers, Deployment, statistics_of

HOUR_S = 3600.0


class Machine:
    """Its two clocks; the one for people can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_s, self.monotonic_s = 1_700_000_000.0, 50.0
        monkeypatch.setattr(time, "time", lambda: self.wall_s)
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic_s)

    def second(self) -> None:
        self.wall_s += 1.0
        self.monotonic_s += 1.0


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_metrics, "_get", lambda url, *_: statistics_of(url, 100))


def test_a_steady_clock_begins_at_the_time_of_day_and_only_goes_on(monkeypatch):
    machine = Machine(monkeypatch)
    clock = steady_clock()
    assert clock() == 1_700_000_000.0
    machine.wall_s -= HOUR_S
    machine.second()
    assert clock() == 1_700_000_001.0


def test_a_controller_whose_clock_is_set_back_decides_at_its_pace_on_whole_windows(monkeypatch, triton):
    machine, windows = Machine(monkeypatch), list[Any]()
    policy = Answers(lambda seen: windows.append(seen.window(2.0, 0.0)) or 2)
    controller = Controller(Deployment(), PodScraper("m"), policy, Limits(max_replicas=10))
    turns = list[Turn]()
    for second in range(12):
        if second == 6:
            machine.wall_s -= HOUR_S
        found = controller.turn()
        turns += [] if found is None else [found]
        machine.second()
    assert [turn.time_s - 1_700_000_000.0 for turn in turns] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert [window.seconds for window in windows[1:]] == [2.0] * 5
    assert not any(turn.refusal for turn in turns)


def test_kis_controller_has_such_a_clock(monkeypatch, triton):
    """The whole of it, on a machine whose clock goes back with every look at it."""
    walls = iter(range(2_000_000_000, 0, -int(HOUR_S)))
    monkeypatch.setattr(run, "api_client", lambda kubeconfig: None)
    monkeypatch.setattr(run, "KubernetesDeployment", lambda *_: Deployment())
    monkeypatch.setattr(time, "time", lambda: float(next(walls)))
    turns, stop, enough = list[Turn](), threading.Event(), threading.Event()

    def note(turn: Turn) -> None:
        turns.append(turn)
        if len(turns) == 3:
            enough.set()
            stop.set()

    settings = {"kind": "fixed", "replicas": 2, "period_s": 0.01}
    config = ControllerConfig(
        deployment="web", model="m", policy=settings, limits=Limits(max_replicas=3), scrape_period_s=0.01
    )
    controlling = threading.Thread(
        target=run_controller, args=(config,), kwargs={"kubeconfig": None, "once": False, "stop": stop, "on_turn": note}
    )
    controlling.start()
    try:
        assert enough.wait(30), f"only {len(turns)} decisions"
    finally:
        stop.set()
        controlling.join()
    assert turns[0].time_s < turns[1].time_s < turns[2].time_s


def test_an_adapter_whose_clock_is_set_back_goes_on_with_what_it_measured(monkeypatch, triton):
    machine = Machine(monkeypatch)
    followed = Followed(Deployment(), PodScraper("m"), {"deployment": "web"}, window_s=2.0, stale_s=5.0)
    source = FollowedDeployments({"here": [followed]}, 1.0)
    for _ in range(4):
        followed.turn()
        machine.second()
    machine.wall_s -= HOUR_S
    followed.turn()
    (value,) = source.of_deployments("here", "requests_per_second")
    assert value.time_s == 1_700_000_004.0
    machine.monotonic_s += 6.0
    assert source.of_deployments("here", "requests_per_second") == []  # it has grown old
