"""The kernel agrees with queueing theory; tests/bench has the same at utilisation .95 and sharper."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.simulation.kernel import simulate_batches
from testbed.simulation.rules import BatchingRules
from tests.oracles.closed_forms import BulkService
from tests.oracles.single_queues import Queue, classical_queues, estimate

MS = 1_000_000


@pytest.mark.parametrize("queue", classical_queues(0.7), ids=lambda queue: queue.name)
def test_mean_and_p95_of_classical_queues(queue: Queue):
    """Tolerance: four standard deviations of an estimate from a million requests (.2 % and .4 %)."""
    found = estimate(queue, requests=1_000_000, warmup=20_000, rng=np.random.default_rng(3))
    assert found.mean == pytest.approx(queue.mean, rel=0.008)
    assert found.p95 == pytest.approx(queue.p95, rel=0.016)


@pytest.mark.parametrize("rate_per_ms", [0.05, 0.2, 0.4, 0.6])
def test_inoues_bound_is_not_beaten(rate_per_ms: float):
    """d = 0, n = 1, B out of reach: the server takes all that wait, b of them for 4 ms + 1 ms b."""
    theory = BulkService(rate_per_ms, slope=1.0, fixed=4.0)
    rng = np.random.default_rng(5)
    arrival_ns = np.cumsum(rng.exponential(MS / rate_per_ms, 500_000)).astype(np.int64)
    limit = 256
    service_ns = (4.0 + np.arange(limit + 1)) * MS
    result = simulate_batches(arrival_ns, service_ns, [1.0], BatchingRules(max_batch_size=limit))
    assert result.batch_size.max() < limit
    latency_ms = (result.end_ns - arrival_ns).mean() / MS
    assert latency_ms == pytest.approx(theory.exact_mean_latency, rel=0.01)
    assert latency_ms <= theory.upper_bound * 1.002  # .002: four standard deviations where the bound is tight


def test_inoues_bound_is_the_published_formula():
    rate, slope, fixed = 0.3, 1.0, 4.0
    load = rate * slope
    phi_0 = (slope + fixed) / (2 * (1 - load)) * (1 + 2 * rate * fixed + (1 - rate * fixed) / (1 + load))
    phi_1 = 1.5 * fixed / (1 - load) + slope / 2 * (load + 2) / (1 - load**2)
    assert BulkService(rate, slope, fixed).upper_bound == pytest.approx(min(phi_0, phi_1))
