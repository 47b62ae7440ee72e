"""Traffic that a search must not know by heart: other rates, other times, other bursts, another part of a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadgen.schedule import Schedule
from testbed.config import TrafficConfig
from testbed.pipeline.varied import Variation, varied_schedule

NONE = Variation(rate=0.0, time=0.0, draws=False)
STEP = TrafficConfig(pattern="ramp", parameters={"low": 50, "peak": 200, "rise_s": 100}, duration_s=200)


def made(traffic: TrafficConfig, seed: int, variation: Variation = NONE, **more: object) -> Schedule:
    return varied_schedule(traffic, "m", 100.0, seed, variation, **more)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_traffic_and_another_one_other_arrivals() -> None:
    assert made(STEP, 3).same_requests(made(STEP, 3))
    assert not made(STEP, 3).same_requests(made(STEP, 4))


def test_rates_stray_as_far_as_is_allowed() -> None:
    variation = Variation(rate=0.2, time=0.0, draws=False)
    ratios = [len(made(STEP, seed, variation)) / len(made(STEP, seed)) for seed in range(40)]
    assert 1 / 1.26 < min(ratios) < 0.9
    assert 1.1 < max(ratios) < 1.26  # 1.2, and what chance adds to 25,000 requests


def test_times_stray_as_far_as_is_allowed() -> None:
    """A spike at the end of every 100 s."""
    spikes = TrafficConfig(pattern="bursty", parameters={"base": 1, "spike": 1000, "spike_s": 10, "every_s": 100})
    starts = []
    for seed in range(40):
        times_s = varied_schedule(spikes, "m", 200.0, seed, Variation(rate=0, time=0.25)).scheduled_s
        counts, edges = np.histogram(times_s, bins=200, range=(0, 200))
        starts.append(edges[int(np.argmax(counts > 300))])
    assert 70 < min(starts) < 80
    assert 100 < max(starts) < 114


def test_bursts_come_at_other_times() -> None:
    parameters = {"base": 1, "spike": 500, "spike_s": 10, "every_s": 30, "mode": "on_off", "burst_seed": 5}
    random = TrafficConfig(pattern="bursty", parameters=parameters)
    only_draws = Variation(rate=0, time=0, draws=True)

    def busy(schedule: Schedule) -> np.ndarray:
        return np.histogram(schedule.scheduled_s, bins=100, range=(0, 100))[0] > 100

    assert (busy(made(random, 1)) == busy(made(random, 2))).all()
    assert (busy(made(random, 1, only_draws)) != busy(made(random, 2, only_draws))).any()


def trace_file(folder: Path) -> TrafficConfig:
    """Ten requests a second for 100 s, then forty a second for 100 s."""
    times = [*np.arange(0, 100, 0.1), *np.arange(100, 200, 0.025)]
    (folder / "trace.txt").write_text("\n".join(f"{time:.3f}" for time in times))
    return TrafficConfig(trace=folder / "trace.txt", format="timestamps")


@pytest.mark.parametrize("counted", [False, True])
def test_a_part_of_a_trace_shows_nothing_of_the_rest(tmp_path: Path, counted: bool) -> None:
    traffic = trace_file(tmp_path)
    if counted:
        traffic = traffic.model_copy(update={"rate_interval_s": 10.0, "rate_factor": 1.0})
    early, late = made(traffic, 1, part=(0.0, 0.5)), made(traffic, 1, part=(0.5, 1.0))
    assert early.duration_s == pytest.approx(100, abs=0.1)
    assert late.duration_s == pytest.approx(100, abs=0.1)
    assert len(early) == pytest.approx(1000, rel=0.1)
    assert len(late) == pytest.approx(4000, rel=0.1)


@pytest.mark.parametrize("factor", [0.5, 1.3, 2.6])
def test_a_trace_keeps_its_shape_at_another_rate(tmp_path: Path, factor: float) -> None:
    traffic = trace_file(tmp_path)
    plain, changed = made(traffic, 1), made(traffic, 1, factor=factor)
    assert len(changed) == pytest.approx(factor * len(plain), rel=0.05)
    early = (changed.scheduled_s < 98).sum()
    assert early == pytest.approx(factor * (plain.scheduled_s < 98).sum(), rel=0.1)


def test_a_trace_as_it_is_keeps_its_own_arrivals(tmp_path: Path) -> None:
    assert np.array_equal(made(trace_file(tmp_path), 9).scheduled_ns, made(trace_file(tmp_path), 1).scheduled_ns)
