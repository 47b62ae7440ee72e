"""What came of a simulated run under a policy."""

from __future__ import annotations

import pytest

from testbed.autoscaling.policies import Fixed
from testbed.autoscaling.rollout import outcome_of, rollout
from testbed.autoscaling.simulated import PolicyRun
from tests.oracles.cluster_worlds import cluster, flat_profile, simulate


def test_an_outcome_counts_the_requests_the_replicas_and_the_changes() -> None:
    slow = flat_profile([0.5])
    config = cluster(latency_target_s=0.7, pod={"container_start_s": 1.0, "load_s": 1.0})
    run = PolicyRun(simulate(config, [0.0, 0.1, 5.0], slow), {"m": Fixed(2, period_s=1.0)})
    outcome = rollout(run, "m", 10.0)
    assert (outcome.totals.arrived, outcome.totals.ok, outcome.totals.missed) == (3, 3, 1)  # the second waited .4 s
    assert outcome.slo_violation_rate == pytest.approx(1 / 3)
    assert outcome.mean_latency_s == pytest.approx((0.5 + 0.9 + 0.5) / 3)
    assert outcome.latency_s(0.5) == pytest.approx(0.5, rel=0.005)
    assert outcome.changes == 1
    assert outcome.gpu_seconds == pytest.approx(10 + 9, abs=0.1)


def test_without_requests_there_is_no_latency() -> None:
    outcome = rollout(PolicyRun(simulate(cluster()), {}), "m", 5.0)
    assert outcome.latency_s(0.95) is None
    assert outcome.mean_latency_s is None
    assert outcome.slo_violation_rate is None


def test_what_came_between_two_moments() -> None:
    config = cluster(gpus=4, max_replicas=4, replicas=1, latency_target_s=0.7)
    run = PolicyRun(simulate(config, [0.0, 0.1, 5.0, 5.1, 5.2], flat_profile([0.5])), {})
    run.scale("m", 2, "for the test")
    before = rollout(run, "m", 4.0)
    run.scale("m", 4, "for the test")
    run.scale("m", 4, "nothing changes")
    assert outcome_of(run, "m").since(before).replicas_changed == 0  # it counts from now on
    passed = rollout(run, "m", 9.0).since(before)
    assert (passed.totals.arrived, passed.totals.ok) == (3, 3)
    assert passed.histogram.sum() == 3
    assert (passed.changes, passed.replicas_changed) == (1, 2)
    assert passed.gpu_seconds == pytest.approx(4 * 5.0, abs=0.3)
