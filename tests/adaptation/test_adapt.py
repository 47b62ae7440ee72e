"""The states of an adaptation as stories, with a clock of their own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from testbed.adaptation.adapt import step
from testbed.adaptation.candidate import per_replica_of, with_rate
from testbed.adaptation.settings import JudgeSettings
from testbed.adaptation.states import ActivePolicy, Promoted, Recalibrating, Shadow, Watching
from testbed.autoscaling.policies import Fixed
from testbed.autoscaling.policy import Policy
from testbed.errors import ConfigError
from tests.adaptation.story import POLICY, SETTINGS, Story, drifted, finding


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
    assert isinstance(story.state, Promoted)
    assert story.state.predecessor.policy == POLICY
    assert story.go(8) == ["WATCHING"]
    assert story.memory.fitted is story.memory.profile
    assert story.go(50) == []  # the new profile holds


@pytest.mark.parametrize(("candidate", "remembers"), [(with_rate(POLICY, 120.0), "what it saw"), (Fixed(3), None)])
def test_a_candidate_of_the_incumbents_kind_goes_on_with_what_that_remembers(candidate: Policy, remembers: str | None):
    story = drifted()
    story.memory = replace(story.memory, incumbent=ActivePolicy(POLICY, "what it saw"))
    story.answer = finding()._replace(candidate=candidate)
    assert story.go(1) == ["SHADOW"]
    assert isinstance(story.state, Shadow)
    assert story.state.candidate == ActivePolicy(candidate, remembers)


def test_after_a_passed_probation_nothing_is_begun_for_a_while():
    story = drifted(cooldown_s=500.0)
    story.answer = finding()
    story.go(13)
    assert story.state == Watching()
    story.slowness = 1.0
    assert story.go(20) == ["ALARMED", "ALARMED"]
    assert story.entries[-1].why == "the last adaptation was too short a time ago"
    story.answer = None
    assert story.go(100) == ["RECALIBRATING"]


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
    assert isinstance(story.state, Promoted)
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
    assert story.state == Watching()
    assert per_replica_of(story.memory.incumbent.policy) == 120.0


def test_a_promotion_with_nothing_to_compare_with_is_undone_too():
    story = drifted()
    story.answer = finding(latency_s=math.nan)
    story.answered = False  # while the candidate waits
    story.go(5)
    assert isinstance(story.state, Promoted)
    assert math.isnan(story.state.before_s)
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
    story.memory = replace(story.memory, promotions=(0.0,))
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
    story.memory = replace(story.memory, state=Recalibrating(story.now_s), tests=0)
    story.answer = finding(confidence=0.999)
    assert story.go(1) == ["SHADOW"]
    assert story.go(4) == ["PROMOTED"]
    assert story.memory.tests == 0
