"""Small simulated services whose batches become slower or faster, and what a scraper sees of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from loadgen.patterns import make_pattern
from testbed.autoscaling.observation import Window
from testbed.autoscaling.simulated import SimulatedObservation
from testbed.calibration.another_run import another_run
from testbed.calibration.profile import RunEffect, RunEffects, ServiceProfile
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import PatternTraffic
from tests.oracles.cluster_worlds import GPU, cluster
from tests.oracles.known_service import known_profile


def varying_profile(*, slow_sigma: float = 0.03, timescale_s: float = 4.0) -> ServiceProfile:
    """The known service with slow phases, whose runs differ by 2 % of a batch's time."""
    effects = RunEffects(service=RunEffect(std=0.02, degrees_of_freedom=12))
    known = known_profile(slow_sigma=slow_sigma, timescale_s=timescale_s)
    return known.model_copy(update={"run_effects": effects, "cold_start_s": (1.0,)})


def varying_run(profile: ServiceProfile, seed: int, *, rate: float = 200.0) -> KISim:
    """Two replicas of a run of their own, under a wave of that mean rate."""
    rng = np.random.default_rng(seed)
    config = cluster(gpus=2, replicas=2, max_batch_size=8, balancer="random")
    service = make_service(0, config.models[0], GPU, another_run(profile, rng))
    pattern = make_pattern("periodic", mean=rate, amplitude=0.5 * rate, period_s=120.0)
    return KISim(config, [service], PatternTraffic((pattern,), seed), seed=seed)


def windows_of(sim: KISim, until_s: float, window_s: float = 5.0) -> Iterator[Window]:
    """One after the other, as time passes."""
    while sim.now_s < until_s:
        sim.advance(sim.now_s + window_s)
        window = SimulatedObservation(sim, "m").window(window_s, 0.0)
        if window is not None:
            yield window
