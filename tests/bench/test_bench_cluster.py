"""How fast the cluster simulator is: `pytest tests/bench/test_bench_cluster.py --benchmark-only -s`.

One core. The ratio is to the SimPy model of the same cluster, in the same process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil
import pytest
from scipy.stats import gamma, norm

from loadgen.patterns import make_pattern
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.simulated import PolicyRun
from testbed.calibration.profile import Overhead, OverheadLevel, ServiceProfile
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import PatternTraffic
from testbed.simulation.rules import BatchingRules
from tests.oracles import simpy_cluster
from tests.oracles.closed_forms import machine_repair
from tests.oracles.cluster_worlds import GPU, cluster, finite_source, flat_profile

MEAN_S = tuple(0.004 + 0.001 * b for b in range(1, 9))


def full_profile() -> ServiceProfile:
    """Everything that a calibrated profile has: 401-point noise and overhead, six levels of load."""
    grid = [min(max(k / 400, 1e-4), 1 - 1e-4) for k in range(401)]
    profile = flat_profile(MEAN_S, noise=(2.718281828 ** (0.05 * norm.ppf(grid))).tolist())
    levels = tuple(
        OverheadLevel(
            replicas=1,
            instances=1,
            rate_rps=rate,
            ingress_delay_quantiles_s=tuple(gamma.ppf(grid, 4, scale=5e-5)),
            egress_delay_quantiles_s=tuple(gamma.ppf(grid, 4, scale=1e-4)),
            inter_batch_gap_quantiles_s=tuple(gamma.ppf(grid, 4, scale=4e-5)),
            requests=1000,
        )
        for rate in (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
    )
    return profile.model_copy(update={"overhead": Overhead(window_s=0.25, levels=levels)})


def service_at(rate: float, replicas: int, *, scaled: bool, pattern: str = "constant", seed: int = 1) -> PolicyRun:
    """A cluster of that many replicas on nodes of eight GPUs; scaled: an HPA on requests in flight decides."""
    config = cluster(
        nodes=max(1, replicas // 8),
        gpus=8,
        replicas=replicas,
        max_replicas=max(64, replicas),
        max_batch_size=8,
        pod={"load_s": 5.0},
    )
    shape = {"rate": rate} if pattern == "constant" else {"mean": rate, "amplitude": 0.25 * rate, "period_s": 600.0}
    traffic = PatternTraffic((make_pattern(pattern, **shape),), seed)
    sim = KISim(config, [make_service(0, config.models[0], GPU, full_profile())], traffic, seed=seed)
    policy = build_policy({"kind": "hpa", "metric": "in_flight_requests", "target": 6.0}, replicas, None)
    return PolicyRun(sim, {"m": policy} if scaled else {})


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time: on a shared machine the clock on the wall also measures the neighbours."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


@pytest.mark.timeout(600)
def test_eight_replicas_under_an_hpa(benchmark):
    service_at(3000, 8, scaled=True).advance(5)  # compile
    run = service_at(3800, 8, scaled=True, pattern="periodic")
    speeds = []

    def ten_minutes() -> None:
        before = run.sim.totals("m").arrived
        seconds = cpu_seconds(lambda: run.advance(run.sim.now_s + 600))
        speeds.append((run.sim.totals("m").arrived - before) / seconds)

    benchmark.pedantic(ten_minutes, rounds=5)
    speed = max(speeds)
    few_s = 3.0
    arrivals = [int(one) for one in PatternTraffic((make_pattern("constant", rate=4000),), 1).block(0).arrival_ns]
    oracle = simpy_cluster.Cluster(
        [simpy_cluster.NodeSetting("node", GPU, gpus=8)],
        [
            simpy_cluster.ModelSetting(
                rules=BatchingRules(max_batch_size=8),
                service_ns={GPU: [0.0, *(one * 1e9 for one in MEAN_S)]},
                noise=[1.0, 1.0],
                replicas=8,
                ingress_delay_ns=200_000,
                egress_delay_ns=400_000,
                pause_ns=150_000,
            )
        ],
        seed=1,
    )
    few = [(arrival, 0) for arrival in arrivals if arrival < few_s * 1e9]
    slow = len(few) / cpu_seconds(lambda: oracle.run(few, [], int(few_s * 1e9)))
    print(f"\n8 replicas, HPA: {speed:.3g} requests a second of one core, {speed / slow:.0f} times SimPy")
    assert speed >= 5e6
    assert speed / slow >= 100


@pytest.mark.timeout(600)
def test_environment_steps_of_30_s_at_1000_requests_a_second(benchmark):
    run = service_at(1000, 8, scaled=True)
    run.advance(30)
    speeds = []

    def hundred_steps() -> None:
        seconds = cpu_seconds(lambda: [run.advance(run.sim.now_s + 30.0) for _ in range(100)])
        speeds.append(100 / seconds)

    benchmark.pedantic(hundred_steps, rounds=5)
    print(f"\n{max(speeds):.0f} steps a second")
    assert max(speeds) >= 150


@pytest.mark.timeout(1200)
def test_cost_is_linear_in_requests_and_nearly_flat_in_replicas(benchmark):
    costs = {}
    for replicas in (1, 4, 16, 64, 256):
        run = service_at(400.0 * replicas, replicas, scaled=False)
        run.advance(1)
        before = run.sim.totals("m").arrived
        seconds = cpu_seconds(lambda run=run, replicas=replicas: run.advance(1 + 4000 / replicas))
        costs[replicas] = 1e9 * seconds / (run.sim.totals("m").arrived - before)
    benchmark.pedantic(lambda: None, rounds=1)
    print("\n" + ", ".join(f"{replicas} replicas {cost:.0f} ns a request" for replicas, cost in costs.items()))
    assert max(costs.values()) <= 2.5 * costs[4]


@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_requests(benchmark):
    """1e8 requests here, 1e9 if KIS_BENCH_LONG is set; the resident set is read on the way."""
    requests = 1e9 if os.environ.get("KIS_BENCH_LONG") else 1e8
    run = service_at(4000, 8, scaled=False)
    run.advance(300)
    process, seen = psutil.Process(), []
    begin = process.memory_info().rss

    def long_run() -> None:
        for k in range(1, 11):
            run.advance(300 + k * requests / 4000 / 10)
            seen.append(process.memory_info().rss - begin)

    seconds = cpu_seconds(lambda: benchmark.pedantic(long_run, rounds=1))
    print(f"\n{requests:.0e} requests in {seconds:.0f} s, resident set {max(seen) / 1e6:+.1f} MB")
    assert max(seen) < 30e6


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("users", "servers"), [(6, 1), (10, 3)])
def test_machine_repair_within_2_per_mille(benchmark, users: int, servers: int):
    sim = benchmark.pedantic(lambda: finite_source(users, servers, 400_000), rounds=1)
    totals = sim.totals("m")
    throughput, response_s = machine_repair(users, servers, 0.5, 0.1)
    errors = totals.ok / sim.now_s / throughput - 1, totals.latency_s / totals.ok / response_s - 1
    print(f"\n{users} users, {servers} servers: throughput {errors[0]:+.3%}, response {errors[1]:+.3%}")
    assert max(abs(error) for error in errors) <= 0.002
