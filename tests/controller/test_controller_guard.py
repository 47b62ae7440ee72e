"""The guard fails static, keeps its bounds and its pace; never down on what is not known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from testbed.controller.guard import DesiredCount, GuardInput, Limits, ReadyPods, count_crew, guarded

LIMITS = Limits(min_replicas=2, max_replicas=10, stale_s=15.0)
FRESH = GuardInput(now_s=100.0, spec_replicas=4, ready=4, scraped=4, metrics_s=99.0)


@pytest.mark.parametrize(
    ("wanted", "known", "replicas", "held"),
    [
        (6.0, FRESH, 6, ""),
        (4.0, FRESH, None, ""),
        (3.2, FRESH, None, ""),  # a part of a replica is a replica
        (3.0, FRESH, 3, ""),
        (30.0, FRESH, 10, "out of 2..10"),
        (0.0, FRESH, 2, "out of 2..10"),
        (None, FRESH, None, "policy failed"),
        (math.nan, FRESH, None, "answered nan"),
        (math.inf, FRESH, None, "answered inf"),
        (-1.0, FRESH, None, "answered -1"),
        (3.0, FRESH._replace(metrics_s=80.0), None, "20.0 s old"),
        (9.0, FRESH._replace(metrics_s=80.0), None, "20.0 s old"),
        (3.0, FRESH._replace(metrics_s=None), None, "no metrics"),
        (3.0, FRESH._replace(metrics_s=85.0), 3, ""),  # not older than that
        (3.0, FRESH._replace(scraped=3), None, "1 of 4 ready pods told nothing"),
        (4.0, FRESH._replace(scraped=3), None, ""),  # no step, so nothing is held
        (6.0, FRESH._replace(scraped=3), 6, ""),
        (3.0, FRESH._replace(lost_s=41.0), None, "ready pods were lost 59 s ago"),
        (6.0, FRESH._replace(lost_s=99.0), 6, ""),
        (4.0, FRESH._replace(lost_s=99.0), None, ""),
        (3.0, FRESH._replace(lost_s=40.0), 3, ""),
        (3.0, FRESH._replace(ready=0, scraped=0), None, "no pod is ready"),
        (4.0, FRESH._replace(ready=0, scraped=0), None, "no pod is ready"),
        (5.0, FRESH._replace(ready=0, scraped=0, metrics_s=None), 5, ""),
        (6.0, FRESH._replace(ready=0, scraped=0, metrics_s=None), 6, ""),
        (None, FRESH._replace(spec_replicas=1), 2, "policy failed"),  # below the least is never right
        (2.0, FRESH._replace(spec_replicas=1, ready=1, scraped=0, metrics_s=None), 2, "no metrics yet"),  # bounds
        (2.0, FRESH._replace(spec_replicas=3, ready=2, scraped=2), 2, ""),  # one pod is pending, and is given up
    ],
)
def test_what_is_patched_and_what_is_held(wanted, known, replicas, held):
    verdict = guarded(wanted, known, (), LIMITS)
    assert verdict.replicas == replicas
    assert held in verdict.refusal
    assert bool(held) == bool(verdict.refusal)


def test_steps_have_a_largest_size():
    limits = LIMITS.model_copy(update={"step_up": 2, "step_down": 1})
    assert guarded(9.0, FRESH, (), limits).replicas == 6
    assert guarded(2.0, FRESH, (), limits).replicas == 3


def test_smaller_steps_are_taken_as_they_are():
    limits = LIMITS.model_copy(update={"step_up": 2, "step_down": 2})
    for wanted in (2.0, 3.0, 5.0, 6.0):
        assert guarded(wanted, FRESH, (), limits)[:2] == (wanted, "")


def test_down_only_to_the_largest_wish_of_the_window():
    limits = LIMITS.model_copy(update={"down_window_s": 60.0})
    first = guarded(4.0, FRESH, (), limits)
    soon = guarded(2.0, FRESH._replace(now_s=130.0, metrics_s=130.0), first.history, limits)
    assert soon.replicas is None
    assert "wanted within the last 60 s" in soon.refusal
    later = guarded(2.0, FRESH._replace(now_s=160.0, metrics_s=160.0), soon.history, limits)
    assert later.replicas == 2  # a wish of exactly a window ago is over


def test_pods_that_go_on_their_own_are_lost_and_those_of_a_smaller_count_are_not():
    looks = [  # now, count, ready -> when pods were lost last
        (0.0, 4, 4, None),
        (1.0, 6, 4, None),  # more are asked for: two start
        (1.5, 6, 4, None),
        (2.0, 6, 6, None),
        (3.0, 5, 5, None),
        (4.0, 5, 3, 4.0),  # a node is gone
        (5.0, 5, 3, 4.0),
        (6.0, 5, 5, 4.0),  # replaced
        (7.0, 5, 4, 7.0),
        (8.0, 5, 7, 7.0),  # a rolling update has one more for a while
        (9.0, 5, 5, 7.0),
    ]
    crew: ReadyPods | None = None
    for now_s, count, ready, lost_s in looks:
        crew = count_crew(crew, now_s, count, ready)
        assert crew.lost_s == lost_s, now_s


def test_a_controller_that_starts_and_finds_pods_missing_counts_them_as_lost():
    assert count_crew(None, 3.0, 4, 2).lost_s == 3.0


@given(
    wanted=st.none() | st.floats(),
    now_s=st.floats(0, 1e6),
    spec=st.integers(0, 20),
    ready=st.integers(0, 20),
    missing=st.integers(0, 20),
    metrics_delay_s=st.none() | st.floats(0, 100),
    wishes=st.lists(st.builds(DesiredCount, st.floats(0, 1e6), st.integers(2, 10)), max_size=5).map(tuple),
    step_down=st.none() | st.integers(1, 3),
)
def test_never_out_of_bounds_and_never_down_blind(
    wanted, now_s, spec, ready, missing, metrics_delay_s, wishes, step_down
):
    limits = LIMITS.model_copy(update={"step_down": step_down, "down_window_s": 30.0})
    known = GuardInput(
        now_s, spec, ready, max(0, ready - missing), None if metrics_delay_s is None else now_s - metrics_delay_s
    )
    replicas = guarded(wanted, known, wishes, limits).replicas
    if replicas is None:
        return
    assert replicas != spec
    if replicas < spec:
        assert ready > 0
        assert known.scraped == ready
        assert metrics_delay_s is not None
        assert metrics_delay_s <= limits.stale_s + 1e-6
        assert wanted is not None
        assert replicas >= min(wanted, limits.min_replicas)
        assert step_down is None or replicas >= spec - step_down
        assert replicas >= limits.min_replicas
    else:
        assert replicas <= limits.max_replicas


def test_limits_have_defaults_and_ranges():
    chosen = Limits(max_replicas=1)
    assert (chosen.min_replicas, chosen.step_up, chosen.step_down) == (1, None, None)
    assert (chosen.down_window_s, chosen.stale_s, chosen.loss_window_s) == (0.0, 15.0, 60.0)
    Limits(min_replicas=0, max_replicas=3, step_up=1, step_down=1, down_window_s=0, stale_s=0.5, loss_window_s=0)
    low = {"min_replicas": -1, "max_replicas": 0, "step_up": 0, "step_down": 0}
    low |= {"down_window_s": -0.5, "stale_s": 0, "loss_window_s": -0.5}
    for name, value in low.items():
        with pytest.raises(ValidationError, match=name):
            Limits.model_validate({"min_replicas": 0, "max_replicas": 3, name: value})


def test_limits_that_contradict_each_other_are_refused():
    assert Limits(min_replicas=2, max_replicas=2).max_replicas == 2
    with pytest.raises(ValidationError, match="is above max_replicas"):
        Limits(min_replicas=5, max_replicas=2)
