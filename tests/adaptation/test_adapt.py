"""The states of an adaptation as stories, with a clock of their own; and on a simulated service."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from testbed.adaptation.adapt import AdaptSettings, Memory, Setting, first_memory, step
from testbed.adaptation.adaptive import Adaptive, make_adaptive
from testbed.adaptation.candidate import Finding, deliberate, per_replica_of, with_rate
from testbed.adaptation.drift import DriftSettings
from testbed.adaptation.journal import Entry
from testbed.adaptation.judge import Background, Costs, Inline, JudgeSettings, Verdict
from testbed.adaptation.recalibrate import Serves
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policies import Fixed, Predictive
from testbed.autoscaling.simulated import PolicyRun, SimulatedObservation
from testbed.calibration.profile import ServiceProfile
from testbed.errors import ConfigError
from testbed.simulation.cluster.config import ClusterConfig
from tests.adaptation.drifting import moody_profile, moody_run
from tests.oracles.cluster_worlds import GPU, cluster

SETTINGS = AdaptSettings(
    drift=DriftSettings(level_windows=4),
    judge=JudgeSettings(worlds=5, duration_s=60.0),
    shadow_s=20.0,
    probation_s=40.0,
    cooldown_s=30.0,
    hold_s=100.0,
)
POLICY = Predictive(per_replica_rps=200.0, ahead_s=3.0, max_replicas=4)


def world(**model: Any) -> ClusterConfig:
    return cluster(gpus=4, max_replicas=4, max_batch_size=8, latency_target_s=0.03, balancer="random", **model)


def finding(confidence: float = 1.0, latency_s: float = 0.01) -> Finding:
    outcome = Costs(0.01, 0.5, latency_s, 0.6)
    serves = Serves(120.0, "told")
    verdict = Verdict(outcome, outcome, 0.1, confidence)
    return Finding(with_rate(POLICY, 120.0), "per_replica_rps 200 -> 120", serves, verdict, {"another": 0.05})


@dataclass
class Story:
    """Windows of 5 s, one after the other. slowness: factor on batch times; sojourn_s: of requests in their server."""

    settings: AdaptSettings = SETTINGS
    now_s: float = 0.0
    slowness: float = 1.0
    sojourn_s: float = 0.01
    answer: Any = None
    answered: bool = True  # does the service answer anything?
    scraped: bool = True  # are there windows at all?
    entries: list[Entry] = field(default_factory=list)
    tasks: list[Any] = field(default_factory=list)
    written: list[tuple[Path, ServiceProfile]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.profile = moody_profile()
        self.setting = Setting(world(), self.settings, Path("folder"), "a story")
        self.memory: Memory = first_memory(self.profile, POLICY, self.settings)

    def go(self, windows: int) -> list[str]:
        """So many windows; the states that were entered."""
        before = len(self.entries)
        for _ in range(windows):
            self.now_s += 5.0
            window = self._window() if self.scraped else None
            done = step(self.memory, self.now_s, 2, window, self.answer, self.setting)
            assert done == step(self.memory, self.now_s, 2, window, self.answer, self.setting)  # it is pure
            self.memory = done.memory
            self.entries += done.entries
            self.tasks += [] if done.task is None else [done.task]
            self.written += [] if done.write is None else [done.write]
        return [one.state for one in self.entries[before:]]

    def _window(self) -> Window:
        one, batches, size = np.ones(1), 500.0 * self.answered, 2.0
        mean_s = self.slowness * self.profile.service_time.mean_s[1]
        requests = batches * size
        return Window(
            start_s=self.now_s - 5.0,
            end_s=self.now_s,
            pods=("a",),
            requests=requests * one,
            queue_s=one,
            waiting=0 * one,
            in_flight=requests / 5.0 * self.sojourn_s * one,
            utilisation=one,
            cpu_cores=one,
            batches=batches * one,
            batch_s=batches * mean_s * one,
        )


def drifted(**settings: Any) -> Story:
    """A story up to the moment when candidates are thought over: batches 1.4 times as long from second 50 on."""
    story = Story(SETTINGS.model_copy(update=settings))
    assert story.go(10) == []
    story.slowness = 1.4
    assert story.go(20)[:2] == ["ALARMED", "RECALIBRATING"]
    return story


def test_found_recalibrated_judged_shadowed_promoted_and_passed():
    story = drifted()
    assert story.entries[0].time_s == 65.0
    assert 50.0 <= story.entries[0].figures["change_s"] <= 50.0
    factor = story.entries[1].figures["factor"]
    assert factor["value"] == pytest.approx(1.4, rel=0.001)
    assert factor["since_s"] >= 55.0
    (task,), ((file, profile),) = story.tasks, story.written
    assert profile == task.new == story.memory.profile
    assert file == task.new_file
    assert task.old == story.profile
    assert task.rates[-1] == pytest.approx(200.0)
    story.answer = finding()
    assert story.go(1) == ["SHADOW"]
    assert story.memory.incumbent.policy == POLICY
    assert story.go(4) == ["PROMOTED"]
    assert per_replica_of(story.memory.incumbent.policy) == 120.0
    assert story.memory.predecessor is not None
    assert story.go(8) == ["WATCHING"]
    assert story.memory.predecessor is None
    assert story.go(50) == []  # the new profile holds


def test_a_candidate_that_is_not_better_is_kept_out_and_judged_again_later():
    story = drifted()
    story.answer = finding(confidence=0.96)  # of the second of two candidates .992 is needed
    assert story.go(1) == ["KEPT"]
    assert story.memory.incumbent.policy == POLICY
    story.answer = None
    assert story.go(20) == ["RECALIBRATING"]  # hold_s later: what is believed is not what the incumbent is fitted to
    assert story.tasks[-1].old == story.profile
    story.answer = finding()
    assert story.go(1) == ["SHADOW"]


def test_who_gets_slower_than_before_and_than_predicted_is_undone():
    story = drifted()
    story.answer = finding()
    story.go(5)
    assert story.memory.state == "PROMOTED"
    story.sojourn_s = 0.05
    assert story.go(8) == ["KEPT"]
    assert "rolled back: requests take 50.0 ms" in story.entries[-1].why
    assert story.memory.incumbent.policy == POLICY
    assert story.memory.profile == story.written[0][1]  # batches do take that long
    story.answer = None
    assert story.go(19) == []


@pytest.mark.parametrize("unknown", ["answered", "scraped"])
def test_a_probation_in_which_nobody_knows_how_long_requests_take_is_prolonged_and_then_undone(unknown: str):
    story = drifted()
    story.answer = finding()
    story.go(5)
    setattr(story, unknown, False)
    assert story.go(8) == ["PROMOTED"]
    assert story.entries[-1].why == "nothing was answered in the last 20 s: the probation goes on, for 40 s at most"
    assert story.go(7) == []
    assert story.go(1) == ["KEPT"]
    assert "rolled back: nothing was answered in the last 20 s" in story.entries[-1].why
    assert story.memory.incumbent.policy == POLICY


def test_a_prolonged_probation_is_passed_as_soon_as_requests_are_answered_in_time():
    story = drifted()
    story.answer = finding()
    story.go(5)
    story.answered = False
    assert story.go(9) == ["PROMOTED"]
    story.answered = True
    assert story.go(1) == ["WATCHING"]
    assert story.memory.waits == ""
    assert per_replica_of(story.memory.incumbent.policy) == 120.0


def test_a_promotion_with_nothing_to_compare_with_is_undone_too():
    story = drifted()
    story.answer = finding(latency_s=math.nan)
    story.answered = False  # while the candidate waits
    story.go(5)
    assert math.isnan(story.memory.slow_before)
    story.answered = True
    assert story.go(16) == ["PROMOTED", "KEPT"]
    assert "neither what it was before nor what was predicted is known" in story.entries[-1].why


def test_a_change_that_passes_in_the_probation_brings_the_old_profile_back():
    story = drifted(probation_s=200.0)
    story.answer = finding()
    story.go(5)
    story.slowness = 1.0
    assert story.go(10) == ["KEPT"]
    assert "changed again" in story.entries[-1].why
    assert story.memory.incumbent.policy == POLICY
    assert story.memory.profile == story.memory.fitted == story.profile
    story.answer = None
    assert story.go(60) == ["WATCHING"]


def test_a_change_that_has_passed_before_it_was_measured_is_no_reason_to_act():
    story = Story()
    story.go(10)
    story.slowness = 1.4
    assert story.go(3) == ["ALARMED"]
    story.slowness = 1.0
    assert story.go(20) == ["KEPT"]
    assert story.memory.profile == story.profile


def test_a_factor_out_of_bounds_changes_nothing():
    story = Story()
    story.go(10)
    story.slowness = 2.7
    assert story.go(20) == ["ALARMED", "KEPT"]
    assert "calibrate it anew" in story.entries[-1].why
    assert story.memory.profile == story.profile
    assert story.written == []


def test_promotions_have_a_limit_in_an_hour_and_the_wait_is_told_once():
    story = Story(SETTINGS.model_copy(update={"promotions_per_hour": 1}))
    story.memory = story.memory._replace(promotions=(0.0,))
    story.go(10)
    story.slowness = 1.4
    assert story.go(600) == ["ALARMED", "ALARMED"]
    assert story.entries[-1].why == "promotions_per_hour (1) is reached"
    assert story.go(120) == ["RECALIBRATING"]


def test_a_bench_that_never_answers_is_not_waited_for():
    story = drifted(thinking_s=50.0)
    assert story.go(10) == ["KEPT"]
    assert "no verdict after 50 s" in story.entries[-1].why


def test_what_goes_wrong_on_the_bench_is_a_reason_to_keep():
    story = drifted()
    story.answer = ConfigError("no such folder")
    assert story.go(1) == ["KEPT"]
    assert story.entries[-1].why == "no such folder"


def test_windows_without_metrics_change_nothing():
    story = Story()
    story.go(10)
    done = step(story.memory, 60.0, 2, None, None, story.setting)
    assert done.memory == story.memory
    assert done.entries == ()


# On a simulated service.


def made(folder: Path | None, incumbent: Any = POLICY, **settings: Any) -> Adaptive:
    profile = moody_profile()
    config = world(replicas=2)
    file = (folder or Path()) / "calibrated.json"
    if folder is not None:
        profile.write(file)
    served = config.models[0].model_copy(update={"profiles": {GPU: file}})
    config = config.model_copy(update={"models": (served,)})
    return make_adaptive(incumbent, config, SETTINGS.model_copy(update=settings), folder, Inline(), "KISim")


def played(policy: Adaptive, seconds: float, factor: float) -> PolicyRun:
    """The moody service under a wave, `factor` slower from second 100 on."""
    sim = moody_run(policy.profile, 5)
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
    plain = PolicyRun(moody_run(policy.profile, 5), {"m": POLICY})
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
    assert any("exists" in one.why for one in again.journal.entries)


def test_a_policy_without_a_number_to_set_right_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="has no per_replica_rps"):
        made(tmp_path, Fixed(2))


@dataclass(frozen=True)
class Failing:
    """A candidate that cannot decide."""

    per_replica_rps: float = 1.0
    period_s: float = 1.0
    name: str = "failing"

    def decide(self, seen: Any, memory: Any) -> Any:
        raise RuntimeError("no idea")


def test_a_candidate_that_fails_is_given_up_and_the_incumbent_goes_on(tmp_path: Path):
    policy = made(tmp_path)
    memory = first_memory(policy.profile, POLICY, SETTINGS)
    memory = memory._replace(state="SHADOW", since_s=0.0, candidate=memory.incumbent._replace(policy=Failing()))
    sim = moody_run(policy.profile, 1)
    sim.advance(20.0)
    decision = policy.decide(SimulatedObservation(sim, "m"), memory)
    assert decision.replicas == POLICY.decide(SimulatedObservation(sim, "m"), None).replicas
    assert decision.memory.state == "KEPT"
    assert policy.journal.entries[-1].why == "the candidate fails (RuntimeError: no idea)"


def test_a_predecessor_that_fails_is_told_once_and_the_incumbent_goes_on(tmp_path: Path):
    policy = made(tmp_path)
    memory = first_memory(policy.profile, POLICY, SETTINGS)
    memory = memory._replace(state="PROMOTED", since_s=0.0, predecessor=memory.incumbent._replace(policy=Failing()))
    sim = moody_run(policy.profile, 1)
    for _ in range(2):
        sim.advance(sim.now_s + 1.0)
        decision = policy.decide(SimulatedObservation(sim, "m"), memory)
        memory = decision.memory
    assert decision.replicas == POLICY.decide(SimulatedObservation(sim, "m"), None).replicas
    assert memory.state == "PROMOTED"
    assert [one.why for one in policy.journal.entries] == ["the predecessor fails (RuntimeError: no idea)"]


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
    assert with_rate(POLICY, 120.0) == replace(POLICY, per_replica_rps=120.0)


def test_what_may_go_wrong_is_shared_among_all_that_are_set_against_an_incumbent() -> None:
    """Each candidate is another chance: twenty useless ones at 5 % each would let one in more often than not."""
    judge = JudgeSettings(confidence=0.95)
    spent = [1 - judge.needed(test) for test in range(1, 2000)]
    assert spent == sorted(spent, reverse=True)
    assert 0.0499 < sum(spent) < 0.05
    wrong = np.random.default_rng(1).uniform(size=(4000, 20)) < spent[:20]  # of candidates that are no better
    assert wrong.any(axis=1).mean() < 0.055


def test_the_candidates_of_an_incumbent_are_counted_until_another_one_takes_over() -> None:
    story = drifted()
    story.answer = finding(confidence=0.96)
    assert story.go(1) == ["KEPT"]
    assert story.memory.tests == 2  # it was the better of two
    figures = story.entries[-1].figures
    assert (figures["tests"], figures["confidence_needed"]) == (2, pytest.approx(1 - 0.05 * 6 / (2 * np.pi) ** 2))
    story.memory = story.memory._replace(state="RECALIBRATING", tests=0)
    story.answer = finding(confidence=0.999)
    assert story.go(1) == ["SHADOW"]
    assert story.go(4) == ["PROMOTED"]
    assert story.memory.tests == 0
