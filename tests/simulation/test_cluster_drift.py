"""A simulated service whose batches take another time from one moment on."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.simulation.cluster.kisim import KISim
from tests.oracles.cluster_worlds import cluster, flat_profile, simulate


def spread_out(seconds: float) -> KISim:
    """A batch of one every 50 ms: 10 ms each."""
    return simulate(cluster(), np.arange(0.0, seconds, 0.05), flat_profile([0.01]))


def lengths_ms(sim: KISim) -> list[float]:
    rows = np.sort(sim.all_rows(), order="id")
    return ((rows["end_ns"] - rows["start_ns"]) / 1e6).round(6).tolist()


def test_batches_are_longer_from_there_on():
    sim = spread_out(2.0)
    sim.advance(1.005)  # the batch of second 1 runs, and ends as it would have
    sim.slow_down("m", 1.4)
    sim.advance(3.0)
    assert lengths_ms(sim) == [10.0] * 21 + [14.0] * 19


def test_the_factor_is_of_the_profile_and_one_ends_it():
    sim = spread_out(1.0)
    sim.slow_down("m", 2.0)
    sim.slow_down("m", 0.7)
    sim.advance(0.5)
    sim.slow_down("m", 1.0)
    sim.advance(2.0)
    assert set(lengths_ms(sim)) == {7.0, 10.0}


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_is_a_number_above_zero(factor: float):
    with pytest.raises(ValueError, match="above 0"):
        spread_out(1.0).slow_down("m", factor)
