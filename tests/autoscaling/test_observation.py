"""A window of scrapes: the same function for a simulation and for a cluster."""

from __future__ import annotations

import numpy as np
import pytest

from loadgen.patterns import make_pattern
from testbed.autoscaling.observation import Scrape, last_window, window_of
from testbed.autoscaling.simulated import SimulatedObservation
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import PatternTraffic
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile


def scrape(time_s: float, **pods: tuple[float, float, float, float, float]) -> Scrape:
    """pods: requests, queue_s, compute_s, waiting, active_s of each; its CPU is a tenth of the active time."""
    values = np.array(list(pods.values()), dtype=float).reshape(-1, 5)
    return Scrape(time_s, tuple(pods), *values.T, values[:, 4] / 10)


def test_the_window_ends_with_the_newest_scrape_that_is_old_enough():
    times = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert last_window(times, now_s=5.2, seconds=2.0, metrics_delay_s=1.0) == (2, 4)
    assert last_window(times, now_s=5.2, seconds=2.0, metrics_delay_s=0.0) == (3, 5)
    assert last_window(times, now_s=2.0, seconds=2.0, metrics_delay_s=1.0) is None  # not that long yet
    assert last_window([], now_s=2.0, seconds=1.0, metrics_delay_s=0.0) is None


def test_counters_are_differences_and_a_new_pods_count_from_its_start():
    window = window_of(
        [
            scrape(10.0, a=(100, 5.0, 2.0, 3, 4.0), gone=(50, 1.0, 1.0, 9, 1.0)),
            scrape(11.0, a=(110, 6.0, 3.0, 5, 5.0)),
            scrape(12.0, a=(120, 8.0, 4.0, 7, 6.0), new=(10, 0.5, 1.0, 2, 0.5)),
        ]
    )
    assert window.pods == ("a", "new")
    assert (window.start_s, window.end_s, window.rate_rps) == (10.0, 12.0, 15.0)
    assert window.requests.tolist() == [20, 10]
    assert window.queue_s.tolist() == [3.0, 0.5]
    assert window.waiting.tolist() == [7, 2]
    assert window.in_flight.tolist() == [(5 + 7) / 2 + 2.0 / 2, 2 / 2 + 1.0 / 2]
    assert window.utilisation.tolist() == [1.0, 0.25]
    assert window.cpu_cores.tolist() == pytest.approx([0.1, 0.025])


def test_in_flight_is_what_the_pods_hold():
    config = cluster(gpus=4, replicas=2, max_batch_size=4)
    traffic = PatternTraffic((make_pattern("constant", rate=300.0),), 3)
    sim = KISim(config, [make_service(0, config.models[0], GPU, flat_profile((0.01, 0.012, 0.014, 0.016)))], traffic)
    held = []
    for k in range(1, 6001):
        sim.advance(k * 0.02)
        held.append(sim.totals("m").waiting)
    window = SimulatedObservation(sim, "m").window(100.0, 1.0)
    assert window is not None
    assert window.in_flight.sum() == pytest.approx(np.mean(held[1000:]), rel=0.05)
