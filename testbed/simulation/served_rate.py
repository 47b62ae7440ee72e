"""What one replica serves within a latency target, from its profile: the number that policies and searches rest on."""

from __future__ import annotations

import numpy as np

from loadgen.patterns import make_pattern
from loadgen.schedule import poisson_schedule
from testbed.calibration.profile import ServiceProfile
from testbed.simulation.simulator import simulate
from workloads.catalog import ServiceConfig

SEARCHED_S = 30.0  # of arrivals, at each rate that is tried
HALVINGS = 10
PERCENTILE = 95.0


def rate_within(profile: ServiceProfile, service: ServiceConfig, target_s: float, seed: int = 0) -> float:
    """Requests/s that one replica serves with PERCENTILE of the latency within the target; 0: none.

    Searched by halving on Poisson arrivals of one seed, below what full batches could serve.
    """
    single = service.model_copy(update={"replicas": 1})
    mean_s = np.array(profile.service_time.mean_s[: service.max_batch_size])
    sizes = np.arange(1, len(mean_s) + 1) if service.dynamic_batching is not None else np.ones(1)
    low, high = 0.0, service.instances * float(np.max(sizes / mean_s[: len(sizes)]))

    def holds(rate_rps: float) -> bool:
        schedule = poisson_schedule(make_pattern("constant", rate=rate_rps), SEARCHED_S, seed, profile.model)
        run = simulate(schedule, profile, single, seed)
        latency_s = np.where(run.requests.ok, run.requests.latency_s, np.inf)
        return len(latency_s) > 0 and float(np.quantile(latency_s, PERCENTILE / 100, method="higher")) <= target_s

    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
