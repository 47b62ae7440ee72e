"""When a simulated request misses: at its deadline, answered or not; and everybody counts the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.measurement.misses import slo_violation_rate
from testbed.simulation.cluster.records import request_log
from tests.oracles.cluster_worlds import cluster, flat_profile, simulate

SECOND = flat_profile([1.0])  # a batch of one takes a second, the target is .1 s


def test_a_request_misses_at_its_deadline_though_nothing_has_been_answered() -> None:
    sim = simulate(cluster(), [0.0, 0.05, 0.5], SECOND)
    sim.advance(0.09)
    before = sim.totals("m")
    assert (before.missed, before.decided, before.waiting) == (0, 0, 2)
    sim.advance(0.12)
    assert sim.totals("m").missed == sim.totals("m").decided == 1
    sim.advance(0.58)  # the third has .02 s left
    now = sim.totals("m")
    assert (now.ok, now.missed, now.decided, now.waiting) == (0, 2, 2, 3)
    assert slo_violation_rate(now.missed, now.decided) == 1.0  # a run in which nothing ends is all missed


def test_an_answer_after_the_deadline_does_not_count_again() -> None:
    sim = simulate(cluster(), [0.0, 0.05, 0.5], SECOND)
    sim.advance(10.0)
    told = sim.totals("m")
    assert (told.ok, told.missed, told.decided, told.waiting) == (3, 3, 3, 0)


def test_given_up_and_tried_again_is_one_request() -> None:
    client = {"timeout_s": 0.3, "retries": 2, "backoff_s": 0.05}
    sim = simulate(cluster(client=client), [0.0, 0.01], SECOND)
    counts = []
    for until_s in np.arange(0.05, 4.0, 0.05):
        sim.advance(float(until_s))
        counts.append((sim.totals("m").missed, sim.totals("m").decided))
    assert counts[-1] == (2, 2)
    assert counts == sorted(counts)


def test_nothing_sent_is_no_share() -> None:
    assert slo_violation_rate(0, 0) is None
    assert slo_violation_rate(3, 4) == 0.75


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(50, 400), st.sampled_from([0.0, 0.15]))
def test_the_counts_are_those_of_the_requests_one_by_one(seed: int, rate_rps: float, timeout_s: float) -> None:
    """Totals and RequestLog.missed say the same of the same run, overloaded or not, at any moment."""
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0, 2, int(2 * rate_rps)))
    config = cluster(gpus=1, replicas=1, client={"timeout_s": timeout_s})
    sim = simulate(config, arrivals, flat_profile([0.005]), seed=seed)
    before = (0, 0)
    for until_s in (0.3, 1.1, 2.0, 2.05):
        sim.advance(until_s)
        told, log = sim.totals("m"), request_log(sim, {})
        missed = log.missed(0.1)
        assert (told.missed, told.decided) == (int(missed.sum()), len(log))
        assert (told.missed, told.decided) >= before
        before = (told.missed, told.decided)


def test_what_waits_at_the_end_is_in_the_log() -> None:
    sim = simulate(cluster(), [0.0, 0.05], SECOND)
    sim.advance(0.5)
    log = request_log(sim, {})
    assert log.counts()["timeout"] == 2
    assert set(log.frame["detail"]) == {"it waits at the end"}
    assert log.frame["completed_ns"].isna().all()
    assert log.missed(0.1).all()


def test_a_client_with_too_much_under_way_drops_the_next() -> None:
    config = cluster(gpus=1, client={"max_in_flight": 3, "timeout_s": 1.45})
    sim = simulate(config, [0.0, 0.1, 0.2, 0.3, 1.6], SECOND)
    sim.advance(5.0)
    told = sim.totals("m")
    # The fourth is dropped. At 1.6 the first is answered and the second is given up: there is room for the fifth.
    assert (told.ok, told.timeout, told.dropped, told.waiting) == (1, 3, 1, 0)
    log = request_log(sim, {})
    assert log.frame["status"].tolist() == ["ok", "timeout", "timeout", "dropped", "timeout"]
    assert log.frame["sent_ns"].isna().tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("rate_rps", [400.0, 1600.0])
def test_the_rate_at_a_node_is_the_arrivals_over_what_they_were_counted_in(rate_rps: float) -> None:
    """Overheads are looked up at that rate: the mean of a table that is a straight line tells which one it was."""
    profile = flat_profile([0.0001])
    (level,) = profile.overhead.levels
    rates = (100.0, 3100.0)
    levels = tuple(
        level.model_copy(update={"rate_rps": rate, "ingress_delay_quantiles_s": (rate / 1e6,) * 2}) for rate in rates
    )
    profile = profile.model_copy(update={"overhead": profile.overhead.model_copy(update={"levels": levels})})
    sim = simulate(cluster(gpus=1), np.arange(0, 20, 1 / rate_rps), profile)
    sim.advance(30.0)
    rows = sim.all_rows()
    late = rows[rows["scheduled_ns"] > 1e9]
    found = 1e6 * np.mean(late["start_ns"] - late["scheduled_ns"]) / 1e9
    assert found == pytest.approx(rate_rps, rel=0.01)
