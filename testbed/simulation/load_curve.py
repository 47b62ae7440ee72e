"""What a service does at one load after the other: curves between the loads that were measured, with intervals.

And what one replica serves within a latency target: the number that policies and searches rest on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loadgen.patterns import Constant
from loadgen.schedule import poisson_schedule
from testbed.calibration.another_run import another_run
from testbed.calibration.device_use import batches_of, network_share, power_w
from testbed.calibration.profile import Band, CurvePoint, DeviceUse, LoadCurve, ServiceProfile
from testbed.simulation.intervals import generators, interval_of
from testbed.simulation.simulator import simulate
from testbed.statistics import fewest_for_next
from workloads.catalog import ServiceConfig

FloatArray = npt.NDArray[np.float64]
RATES = 8
REQUESTS = 2000  # of each simulated run
SEARCHED_REQUESTS = 20_000  # at each rate that rate_within tries, about
HALVINGS = 10
PERCENTILE = 95.0


class _Load(NamedTuple):
    """Of one simulated run; the names are CurvePoint's."""

    p50_s: float
    p95_s: float
    busy: float
    network: float | None
    power_w: float | None


def load_curve(profile: ServiceProfile, service: ServiceConfig, seed: int) -> LoadCurve:
    """Of one service, at rates evenly spaced over those that the profile was fitted on.

    Each of 19 runs that might come (another_run; the power by power_spread) goes through all rates, with Poisson
    arrivals of its own: the fewest runs of which a 90 % interval for the next one can be read off.
    """
    rates = np.linspace(*profile.ranges["rate_rps"], RATES)
    runs = [_one_run(profile, service, rates, rng) for rng in generators(seed, fewest_for_next())]
    points = []
    for k, rate in enumerate(rates.tolist()):
        bands = {name: _band([getattr(run[k], name) for run in runs]) for name in _Load._fields}
        points.append(CurvePoint(rate_rps=rate, **bands))
    return LoadCurve(configuration=service.label, points=tuple(points))


def _one_run(
    profile: ServiceProfile, service: ServiceConfig, rates: np.ndarray, rng: np.random.Generator
) -> list[_Load]:
    drawn = another_run(profile, rng)
    use = profile.device_use or DeviceUse(network_s=None, idle_w=None, batch_j=None, request_j=None)
    spread = use.power_spread
    power_factor = 1.0 if spread is None else 1 + spread.std * float(rng.standard_t(spread.degrees_of_freedom))
    loads = []
    for rate in rates.tolist():
        arrivals, seed = (int(integer) for integer in rng.integers(2**31, size=2))
        schedule = poisson_schedule(Constant(rate=rate), REQUESTS / rate, arrivals, profile.model)
        span_s = schedule.duration_s
        run = simulate(schedule, drawn, service, seed)
        p50_s, p95_s = np.quantile(run.requests.latency_s[run.requests.ok], (0.5, 0.95)).tolist()
        batches = batches_of(run.batches, span_s)
        watts = power_w(use, batches, span_s)
        loads.append(
            _Load(
                p50_s=p50_s,
                p95_s=p95_s,
                busy=run.batches.busy_s(span_s) / (span_s * service.replicas * service.instances),
                network=network_share(use, batches, span_s),
                power_w=None if watts is None else power_factor * watts,
            )
        )
    return loads


def _band(values: list[float | None]) -> Band | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, middle, high, _ = interval_of(known)
    return Band(low=low, middle=middle, high=high)


def capacity_rps(service: ServiceConfig, mean_s: FloatArray) -> float:
    """Requests per second that all instances complete when no one ever waits for work: replicas * n * max b / S(b)."""
    sizes = np.arange(1, service.max_batch_size + 1) if service.dynamic_batching is not None else np.ones(1)
    sizes = sizes[: len(mean_s)]
    return service.replicas * service.instances * float(np.max(sizes / mean_s[: len(sizes)]))


def rate_within(
    profile: ServiceProfile, service: ServiceConfig, target_s: float, percentile: float = PERCENTILE
) -> float:
    """Requests/s that one replica serves with that percentile of the latency within the target; 0: none.

    Searched by halving on Poisson arrivals of one seed, below what full batches could serve.
    """
    single = service.model_copy(update={"replicas": 1})
    low, high = 0.0, capacity_rps(single, np.array(profile.service_time.mean_s))

    def holds(rate_rps: float) -> bool:
        schedule = poisson_schedule(Constant(rate=rate_rps), SEARCHED_REQUESTS / rate_rps, 0, profile.model)
        run = simulate(schedule, profile, single, 0)
        latency_s = np.where(run.requests.ok, run.requests.latency_s, np.inf)
        return len(latency_s) > 0 and float(np.quantile(latency_s, percentile / 100, method="higher")) <= target_s

    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
