"""Replicas that slow each other are simulated on the device that they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loadgen.patterns import make_pattern
from loadgen.schedule import poisson_schedule
from testbed.calibration.profile import ServiceProfile
from testbed.calibration.sharing import shares_a_device
from testbed.pipeline.shared_device import simulate_shared
from testbed.simulation.simulator import simulate
from tests.oracles.cluster_worlds import flat_profile
from workloads.catalog import ServiceConfig

MEAN_S = [0.010, 0.012, 0.014, 0.016]
TWO = ServiceConfig(replicas=2, max_batch_size=4)


@dataclass
class World:
    file: Path

    def p50_s(self, *interference: float) -> float:
        """Of two replicas at 250/s, whose batches are long together and short alone."""
        profile: ServiceProfile = flat_profile(MEAN_S).model_copy(update={"interference": interference})
        profile.write(self.file)
        schedule = poisson_schedule(make_pattern("constant", rate=250.0), 40.0, 3, profile.model)
        run = simulate_shared(schedule, profile, self.file, TWO, 1)
        assert len(run.requests) == len(schedule)
        assert run.requests.ok.all()
        return float(np.median(run.requests.latency_s))


def test_without_interference_it_is_the_usual_simulation(tmp_path: Path) -> None:
    profile = flat_profile(MEAN_S)
    schedule = poisson_schedule(make_pattern("constant", rate=250.0), 40.0, 3, profile.model)
    usual = float(np.median(simulate(schedule, profile, TWO, 1).requests.latency_s))
    assert World(tmp_path / "p.json").p50_s(1.0, 1.0) == pytest.approx(usual, rel=0.02)


def test_with_interference_it_takes_longer(tmp_path: Path) -> None:
    world = World(tmp_path / "p.json")
    assert world.p50_s(1.0, 1.5) > 1.25 * world.p50_s(1.0, 1.0)


@pytest.mark.parametrize(
    ("interference", "replicas", "shared"),
    [((), 2, False), ((1.0, 1.05), 2, False), ((1.0, 1.4), 1, False), ((1.0, 1.4), 2, True)],
)
def test_only_what_is_noticed_is_simulated_so(interference: tuple[float, ...], replicas: int, shared: bool) -> None:
    profile = flat_profile(MEAN_S).model_copy(update={"interference": interference})
    assert shares_a_device(profile, replicas) is shared
