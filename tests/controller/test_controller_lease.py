"""Who acts: one at a time, and another only when the first has been silent for the whole lease."""

from __future__ import annotations

from testbed.controller.election import LeaseRecord, Watcher, move


def test_nobodys_lease_is_taken_and_ones_own_renewed():
    nothing = Watcher(None, 0.0)
    assert move(nothing, None, "a", 0.0, 6.0)[0] == "take"
    assert move(nothing, LeaseRecord("", "7"), "a", 0.0, 6.0)[0] == "take"
    assert move(nothing, LeaseRecord("a", "7"), "a", 100.0, 6.0)[0] == "renew"


def test_anothers_is_taken_when_it_has_not_changed_for_its_duration_on_our_clock():
    step, watcher = move(Watcher(None, 0.0), LeaseRecord("b", "1"), "a", 50.0, 6.0)
    assert step == "wait"
    step, watcher = move(watcher, LeaseRecord("b", "1"), "a", 55.9, 6.0)
    assert step == "wait"
    step, watcher = move(watcher, LeaseRecord("b", "2"), "a", 55.95, 6.0)  # renewed in time
    assert step == "wait"
    step, watcher = move(watcher, LeaseRecord("b", "2"), "a", 61.9, 6.0)
    assert step == "wait"
    assert move(watcher, LeaseRecord("b", "2"), "a", 61.95, 6.0)[0] == "take"
