"""A cluster with two kinds of GPU, whose every number is known: "fast" takes half of the time of "slow"."""

from __future__ import annotations

from typing import Any

from loadgen.schedule import Schedule
from testbed.calibration.profile import ServiceProfile
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service
from testbed.simulation.cluster.traffic import ScheduledTraffic
from tests.oracles.cluster_worlds import flat_profile

MEAN_S = {"fast": (0.010, 0.012, 0.014, 0.016), "slow": (0.020, 0.024, 0.028, 0.032)}


def profiles() -> dict[str, ServiceProfile]:
    """By kind."""
    return {kind: flat_profile(mean_s) for kind, mean_s in MEAN_S.items()}


def two_kinds(*, fast: int = 4, slow: int = 4, **model: Any) -> ClusterConfig:
    """A pool of each kind, one node each; `model` overrides what a ServedModel has."""
    served = {
        "name": "m",
        "profiles": dict.fromkeys(MEAN_S, "profile.json"),
        "replicas": 0,
        "max_batch_size": 4,
        "max_replicas": 8,
        "balancer": "least_requests",
        "latency_target_s": 0.1,
        "pod": {"container_start_s": 1.0, "load_s": 1.0},
        **model,
    }
    pools = [{"name": kind, "gpus": gpus, "gpu_kind": kind} for kind, gpus in (("fast", fast), ("slow", slow))]
    return ClusterConfig.model_validate(
        {"gpu_kinds": {kind: {} for kind in MEAN_S}, "pools": pools, "models": [served]}
    )


def start(config: ClusterConfig, schedule: Schedule | None = None) -> KISim:
    """That cluster at second 0."""
    services = [make_service(0, config.models[0], kind, profile) for kind, profile in profiles().items()]
    return KISim(config, services, None if schedule is None else ScheduledTraffic(schedule, ["m"]), keep_rows=True)
