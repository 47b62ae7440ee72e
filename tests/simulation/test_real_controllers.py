"""What makes a real scaler see, and a real pod start, otherwise than on paper; each found in runs on real pods."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from testbed.autoscaling.simulated import SimulatedObservation
from tests.oracles.cluster_worlds import cluster, flat_profile, simulate

STEADY = np.arange(0, 60, 0.01)


def test_a_pod_that_is_being_deleted_is_scraped_no_more() -> None:
    """A real scraper asks ready pods only: what the others did in a window is not in it any more."""
    config = cluster(replicas=3, max_replicas=4, pod={"pre_stop_s": 10.0, "grace_period_s": 30.0})
    sim = simulate(config, STEADY)
    sim.advance(10.0)
    before = SimulatedObservation(sim, "m").window(5.0, 0.0)
    assert before is not None
    assert len(before.pods) == 3
    sim.scale("m", 1)
    sim.advance(12.0)
    after = SimulatedObservation(sim, "m").window(5.0, 0.0)
    assert after is not None
    assert len(after.pods) == 1
    assert len([pod for pod in sim.alive("m") if not pod.wanted]) == 2  # they are still there
    assert after.requests.sum() < 0.7 * before.requests.sum()


def test_with_jitter_every_second_window_is_a_scrape_longer() -> None:
    config = cluster(replicas=1).model_copy(update={"scrape_jitter_s": 0.02})
    sim = simulate(config, STEADY)
    lengths = []
    for second in range(10, 60):
        sim.advance(float(second))
        window = SimulatedObservation(sim, "m").window(5.0, 0.0)
        assert window is not None
        lengths.append(window.seconds)
    assert set(np.round(lengths)) == {5.0, 6.0}
    assert 0.25 < np.mean(np.array(lengths) > 5.5) < 0.75
    exact = simulate(cluster(replicas=1), STEADY)
    exact.advance(59.0)
    window = SimulatedObservation(exact, "m").window(5.0, 0.0)
    assert window is not None
    assert window.seconds == 5.0


def test_more_jitter_than_half_a_period_is_refused() -> None:
    told = cluster(replicas=1).model_dump() | {"scrape_jitter_s": 0.6}
    with pytest.raises(ValidationError, match="at most half of scrape_period_s"):
        type(cluster()).model_validate(told)


def ready_after(count: int, seed: int = 0, **pod: float) -> list[float]:
    """Seconds from asked for to ready of so many pods that are asked for together."""
    given = {"schedule_s": 0.1, "container_start_s": 1.0, "load_s": 1.0, "probe_period_s": 0.001, **pod}
    sim = simulate(cluster(gpus=8, replicas=1, max_replicas=8, pod=given), STEADY, seed=seed)
    sim.advance(5.0)
    sim.scale("m", 1 + count)
    sim.advance(30.0)
    return [pod.ready_ns / 1e9 - 5.0 for pod in sim.pods[1:] if pod.ready_ns is not None]


def test_pods_that_start_together_take_longer() -> None:
    assert ready_after(1, start_together_s=0.5) == pytest.approx([2.1], abs=0.002)
    assert ready_after(3, start_together_s=0.5) == pytest.approx([3.1] * 3, abs=0.002)
    assert ready_after(3) == pytest.approx([2.1] * 3, abs=0.002)


def test_how_fast_a_machine_loads_differs_from_run_to_run_and_not_from_pod_to_pod() -> None:
    runs = np.array([ready_after(3, seed=seed, load_spread_s=0.5) for seed in range(12)])
    assert np.ptp(runs, axis=1).max() < 0.002
    assert 0.3 < np.ptp(runs[:, 0]) <= 1.0
    assert abs(runs[:, 0].mean() - 2.1) < 0.3


def test_batches_take_longer_while_a_container_starts() -> None:
    given = {"container_start_s": 5.0, "load_s": 5.0, "start_slows": 0.1}
    sim = simulate(cluster(replicas=1, max_replicas=4, pod=given), np.arange(0, 60, 1.0), flat_profile([0.05]))
    sim.advance(10.5)
    sim.scale("m", 3)
    sim.advance(59.5)
    rows = np.sort(sim.all_rows(), order="id")
    took_ms = np.round((rows["end_ns"] - rows["start_ns"]) / 1e6, 3)
    at_s = rows["start_ns"] / 1e9
    assert set(took_ms[at_s < 10.5]) == {50.0}
    assert set(took_ms[(at_s > 11) & (at_s < 20)]) == {60.0}  # two start
    assert set(took_ms[at_s > 22]) == {50.0}
    sim.slow_down("m", 2.0)
    sim.advance(60.5)
