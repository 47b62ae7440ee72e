"""A simulated client gives up and drops as the real one; replicas that slow each other share a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loadgen.client_limits import ClientLimits
from loadgen.patterns import make_pattern
from loadgen.schedule import poisson_schedule
from testbed.calibration.profile import ServiceProfile
from testbed.calibration.sharing import shares_a_device
from testbed.pipeline.simulated_client import given_up, most_in_flight, simulate_with_client
from testbed.simulation.simulator import SimulatedRun, simulate
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
        run = simulate_with_client(schedule, profile, self.file, TWO, 1, None)
        assert len(run.requests) == len(schedule)
        assert run.requests.ok.all()
        return float(np.median(run.requests.latency_s))


def test_with_hardly_any_interference_it_is_the_usual_simulation(tmp_path: Path) -> None:
    profile = flat_profile(MEAN_S)
    schedule = poisson_schedule(make_pattern("constant", rate=250.0), 40.0, 3, profile.model)
    usual = float(np.median(simulate(schedule, profile, TWO, 1).requests.latency_s))
    assert World(tmp_path / "p.json").p50_s(1.0, 1.001) == pytest.approx(usual, rel=0.02)


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


class Overload:
    """20 s of 100 requests/s with a spike of 900 in the middle, to one replica that serves 250."""

    def __init__(self, folder: Path) -> None:
        self.profile = flat_profile(MEAN_S)
        self.file = folder / "p.json"
        self.profile.write(self.file)
        spike = make_pattern("bursty", base=100.0, spike=900.0, spike_s=5.0, every_s=15.0)
        self.schedule = poisson_schedule(spike, 20.0, 3, "m")

    def run(self, client: ClientLimits | None) -> SimulatedRun:
        service = ServiceConfig(replicas=1, max_batch_size=4)
        return simulate_with_client(self.schedule, self.profile, self.file, service, 1, client)


def test_without_a_client_everything_is_answered_however_late(tmp_path: Path) -> None:
    log = Overload(tmp_path).run(None).requests
    assert log.ok.all()
    assert log.latency_s.max() > 10


def test_a_client_that_waits_two_seconds_gives_up_after_them(tmp_path: Path) -> None:
    world = Overload(tmp_path)
    patient = world.run(None).requests
    log = world.run(ClientLimits(timeout_s=2.0, max_in_flight=100_000)).requests
    late = patient.latency_s > 2.0
    assert late.sum() > 1000
    assert (log.frame["status"] == "timeout").tolist() == late.tolist()
    waited_s = log.seconds("completed_ns")[late] - log.seconds("scheduled_ns")[late]
    assert waited_s.tolist() == pytest.approx([2.0] * int(late.sum()))
    assert log.latency_s[~late].tolist() == patient.latency_s[~late].tolist()  # the server knows nothing of it


def test_requests_beyond_the_limit_are_dropped_and_the_others_are_faster(tmp_path: Path) -> None:
    world = Overload(tmp_path)
    limited = world.run(ClientLimits(max_in_flight=200))
    log, counts = limited.requests, limited.requests.counts()
    assert len(log) == len(world.schedule)
    assert counts["dropped"] > 1000
    assert counts["ok"] + counts["dropped"] == len(log)
    assert most_in_flight(log) <= 200
    # Two hundred that wait before a replica that serves 250/s: not much over .8 s, where it was over 10.
    assert 0.6 < np.nanmax(log.latency_s) < 1.0
    in_spike = (log.seconds("scheduled_ns") > 11) & (log.seconds("scheduled_ns") < 15)
    served = log.ok[in_spike].sum() / 4
    assert served == pytest.approx(250, rel=0.05)


def test_a_limit_that_is_never_reached_changes_nothing(tmp_path: Path) -> None:
    world = Overload(tmp_path)
    usual = world.run(None)
    limited = world.run(ClientLimits(timeout_s=60.0, max_in_flight=most_in_flight(usual.requests)))
    assert limited.requests.frame.equals(usual.requests.frame)
    assert given_up(usual.requests, 60.0) is usual.requests
