"""Small random clusters, each run by KISim and by the SimPy model of the same rules."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from loadgen.schedule import Schedule
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import ScheduledTraffic, Users
from testbed.simulation.rules import BatchingRules
from tests.oracles import simpy_cluster, splitmix
from tests.oracles.cluster_worlds import flat_profile

UNTIL_S = 30.0
KINDS = ("h100", "t4")
FEATURES = frozenset(
    {"balancers", "queues", "nodes", "sharing", "models", "crashes", "node_loss", "drops", "starts", "slow_down"}
)


def ns(value_s: float) -> int:
    return round(value_s * 1e9)


class Draw:
    """Random values of a world. Times are whole nanoseconds, so that both models are given the same ones."""

    def __init__(self, seed: int, features: Collection[str]) -> None:
        self.rng, self.features = random.Random(seed), features

    def with_(self, feature: str, share: float = 0.5) -> bool:
        """Has this world that feature?"""
        return self.rng.random() < share and feature in self.features

    def between(self, low: float, high: float) -> float:
        return round(self.rng.uniform(low, high), 9)

    def one_of(self, values: Sequence[Any]) -> Any:
        return self.rng.choice(values)

    def number(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)


def _gpu_kind(draw: Draw) -> dict[str, Any]:
    if not draw.with_("sharing"):
        return {}
    shares = draw.number(2, 3)
    factors = [1.0, *(draw.between(1.0, 2.5) for _ in range(shares - 1))]
    return draw.one_of(
        [
            {"sharing": "time_slicing", "shares": shares},
            {"sharing": "time_slicing", "shares": shares, "interference": factors},
            {"sharing": "mps", "shares": shares, "interference": factors[: draw.number(1, shares)]},
            {"sharing": "mig", "shares": shares},
        ]
    )


def _model(draw: Draw, name: str, kinds: Sequence[str]) -> dict[str, Any]:
    batch = draw.number(1, 4)
    rules: dict[str, Any] | None = {"max_queue_delay_s": draw.one_of([0.0, 0.0, 0.03])}
    if draw.with_("queues"):
        rules["preferred_batch_sizes"] = draw.rng.sample(range(1, batch + 1), draw.number(0, min(2, batch)))
        rules["default_timeout_s"] = draw.one_of([0.0, 0.3])
        rules["timeout_action"] = draw.one_of(["REJECT", "DELAY"])
        rules["max_queue_size"] = draw.one_of([0, draw.number(1, 6)])
    elif draw.with_("queues", 0.2):
        rules = None
    client = draw.one_of([{}, {"timeout_s": 0.5}, {"timeout_s": 0.4, "retries": 2, "backoff_s": 0.05}])
    if draw.with_("drops"):
        client = {**client, "max_in_flight": draw.number(2, 8)}
    pod = {
        "schedule_s": draw.between(0.01, 2.0),
        "container_start_s": draw.between(0.01, 2.0),
        "load_s": draw.between(0.01, 2.0),
        "probe_period_s": draw.one_of([0.5, 1.0]),
        "endpoint_lag_s": draw.between(0.0, 0.3),
        "grace_period_s": draw.one_of([1000.0, draw.between(0.1, 3.0)]),
        "pre_stop_s": draw.one_of([0.0, draw.between(0.0, 1.0)]),
        "restart_backoff_s": draw.between(0.4, 2.0),
        "node_lost_s": draw.between(0.1, 3.0),
        "eviction_s": draw.between(0.1, 3.0),
    }
    if draw.with_("starts"):
        pod["image_pull_s"] = draw.one_of([0.0, draw.between(0.1, 3.0)])
        pod["start_together_s"] = draw.one_of([0.0, draw.between(0.1, 1.0)])
        pod["start_slows"] = draw.one_of([0.0, draw.between(0.1, 1.0)])
    return {
        "name": name,
        "profiles": dict.fromkeys(kinds, "profile.json"),
        "replicas": draw.number(1, 2),
        "replicas_of_kind": {draw.one_of(kinds): 1} if draw.with_("nodes", 0.4) else {},
        "instances": draw.number(1, 2),
        "max_batch_size": batch,
        "dynamic_batching": rules,
        "balancer": draw.one_of(["random", "round_robin", "least_requests"])
        if draw.with_("balancers", 0.8)
        else "round_robin",
        "latency_target_s": 0.1,
        "client": client,
        "pod": pod,
    }


def _commands(draw: Draw, config: ClusterConfig) -> list[tuple[float, str, tuple[Any, ...]]]:
    """(second, what, its arguments). Of a crash it is how many running pods are passed over."""
    commands: list[tuple[float, str, tuple[Any, ...]]] = []
    for m in range(len(config.models)):
        for _ in range(draw.number(0, 4)):
            commands.append((draw.between(0, 25), "scale", (m, draw.one_of([0, 1, 1, 2, 2, 3, 4, 5]))))
        if draw.with_("slow_down", 0.3):
            commands.append((draw.between(0, 25), "slow_down", (m, draw.between(0.5, 2.0))))
    if draw.with_("crashes"):
        commands += [(draw.between(1, 25), "crash", (draw.number(0, 5),)) for _ in range(draw.number(1, 4))]
    if draw.with_("node_loss"):
        names = [f"{pool.name}-{k}" for pool in config.pools for k in range(pool.nodes)]
        commands.append((draw.between(3, 20), "lose_node", (draw.one_of(names),)))
    return sorted(commands, key=lambda command: command[0])


def both(seed: int, features: Collection[str] = FEATURES) -> tuple[KISim, simpy_cluster.Cluster]:
    """One random cluster, run by the simulator and by the oracle."""
    draw = Draw(seed, features)
    kinds = KINDS[: draw.number(1, 2)] if draw.with_("nodes", 0.7) else KINDS[:1]
    gpu_kinds = {kind: _gpu_kind(draw) for kind in kinds}
    pools = [
        {
            "name": kind,
            "nodes": draw.number(1, 2) if draw.with_("nodes", 0.7) else 1,
            "gpus": draw.number(2, 3) if "nodes" in features else draw.number(1, 4),
            "gpu_kind": kind,
        }
        for kind in kinds
    ]
    names = ["m", "n"] if draw.with_("models") else ["m"]
    served = [_model(draw, name, kinds[: draw.number(1, len(kinds))]) for name in names]
    scheduler = draw.one_of(["spread", "bin_pack"]) if "nodes" in features else "spread"
    room = min(pool["gpus"] for pool in pools)  # whatever kind the others have taken
    if sum(model["replicas"] + len(model["replicas_of_kind"]) for model in served) > room:
        served = [{**model, "replicas": int(m < room), "replicas_of_kind": {}} for m, model in enumerate(served)]
    config = ClusterConfig.model_validate(
        {"gpu_kinds": gpu_kinds, "pools": pools, "models": served, "scheduler": scheduler}
    )
    closed = draw.rng.random() < 0.4
    users, services, settings, arrivals = [], [], [], []
    noise_points = draw.number(2, 5)
    for m, model in enumerate(config.models):
        mean_s = {kind: [draw.between(0.02, 0.4) for _ in range(model.max_batch_size)] for kind in model.profiles}
        noise = sorted(draw.rng.uniform(0.5, 1.5) for _ in range(noise_points))
        ingress_delay_s, egress_delay_s, pause_s = (draw.one_of([0.0, draw.between(0, 0.01)]) for _ in range(3))
        services += [
            make_service(
                m,
                model,
                kind,
                flat_profile(
                    mean_s[kind],
                    noise=noise,
                    ingress_delay_s=ingress_delay_s,
                    egress_delay_s=egress_delay_s,
                    inter_batch_gap_s=pause_s,
                ),
            )
            for kind in model.profiles
        ]
        think_s = draw.between(0.05, 0.3)
        if closed:
            counts = [(0.0, draw.number(1, 5))]
            for low_s, high_s in ((5.0, 5.2), (5.2, 5.4), (10.0, 15.0)):  # some come back while others still think
                counts.append((draw.between(low_s, high_s), draw.number(0, 6)))
            users.append(Users(m, tuple(counts), think_s=think_s))
        else:
            arrivals += [(draw.between(0, UNTIL_S), m) for _ in range(draw.number(1, 150))]
        settings.append(_setting(model, mean_s, noise, (ingress_delay_s, egress_delay_s, pause_s), think_s))
    arrivals.sort()
    sim = KISim(config, services, _traffic(arrivals, names), users=users, seed=seed, keep_rows=True)
    changes = [
        (ns(second), lambda cluster, m=group.model, count=count: cluster.set_users(m, count))
        for group in users
        for second, count in group.counts
    ]
    changes += [one for command in _commands(draw, config) for one in _obey(sim, names, *command)]
    sim.advance(UNTIL_S)
    oracle = simpy_cluster.Cluster(
        [
            simpy_cluster.NodeSetting(
                f"{pool.name}-{k}",
                pool.gpu_kind,
                pool.gpus,
                kind.shares,
                _factors(kind.sharing, kind.shares, kind.interference),
            )
            for pool in config.pools
            if pool.gpu_kind is not None
            for kind in [config.gpu_kinds[pool.gpu_kind]]
            for k in range(pool.nodes)
        ],
        settings,
        splitmix.of_run(seed),
        scheduler,
    )
    oracle.run([(ns(second), m) for second, m in arrivals], sorted(changes, key=lambda one: one[0]), ns(UNTIL_S))
    return sim, oracle


def _factors(sharing: str, shares: int, interference: tuple[float, ...]) -> tuple[float, ...]:
    if interference:
        return interference
    return tuple(map(float, range(1, shares + 1))) if sharing == "time_slicing" else (1.0,)


def _traffic(arrivals: list[tuple[float, int]], names: list[str]) -> ScheduledTraffic | None:
    if not arrivals:
        return None
    models = np.array([names[m] for _, m in arrivals], dtype=object)
    times = np.array([ns(second) for second, _ in arrivals], dtype=np.int64)
    return ScheduledTraffic(Schedule(times, models, UNTIL_S), names)


def _obey(
    sim: KISim, names: list[str], second: float, what: str, arguments: tuple[Any, ...]
) -> list[tuple[int, Callable[[simpy_cluster.Cluster], None]]]:
    """Give the simulator a command; returns the same command for the oracle, if there is anything to do."""
    sim.advance(second)
    if what == "scale":
        m, replicas = arguments
        sim.scale(names[m], replicas)
        return [(ns(second), lambda cluster: cluster.scale(m, replicas))]
    if what == "slow_down":
        m, factor = arguments
        sim.slow_down(names[m], factor)
        return [(ns(second), lambda cluster: cluster.slow_down(m, factor))]
    if what == "lose_node":
        sim.lose_node(*arguments)
        return [(ns(second), lambda cluster: cluster.lose_node(*arguments))]
    lost = {node.number for node in sim.nodes if node.lost}
    running = [
        pod.number for pod in sim.pods if pod.started_ns is not None and pod.gone_ns is None and pod.node not in lost
    ]
    if not running:
        return []
    number = running[arguments[0] % len(running)]
    sim.crash(number)
    return [(ns(second), lambda cluster: cluster.crash(cluster.pods[number]))]


def _setting(
    model: Any,
    mean_s: dict[str, list[float]],
    noise: list[float],
    overhead_s: tuple[float, float, float],
    think_s: float,
) -> simpy_cluster.ModelSetting:
    pod, client, batching = model.pod, model.client, model.dynamic_batching
    ingress_delay_ns, egress_delay_ns, pause_ns = map(ns, overhead_s)
    if batching is None:
        rules = BatchingRules(max_batch_size=model.max_batch_size, instances=model.instances, dynamic=False)
    else:
        rules = BatchingRules(
            max_batch_size=model.max_batch_size,
            instances=model.instances,
            preferred_batch_sizes=batching.preferred_batch_sizes,
            max_queue_delay_ns=ns(batching.max_queue_delay_s),
            default_timeout_ns=ns(batching.default_timeout_s),
            timeout_action=batching.timeout_action,
            max_queue_size=batching.max_queue_size,
        )
    return simpy_cluster.ModelSetting(
        rules=rules,
        service_ns={kind: [0.0, *(mean * 1e9 for mean in means)] for kind, means in mean_s.items()},
        noise=noise,
        replicas=model.replicas,
        balancer=model.balancer,
        replicas_of_kind=model.replicas_of_kind,
        ingress_delay_ns=ingress_delay_ns,
        egress_delay_ns=egress_delay_ns,
        pause_ns=pause_ns,
        schedule_ns=ns(pod.schedule_s),
        pull_ns=ns(pod.image_pull_s),
        start_ns=ns(pod.container_start_s),
        start_together_ns=ns(pod.start_together_s),
        start_slows=pod.start_slows,
        load_ns=ns(pod.load_s),
        probe_ns=ns(pod.probe_period_s),
        lag_ns=ns(pod.endpoint_lag_s),
        pre_stop_ns=ns(pod.pre_stop_s),
        grace_ns=ns(pod.grace_period_s),
        backoff_ns=ns(pod.restart_backoff_s),
        node_lost_ns=ns(pod.node_lost_s),
        eviction_ns=ns(pod.eviction_s),
        timeout_ns=ns(client.timeout_s),
        retries=client.retries,
        retry_ns=ns(client.backoff_s),
        max_in_flight=client.max_in_flight,
        think_ns=ns(think_s),
    )
