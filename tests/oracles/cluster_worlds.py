"""Small clusters whose every number is known: no noise, no overhead, unless a test asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadgen.schedule import Schedule
from testbed.calibration.profile import Overhead, OverheadLevel, ServiceProfile, ServiceTime, SlowPhase
from testbed.run_dir import Device
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import ScheduledTraffic, Users

GPU = "h100"


def flat_profile(
    mean_s: Sequence[float] = (0.01,),
    *,
    noise: Sequence[float] = (1.0, 1.0),
    ingress_delay_s: float = 0.0,
    egress_delay_s: float = 0.0,
    inter_batch_gap_s: float = 0.0,
    cold_start_s: Sequence[float] = (2.3,),
    after_idle_s: Sequence[float] = (),
) -> ServiceProfile:
    """Batches take mean_s[b - 1] times the noise, and after_idle_s; the rest is constant."""
    level = OverheadLevel(
        replicas=1,
        instances=1,
        rate_rps=100.0,
        ingress_delay_quantiles_s=(ingress_delay_s, ingress_delay_s),
        egress_delay_quantiles_s=(egress_delay_s, egress_delay_s),
        requests=1000,
    )
    return ServiceProfile(
        model="m",
        weights="none",
        device=Device(kind="emulated", name="flat"),
        service_time=ServiceTime(
            batch_size=tuple(range(1, len(mean_s) + 1)),
            mean_s=tuple(mean_s),
            spread_s=(None,) * len(mean_s),
            batches=(1000,) * len(mean_s),
            noise_quantiles=tuple(noise),
            after_idle_s=tuple(after_idle_s),
        ),
        slow_phase=SlowPhase(sigma=0.0, timescale_s=1.0),
        inter_batch_gap_s=inter_batch_gap_s,
        overhead=Overhead(window_s=0.25, levels=(level,)),
        cold_start_s=tuple(cold_start_s),
    )


def cluster(
    *,
    gpus: int = 4,
    nodes: int = 1,
    scheduler: str = "spread",
    gpu_kind: dict[str, Any] | None = None,
    **model: Any,
) -> ClusterConfig:
    """One pool of GPU nodes that serves model "m"; `model` overrides what a ServedModel has."""
    served = {
        "name": "m",
        "profiles": {GPU: "profile.json"},
        "max_batch_size": 1,
        "balancer": "round_robin",
        "latency_target_s": 0.1,
        "pod": {"endpoint_lag_s": 0.1},
        **model,
    }
    return ClusterConfig.model_validate(
        {
            "gpu_kinds": {GPU: gpu_kind or {}},
            "pools": [{"nodes": nodes, "gpus": gpus, "gpu_kind": GPU}],
            "models": [served],
            "scheduler": scheduler,
        }
    )


def six_replicas(folder: Path) -> dict[str, Any]:
    """A cluster's configuration, with its profile in the folder: one model, up to six replicas, 250 requests/s each."""
    flat_profile([0.010, 0.012, 0.014, 0.016]).write(folder / "profile.json")
    served = {
        "name": "m",
        "profiles": {GPU: str(folder / "profile.json")},
        "max_batch_size": 4,
        "max_replicas": 6,
        "latency_target_s": 0.05,
        "pod": {"container_start_s": 1.0, "load_s": 1.0},
    }
    return {"gpu_kinds": {GPU: {}}, "pools": [{"gpus": 6, "gpu_kind": GPU}], "models": [served]}


def with_money(cluster: dict[str, Any]) -> dict[str, Any]:
    """The same cluster with one-GPU nodes at 3.6 EUR an hour, made in 20 s and given back half a minute after."""
    pool = {**cluster["pools"][0], "gpus": 1, "max_nodes": 6, "node_ready_s": 20, "price_per_gpu_hour": 3.6}
    return {
        **cluster,
        "pools": [pool],
        "currency": "EUR",
        "provisioner": {"kind": "karpenter", "consolidate_after_s": 30},
    }


def simulate(
    config: ClusterConfig,
    arrivals_s: Sequence[float] = (),
    profile: ServiceProfile | None = None,
    *,
    users: Sequence[Users] = (),
    seed: int = 0,
    keep_rows: bool = True,
) -> KISim:
    """A KISim of that cluster at time 0."""
    services = [
        make_service(m, model, kind, profile or flat_profile())
        for m, model in enumerate(config.models)
        for kind in model.profiles
    ]
    times = np.rint(np.array(arrivals_s, dtype=float) * 1e9).astype(np.int64)
    schedule = Schedule(times, np.full(len(times), "m", dtype=object), float(times[-1] / 1e9) if len(times) else 1.0)
    traffic = ScheduledTraffic(schedule, [model.name for model in config.models]) if len(times) else None
    return KISim(config, services, traffic, users=users, seed=seed, keep_rows=keep_rows)


def finite_source(users: int, servers: int, until_s: float, seed: int = 2) -> KISim:
    """One replica with `servers` instances, no batching, exponential service (as a quantile table)."""
    quantiles = -np.log(1 - (np.arange(20_000) + 0.5) / 20_000)
    profile = flat_profile([0.1], noise=(quantiles / quantiles.mean()).tolist())
    config = cluster(instances=servers, dynamic_batching=None, client={"timeout_s": 0})
    group = Users(0, ((0.0, users),), think_s=0.5, think="exponential")
    sim = simulate(config, (), profile, users=[group], seed=seed, keep_rows=False)
    sim.advance(until_s)
    return sim
