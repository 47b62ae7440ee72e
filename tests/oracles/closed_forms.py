"""Queueing theory's answers: sojourn time (wait + service) in steady state under Poisson arrivals.

Rates are per unit of time, times in the same unit. Sources: Kleinrock, Queueing Systems I (M/M/c, M/G/1); Franx (2001),
A simple solution for the M/D/c waiting time distribution; Neuts (1981), Matrix-Geometric Solutions (M/PH/1); Inoue
(2021), Queueing analysis of GPU-based inference servers with dynamic batching, arXiv 1912.06322.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm
from scipy.optimize import brentq
from scipy.stats import poisson


def pollaczek_khinchine(rate: float, mean: float, second_moment: float) -> float:
    """Mean sojourn of M/G/1."""
    return mean + rate * second_moment / (2 * (1 - rate * mean))


def erlang_c(rate: float, mean: float, servers: int) -> float:
    """Probability that an arrival of M/M/c has to wait."""
    load = rate * mean
    last = load**servers / math.factorial(servers) / (1 - load / servers)
    return last / (sum(load**k / math.factorial(k) for k in range(servers)) + last)


def mmc_mean(rate: float, mean: float, servers: int) -> float:
    """Mean sojourn of M/M/c."""
    return mean + erlang_c(rate, mean, servers) / (servers / mean - rate)


def mmc_quantile(q: float, rate: float, mean: float, servers: int) -> float:
    """Quantile of the sojourn of M/M/c: service plus, with Erlang's C, an exponential wait."""
    mu, theta, waits = 1 / mean, servers / mean - rate, erlang_c(rate, mean, servers)

    def tail(t: float) -> float:
        if servers == 1:
            return math.exp(-theta * t)
        both = (theta * math.exp(-mu * t) - mu * math.exp(-theta * t)) / (theta - mu)
        return (1 - waits) * math.exp(-mu * t) + waits * both

    return float(brentq(lambda t: tail(t) - (1 - q), 0, 1000 / theta))


def machine_repair(users: int, servers: int, think_s: float, service_s: float) -> tuple[float, float]:
    """(throughput, mean response time) of M/M/c with a finite source: users think, queue, are served, and think again.

    Birth and death on the number in the system (Kleinrock I, 3.8): it rises at (users - k) / think_s and falls at
    min(k, servers) / service_s.
    """
    weight = [1.0]
    for k in range(users):
        weight.append(weight[k] * ((users - k) / think_s) / (min(k + 1, servers) / service_s))
    total = sum(weight)
    throughput = sum(w * min(k, servers) / service_s for k, w in enumerate(weight)) / total
    inside = sum(w * k for k, w in enumerate(weight)) / total
    return throughput, inside / throughput


def md1_quantile(q: float, rate: float, service: float) -> float:
    """Quantile of the sojourn of M/D/1, after Franx: a sum of positive terms."""
    load = rate * service
    levels = 400
    more_than = poisson.sf(np.arange(levels + 1), load)  # arrivals during one service
    length = [1 - load]
    for j in range(levels):  # cut between j and j + 1 of the chain seen by departures
        up = length[0] * more_than[j] + sum(length[i] * more_than[j + 1 - i] for i in range(1, j + 1))
        length.append(up / math.exp(-load))
    at_most = np.cumsum(length)

    def waits_at_most(x: float) -> float:
        k = int(x / service) + 1
        left = rate * (k * service - x)
        return float(sum(poisson.pmf(j, left) * at_most[k - j] for j in range(k)))

    return service + float(brentq(lambda x: waits_at_most(x) - q, 0, (levels - 2) * service))


@dataclass(frozen=True)
class Hyperexponential:
    """Service that is exponential with mean means[i] with probability chances[i]."""

    chances: tuple[float, float]
    means: tuple[float, float]

    @property
    def mean(self) -> float:
        return float(np.dot(self.chances, self.means))

    @property
    def second_moment(self) -> float:
        return float(2 * np.dot(self.chances, np.square(self.means)))

    def laplace(self, s: float) -> float:
        """E[exp(-s service)]."""
        return float(sum(p / (1 + s * m) for p, m in zip(self.chances, self.means, strict=True)))

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        means = np.where(rng.random(n) < self.chances[0], self.means[0], self.means[1])
        return rng.exponential(means)


def mh1_quantile(q: float, rate: float, service: Hyperexponential) -> float:
    """Quantile of the sojourn of M/H2/1 from its phase-type form: a wait of phases, then the service itself."""
    start, ends = np.array(service.chances), 1 / np.array(service.means)
    phases = -np.diag(ends)
    busy = rate * start * np.array(service.means)  # chance to find the server in each phase, residual included
    generator = np.zeros((4, 4))
    generator[:2, :2] = phases + np.outer(ends, busy)
    generator[:2, 2:] = np.outer(ends * (1 - busy.sum()), start)
    generator[2:, 2:] = phases
    begin = np.concatenate([busy, (1 - busy.sum()) * start])
    tail = 1 - q
    return float(brentq(lambda t: begin @ expm(generator * t) @ np.ones(4) - tail, 0, 1000 * service.mean))


@dataclass(frozen=True)
class BulkService:
    """Inoue's model: an idle server takes all that wait; a batch of b lasts slope * b + fixed."""

    rate: float
    slope: float
    fixed: float

    def mean_latency(self, lone_start: float) -> float:
        """Mean latency if a batch finds nobody waiting at its end with probability `lone_start`.

        From the balance of first and second moments of the batch size over one cycle: a request that arrives during a
        batch waits for half of it on average and runs with all others of that batch; one that arrives at an idle
        server runs alone.
        """
        rate, slope, fixed = self.rate, self.slope, self.fixed
        size = (rate * fixed + lone_start) / (1 - rate * slope)
        time = slope * size + fixed
        square = rate * time + rate**2 * (2 * slope * fixed * size + fixed**2) + lone_start
        square /= 1 - (rate * slope) ** 2
        time2 = slope**2 * square + 2 * slope * fixed * size + fixed**2
        during = rate * time2 / 2 + slope * (rate * time + rate**2 * time2) + fixed * rate * time
        return (during + lone_start * (slope + fixed)) / size

    @property
    def upper_bound(self) -> float:
        """Inoue's bound, min(phi_0, phi_1): the latency falls with `lone_start`, which mean size >= 1 bounds below."""
        return self.mean_latency(max(0.0, 1 - self.rate * (self.slope + self.fixed)))

    @property
    def exact_mean_latency(self) -> float:
        """From the stationary law of the batch size, a Markov chain."""
        sizes = np.arange(1, 400)
        chain = poisson.pmf(sizes[None, :], self.rate * (self.slope * sizes[:, None] + self.fixed))
        nobody = np.exp(-self.rate * (self.slope * sizes + self.fixed))
        chain[:, 0] += nobody
        chain /= chain.sum(axis=1, keepdims=True)
        law = np.linalg.matrix_power(chain, 1 << 14)[0]
        return self.mean_latency(float(law @ nobody))
