"""An adapted policy on a simulated service, and where its candidates are judged."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from testbed.adaptation.adapt import first_memory
from testbed.adaptation.adaptive import Adaptive, make_adaptive
from testbed.adaptation.candidate import Finding, deliberate, with_rate
from testbed.adaptation.judge import Background, Inline
from testbed.adaptation.states import ActivePolicy, Promoted, Shadow
from testbed.autoscaling.policies import Fixed
from testbed.autoscaling.policy import Decision
from testbed.autoscaling.simulated import PolicyRun, SimulatedObservation
from testbed.calibration.profile import ServiceProfile
from testbed.errors import ConfigError
from tests.adaptation.drifting import varying_profile, varying_run
from tests.adaptation.story import POLICY, SETTINGS, drifted, small_cluster
from tests.oracles.cluster_worlds import GPU


def made(folder: Path | None, incumbent: Any = POLICY, **settings: Any) -> Adaptive:
    profile = varying_profile()
    config = small_cluster(replicas=2)
    file = (folder or Path()) / "calibrated.json"
    if folder is not None:
        profile.write(file)
    served = config.models[0].model_copy(update={"profiles": {GPU: file}})
    config = config.model_copy(update={"models": (served,)})
    return make_adaptive(incumbent, config, SETTINGS.model_copy(update=settings), folder, Inline(), "KISim")


def played(policy: Adaptive, seconds: float, factor: float) -> PolicyRun:
    """The moody service under a wave, `factor` slower from second 100 on."""
    sim = varying_run(policy.profile, 5)
    run = PolicyRun(sim, {"m": policy})
    run.advance(100.0)
    sim.slow_down("m", factor)
    run.advance(seconds)
    return run


def test_an_adapted_policy_leaves_one_line_a_step_and_a_profile_beside_the_old_one(tmp_path: Path):
    policy = made(tmp_path)
    played(policy, 260.0, 1.4)
    lines = [json.loads(line) for line in (tmp_path / "adaptation.jsonl").read_text().splitlines()]
    assert [one["state"] for one in lines][:2] == ["ALARMED", "RECALIBRATING"]
    assert lines[1]["figures"]["factor"]["value"] == pytest.approx(1.4, rel=0.05)
    new = ServiceProfile.read(tmp_path / lines[1]["figures"]["profile"])
    assert new.provenance["recalibrated"][0]["from"] == "KISim"
    assert ServiceProfile.read(tmp_path / "calibrated.json") == policy.profile


def test_until_something_is_promoted_it_decides_as_its_incumbent_does(tmp_path: Path):
    policy = made(tmp_path)
    adapted = played(policy, 130.0, 1.4)
    plain = PolicyRun(varying_run(policy.profile, 5), {"m": POLICY})
    plain.advance(100.0)
    plain.sim.slow_down("m", 1.4)
    plain.advance(130.0)
    assert adapted.steps == plain.steps
    assert adapted.sim.totals("m") == plain.sim.totals("m")


def test_a_profile_is_never_written_over(tmp_path: Path):
    first = made(tmp_path)
    played(first, 260.0, 1.4)
    file = next(tmp_path.glob("profile-*.json"))
    file.write_text("mine")
    again = made(tmp_path)
    played(again, 260.0, 1.4)
    assert file.read_text() == "mine"
    assert any("exists" in entry.why for entry in again.journal.entries)


def test_a_policy_without_a_number_to_set_right_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="has no replica_capacity_rps"):
        made(tmp_path, Fixed(2))


@dataclass(frozen=True)
class Failing:
    """A candidate that cannot decide."""

    replica_capacity_rps: float = 1.0
    period_s: float = 1.0
    name: str = "failing"

    def decide(self, seen: Any, memory: Any) -> Any:
        raise RuntimeError("no idea")


def test_a_candidate_that_fails_is_given_up_and_the_incumbent_goes_on(tmp_path: Path):
    policy = made(tmp_path)
    memory = first_memory(policy.profile, POLICY, SETTINGS)
    memory = replace(memory, state=Shadow(0.0, ActivePolicy(Failing()), predicted_s=math.nan))
    sim = varying_run(policy.profile, 1)
    sim.advance(20.0)
    decision = policy.decide(SimulatedObservation(sim, "m"), memory)
    assert decision.replicas == POLICY.decide(SimulatedObservation(sim, "m"), None).replicas
    assert decision.memory.state.name == "KEPT"
    assert policy.journal.entries[-1].why == "the candidate fails (RuntimeError: no idea)"


def test_a_predecessor_that_fails_is_told_once_and_the_incumbent_goes_on(tmp_path: Path):
    policy = made(tmp_path)
    memory = first_memory(policy.profile, POLICY, SETTINGS)
    memory = replace(memory, state=Promoted(0.0, ActivePolicy(Failing()), policy.profile, math.nan, math.nan))
    sim = varying_run(policy.profile, 1)
    for _ in range(2):
        sim.advance(sim.now_s + 1.0)
        decision = policy.decide(SimulatedObservation(sim, "m"), memory)
        memory = decision.memory
    assert decision.replicas == POLICY.decide(SimulatedObservation(sim, "m"), None).replicas
    assert memory.state.name == "PROMOTED"
    assert [entry.why for entry in policy.journal.entries] == ["the predecessor fails (RuntimeError: no idea)"]


@dataclass(frozen=True)
class Counting:
    """Asks for nine, and remembers how often it was asked."""

    replica_capacity_rps: float = 1.0
    period_s: float = 1.0
    name: str = "counting"

    def decide(self, seen: Any, memory: int | None) -> Decision:
        return Decision(9, (memory or 0) + 1, "")


@pytest.mark.parametrize("role", ["candidate", "predecessor"])
def test_who_decides_beside_the_incumbent_remembers_and_is_not_heard(tmp_path: Path, role: str):
    policy = made(tmp_path)
    beside = {
        "candidate": Shadow(20.0, ActivePolicy(Counting()), predicted_s=math.nan),
        "predecessor": Promoted(20.0, ActivePolicy(Counting()), policy.profile, math.nan, math.nan),
    }
    memory = replace(first_memory(policy.profile, POLICY, SETTINGS), state=beside[role])
    sim = varying_run(policy.profile, 1)
    sim.advance(20.0)
    replicas = []
    for _ in range(2):
        decision = policy.decide(SimulatedObservation(sim, "m"), memory)
        memory = decision.memory
        replicas.append(decision.replicas)
    assert getattr(memory.state, role) == ActivePolicy(Counting(), 2)
    assert max(replicas) <= 4
    if role == "candidate":
        assert memory.state.differences == tuple(9 - replica for replica in replicas)


@pytest.mark.timeout(600)
def test_both_benches_come_to_the_same_verdict(tmp_path: Path):
    """The one of a controller thinks in a process of its own."""
    story = drifted()
    work = partial(deliberate, story.tasks[0]._replace(cluster=made(tmp_path).setting.cluster))
    inline, background = Inline(), Background()
    inline.submit(work)
    background.submit(work)
    try:
        end = monotonic() + 500
        while (found := background.answer()) is None and monotonic() < end:
            sleep(0.05)
    finally:
        background.close()
    assert isinstance(found, Finding)
    assert found == inline.answer()
    assert inline.answer() is None
    assert not math.isnan(found.verdict.gain)


def test_the_background_tells_what_went_wrong():
    background = Background()
    story = drifted()
    background.submit(partial(deliberate, story.tasks[0]._replace(rates=())))
    while (found := background.answer()) is None:
        sleep(0.05)
    assert "no arrivals" in str(found)


def test_the_background_ends_what_it_thinks_when_it_is_closed():
    background = Background()
    background.submit(partial(sleep, 60.0))
    (thinking,) = multiprocessing.active_children()
    assert background.answer() is None
    background.close()
    assert not thinking.is_alive()
    background.submit(partial(os._exit, 1))
    while (found := background.answer()) is None:
        sleep(0.05)
    assert "ended without an answer" in str(found)


def test_replaced_policies_keep_everything_else():
    assert with_rate(POLICY, 120.0) == replace(POLICY, replica_capacity_rps=120.0)
