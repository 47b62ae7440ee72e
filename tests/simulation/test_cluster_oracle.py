"""Timelines and requests of small random clusters are those of the SimPy model of the same rules."""

from __future__ import annotations

import random

import pytest

from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.traffic import Users
from testbed.simulation.rules import BatchingRules
from testbed.simulation.state import CLIENT_TIMEOUT, NO_ENDPOINT, OK
from tests.oracles import simpy_cluster
from tests.oracles.cluster_worlds import cluster, flat_profile, simulate

STATUS = {OK: "ok", CLIENT_TIMEOUT: "timeout", NO_ENDPOINT: "no endpoint"}
UNTIL_S = 30.0


def both(seed: int) -> tuple[KISim, simpy_cluster.Cluster]:
    """One random world, run by the simulator and by the oracle."""
    rng = random.Random(seed)
    batch, instances = rng.randint(1, 4), rng.randint(1, 2)
    mean_s = [round(rng.uniform(0.02, 0.4), 6) for _ in range(batch)]
    noise = sorted(rng.uniform(0.5, 1.5) for _ in range(rng.randint(2, 5)))
    delay_s = rng.choice([0.0, 0.0, 0.03])
    ingress_delay_s, egress_delay_s, pause_s = (rng.choice([0.0, rng.uniform(0, 0.01)]) for _ in range(3))
    ingress_delay_s, egress_delay_s, pause_s = (round(x, 9) for x in (ingress_delay_s, egress_delay_s, pause_s))
    times = {name: round(rng.uniform(0.01, 2.0), 9) for name in ("schedule_s", "container_start_s", "load_s")}
    probe_s, lag_s = rng.choice([0.5, 1.0]), round(rng.uniform(0.0, 0.3), 9)
    gpus = rng.randint(1, 4)
    client = rng.choice([{}, {"timeout_s": 0.5}, {"timeout_s": 0.4, "retries": 2, "backoff_s": 0.05}])
    closed = rng.random() < 0.4
    think_s = round(rng.uniform(0.01, 0.3), 9)
    profile = flat_profile(
        mean_s, noise=noise, ingress_delay_s=ingress_delay_s, egress_delay_s=egress_delay_s, inter_batch_gap_s=pause_s
    )
    config = cluster(
        gpus=gpus,
        replicas=rng.randint(1, gpus),
        instances=instances,
        max_batch_size=batch,
        dynamic_batching={"max_queue_delay_s": delay_s},
        client=client,
        pod={**times, "probe_period_s": probe_s, "endpoint_lag_s": lag_s, "grace_period_s": 1000.0},
    )
    arrivals = sorted(round(rng.uniform(0, UNTIL_S), 9) for _ in range(0 if closed else rng.randint(1, 150)))
    scales = sorted((round(rng.uniform(0, 25), 9), rng.randint(0, gpus + 2)) for _ in range(rng.randint(0, 5)))
    counts = [(0.0, rng.randint(1, 5))] if closed else []
    for low_s, high_s in ((5.0, 5.2), (5.2, 5.4), (10.0, 15.0)):  # some come back while others still think
        counts += [(round(rng.uniform(low_s, high_s), 9), rng.randint(0, 6))] if closed else []
    users = [Users(0, tuple(counts), think_s=think_s)] if closed else []
    sim = simulate(config, arrivals, profile, users=users, seed=seed)
    for time_s, replicas in scales:
        sim.advance(time_s)
        sim.scale("m", replicas)
    sim.advance(UNTIL_S)

    def ns(value_s: float) -> int:
        return round(value_s * 1e9)

    served = config.models[0]
    oracle = simpy_cluster.Cluster(
        simpy_cluster.Setting(
            gpus=gpus,
            replicas=served.replicas,
            rules=BatchingRules(max_batch_size=batch, instances=instances, max_queue_delay_ns=ns(delay_s)),
            service_ns=[0.0, *(one * 1e9 for one in mean_s)],
            noise=noise,
            seed=int(sim.stream.sim.stream[0]["seed"]),
            ingress_delay_ns=ns(ingress_delay_s),
            egress_delay_ns=ns(egress_delay_s),
            pause_ns=ns(pause_s),
            schedule_ns=ns(times["schedule_s"]),
            start_ns=ns(times["container_start_s"]),
            load_ns=ns(times["load_s"]),
            probe_ns=ns(probe_s),
            lag_ns=ns(lag_s),
            timeout_ns=ns(served.client.timeout_s),
            retries=served.client.retries,
            backoff_ns=ns(served.client.backoff_s),
            think_ns=ns(think_s),
        )
    )
    oracle.run(
        [ns(one) for one in arrivals],
        [(ns(time_s), count) for time_s, count in scales],
        [(ns(time_s), count) for time_s, count in counts],
        ns(UNTIL_S),
    )
    return sim, oracle


def assert_agreement(seed: int) -> None:
    sim, oracle = both(seed)

    def life(pod, names: list[str]) -> list[int]:
        return [-1 if getattr(pod, name) is None else getattr(pod, name) for name in names]

    names = ["requested", "scheduled", "started", "ready", "serving", "deleted", "gone"]
    ours = [life(pod, [f"{name}_ns" for name in names]) for pod in sim.pods]
    # A pod that crashed or ended before it served keeps the times that it had.
    theirs = [life(pod, names) for pod in oracle.pods]
    assert ours == theirs, f"pods of world {seed}"
    rows = {
        int(row["id"]): (
            int(row["scheduled_ns"]),
            int(row["completed_ns"]),
            STATUS[int(row["status"])],
            int(row["attempt"]),
        )
        for row in sim.all_rows()
    }
    asks = {
        ask.number: (ask.scheduled_ns, ask.completed_ns, ask.status, ask.attempt) for ask in oracle.asks if ask.status
    }
    assert rows == asks, f"requests of world {seed}"


@pytest.mark.parametrize("block", range(4))
def test_simulator_and_simpy_model_agree_on_every_pod_and_every_request(block: int):
    for seed in range(block * 100, (block + 1) * 100):
        assert_agreement(seed)
