"""Classical queues run through the kernel, and a control variate that makes their mean sharp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from testbed.simulation.kernel import simulate_batches
from testbed.simulation.rules import BatchingRules
from tests.oracles import closed_forms

UNIT_NS = 1e6  # the mean service time: rounding to nanoseconds does not show


@dataclass(frozen=True)
class Queue:
    """A queue with Poisson arrivals, mean service 1, and what theory says of it."""

    name: str
    rate: float
    servers: int
    second_moment: float
    laplace: Callable[[float], float]  # of the service time
    draw: Callable[[int, np.random.Generator], np.ndarray]
    mean: float
    p95: float


@dataclass(frozen=True)
class Estimate:
    """From one simulated run, in units of the mean service."""

    mean: float
    p95: float


def classical_queues(utilisation: float) -> list[Queue]:
    """M/M/1, M/D/1, M/M/4 and M/H2/1 (squared coefficient of variation 2) at one utilisation."""
    mixed = closed_forms.Hyperexponential((0.2, 0.8), (1 + np.sqrt(2), 1 - np.sqrt(2) / 4))
    rho, four = utilisation, 4 * utilisation
    exponential = (2.0, lambda s: 1 / (1 + s), lambda n, rng: rng.standard_exponential(n))
    fixed = (1.0, lambda s: float(np.exp(-s)), lambda n, rng: np.ones(n))
    h2 = (mixed.second_moment, mixed.laplace, mixed.draw)
    pk = closed_forms.pollaczek_khinchine
    return [
        Queue("M/M/1", rho, 1, *exponential, pk(rho, 1, 2), closed_forms.mmc_quantile(0.95, rho, 1, 1)),
        Queue("M/D/1", rho, 1, *fixed, pk(rho, 1, 1), closed_forms.md1_quantile(0.95, rho, 1)),
        Queue(
            "M/M/4",
            four,
            4,
            *exponential,
            closed_forms.mmc_mean(four, 1, 4),
            closed_forms.mmc_quantile(0.95, four, 1, 4),
        ),
        Queue("M/H2/1", rho, 1, *h2, pk(rho, 1, mixed.second_moment), closed_forms.mh1_quantile(0.95, rho, mixed)),
    ]


def estimate(queue: Queue, requests: int, warmup: int, rng: np.random.Generator) -> Estimate:
    """Run the kernel without batching, one instance a server; the first `warmup` requests are left out."""
    gaps = rng.standard_exponential(requests) / queue.rate
    service = queue.draw(requests, rng)
    arrival_ns = np.rint(np.cumsum(gaps) * UNIT_NS).astype(np.int64)
    rules = BatchingRules(max_batch_size=1, instances=queue.servers, dynamic=False)
    result = simulate_batches(arrival_ns, [0.0, UNIT_NS], service, rules)
    sojourn = (result.end_ns - arrival_ns)[warmup:] / UNIT_NS
    drift = 1 / queue.rate - 1 / queue.servers
    excess = zero_mean_control(queue, gaps, service, warmup) / (2 * drift)  # of this run's mean wait, by its inputs
    p95 = np.percentile(sojourn, 95) - excess * queue.p95 / queue.mean  # the tail stretches with the mean
    return Estimate(float(sojourn.mean() - excess), float(p95))


def zero_mean_control(queue: Queue, gaps: np.ndarray, service: np.ndarray, warmup: int) -> float:
    """A number with expectation 0, made of the inputs alone, that goes up and down with their mean wait.

    Take one server as fast as all together, fed with the same inputs: its wait w follows Lindley's recursion
    w' = max(0, w + x), x = service / servers - gap. Then w'^2 - w^2 minus its expectation given w,
    2 w E[x] + E[x^2] - (2 / rate^2) E[exp(-rate service / servers)] exp(-rate w),  is a martingale difference. Its mean
    over a run estimates 0, and its error is nearly -2 E[x] times that of the mean wait (Henderson and Glynn 2002).
    """
    rate, servers = queue.rate, queue.servers
    steps = np.empty(len(gaps))
    steps[0] = 0.0
    np.subtract(service[:-1] / servers, gaps[1:], out=steps[1:])
    path = np.cumsum(steps)
    wait = path - np.minimum.accumulate(path)
    wait = wait[warmup:]
    mean_x = 1 / servers - 1 / rate
    mean_x2 = queue.second_moment / servers**2 - 2 / (servers * rate) + 2 / rate**2
    idle = 2 / rate**2 * queue.laplace(rate / servers) * float(np.exp(-rate * wait[:-1]).mean())
    change = (wait[-1] ** 2 - wait[0] ** 2) / (len(wait) - 1)
    return float(change - (2 * mean_x * wait[:-1].mean() + mean_x2 - idle))
