"""A configuration -> nodes, and the event loop's state with everything in its place and nothing going on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.placement import Node
from testbed.simulation.cluster.services import SimulatedService, Tables
from testbed.simulation.cluster.stream import SECOND_NS
from testbed.simulation.cluster.traffic import Users
from testbed.simulation.state import (
    BINS,
    DEVICE,
    EVENT,
    LEAST_REQUESTS,
    MODEL,
    NEVER,
    NODE,
    RANDOM,
    RATE_BUCKETS,
    ROUND_ROBIN,
    ROW,
    Sim,
)

PLACES = 4096  # for requests under way, to begin with
_BALANCERS = {"random": RANDOM, "round_robin": ROUND_ROBIN, "least_requests": LEAST_REQUESTS}


def make_nodes(config: ClusterConfig) -> list[Node]:
    """All nodes that there can be, pool by pool. A pool with GPUs and room for CPU replicas has two entries of one name
    for each node."""
    nodes: list[Node] = []
    devices = 0
    for number, pool in enumerate(config.pools):
        for k in range(pool.most):
            sides = []
            if pool.gpu_kind is not None:
                sides.append((pool.gpu_kind, config.gpu_kinds[pool.gpu_kind].shares, pool.gpus))
            if pool.cpu_replicas:
                sides.append(("cpu", 1, pool.cpu_replicas))
            for kind, shares, count in sides:
                node = Node(len(nodes), f"{pool.name}-{k}", kind, shares, devices, [0] * count, pool=number, place=k)
                node.exists = node.ready = k < pool.nodes
                nodes.append(node)
                devices += count
    return nodes


def make_sim(
    config: ClusterConfig,
    services: Sequence[SimulatedService],
    tables: Tables,
    nodes: Sequence[Node],
    users: Sequence[Users],
    seed: int,
    keep_rows: bool,
) -> Sim:
    """One row of replicas for each share of a device."""
    capacity = max(1, sum(node.capacity for node in nodes))
    factors: list[tuple[str, tuple[float, ...]]] = [("cpu", (1.0,))]
    for name, kind in config.gpu_kinds.items():
        measured = [
            service.profile.interference
            for service in services
            if service.kind == name and service.profile.interference
        ]
        factors.append((name, kind.factors(measured[0] if measured else ())))
    longest = max(len(row) for _, row in factors)
    device = np.zeros(max(1, sum(len(node.used) for node in nodes)), dtype=DEVICE)
    kinds = [name for name, _ in factors]
    for node in nodes:
        of_node = slice(node.first_device, node.first_device + len(node.used))
        device["sharing"][of_node] = kinds.index(node.kind)
        known = [service.network_s is not None for service in services if service.kind == node.kind]
        device["networks"][of_node] = bool(known) and all(known)
    leaves = 1 << max(0, (capacity - 1).bit_length())
    sim = tables.empty_sim(capacity, PLACES)
    step_s = min(service.profile.slow_phase.timescale_s for service in services) / 20
    sim.rules["slow_step_ns"] = max(1, round(step_s * SECOND_NS))
    sim.requests["id"] = -1
    sim.stream["on"], sim.stream["free"], sim.stream["seed"] = 1, PLACES, seed
    sim.stream["keeps_rows"], sim.stream["emptied"] = keep_rows, -1
    models = range(len(config.models))
    return sim._replace(
        models=np.concatenate([_model_record(m, config, services, users) for m in models]),
        endpoints=np.zeros((len(models), capacity), dtype=np.int64),
        nodes=np.zeros(max(1, len(nodes)), dtype=NODE),
        node_rates=np.zeros((max(1, len(nodes)), RATE_BUCKETS), dtype=np.int64),
        devices=device,
        sharing=np.array([[*row, *[row[-1]] * (longest - len(row))] for _, row in factors]),
        bucket_upto=_bucket_shares(config, sim.service_ns.shape[1]),
        histogram=np.zeros((len(models), BINS), dtype=np.int64),
        rows=np.zeros(4 * PLACES if keep_rows else 1, dtype=ROW),
        events=np.zeros(3 * PLACES, dtype=EVENT),
        tree=np.full(2 * leaves, NEVER),
    )


def _bucket_shares(config: ClusterConfig, buckets: int) -> npt.NDArray[np.float64]:
    """float64[models, K]: share of requests in each length bucket or one before; 1 beyond a model's own buckets."""
    shares = np.ones((len(config.models), buckets))
    for m, model in enumerate(config.models):
        if model.lengths is not None:
            shares[m, : len(model.length_buckets)] = [
                model.lengths.share_within(length_bucket) for length_bucket in model.length_buckets
            ]
        elif model.length_buckets:
            shares[m, : len(model.length_buckets) - 1] = 0.0  # all as long as can be
    return shares


def _model_record(
    m: int, config: ClusterConfig, services: Sequence[SimulatedService], users: Sequence[Users]
) -> npt.NDArray[Any]:
    model = config.models[m]
    record = np.zeros(1, dtype=MODEL)
    record["balancer"] = _BALANCERS[model.balancer]
    record["timeout_ns"] = round(model.client.timeout_s * SECOND_NS)
    record["retries"] = model.client.retries
    record["backoff_ns"] = round(model.client.backoff_s * SECOND_NS)
    record["target_ns"] = round(model.latency_target_s * SECOND_NS)
    record["max_in_flight"] = model.client.max_in_flight
    follows = model.client.retries > 0 or model.client.max_in_flight > 0 or any(user.model == m for user in users)
    record["watched"] = follows and model.client.timeout_s > 0
    overhead = next(service for service in services if service.model == m).profile.overhead
    record["per_position_ns"] = overhead.per_position_s * SECOND_NS
    record["per_size_ns"] = overhead.per_batch_size_s * SECOND_NS
    for user in users:
        if user.model == m:
            record["think_ns"] = round(user.think_s * SECOND_NS)
            record["think_random"] = user.think == "exponential"
    return record
