"""What a service says of itself that policies and searches rest on: taken from its profile, its target and its pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loadgen.schedule import Schedule
from testbed.autoscaling.metrics import ReplicaCapacity
from testbed.autoscaling.policies import find_policy
from testbed.autoscaling.search import ServedService
from testbed.errors import ConfigError
from testbed.simulation.cluster.config import ServedModel
from testbed.simulation.cluster.services import SimulatedService
from testbed.simulation.load_curve import PERCENTILE, rate_within

NAME = "replica_capacity_rps"


def with_served_rate(
    settings: Mapping[str, Any], served: ServedModel, services: Sequence[SimulatedService]
) -> dict[str, Any]:
    """A policy's settings with replica_capacity_rps, if it takes one and has none; ConfigError: there is none.

    services: of the model that is scaled, one for each kind of device.
    """
    if NAME not in find_policy(settings.get("kind")).__dataclass_fields__ or NAME in settings:
        return dict(settings)
    if len(services) > 1:
        kinds = ", ".join(service.kind for service in services)
        why = f"'{served.name}' runs on several kinds ({kinds})"
        raise ConfigError(f"policy {settings['kind']}: give {NAME}, as {why}")
    return {**settings, NAME: served_rps(served, services[0], f"policy {settings['kind']}", NAME)}


def served_rps(served: ServedModel, service: SimulatedService, whose: str, key: str) -> float:
    """Requests a second that one replica serves within the target; ConfigError: none, and `key` has to be given."""
    rate_rps = rate_within(service.profile, service.config, served.latency_target_s)
    if rate_rps <= 0:
        raise ConfigError(
            f"{whose}: no rate has P{PERCENTILE:g} within {1e3 * served.latency_target_s:g} ms on one replica of "
            f"'{served.name}': raise latency_target_s, or give {key}"
        )
    return float(f"{rate_rps:.4g}")


def served_service(
    served: ServedModel, services: Sequence[SimulatedService], metrics_delay_s: float, window_s: float
) -> ServedService:
    """What a search is told of the service. ConfigError: it serves nothing within the target, or its start-up is not
    known. Of several kinds of device: of the first one."""
    service = services[0]
    batch = served.max_batch_size if served.dynamic_batching is not None else 1
    full_rps = served.instances * batch / service.profile.service_time.mean_s[batch - 1]
    target_rps = served_rps(served, service, "kis tune", "another latency_target_s")
    load_s = served.pod.load_s
    if load_s is None and service.profile.cold_start_s:
        load_s = float(np.mean(service.profile.cold_start_s))
    if load_s is None:
        raise ConfigError(f"model '{served.name}': its profile has no cold start: set pod.load_s")
    return ServedService(
        ReplicaCapacity(served.instances, batch, full_rps, target_rps, served.latency_target_s),
        served.max_replicas,
        served.pod.provisioning_delay_s(load_s),
        metrics_delay_s,
        window_s,
    )


def needed_at_first(schedule: Schedule, service: ServedService) -> int:
    """Replicas for the arrivals of the first start-up time: with fewer, a run begins with a queue that no policy could
    have kept from growing."""
    seconds = min(service.provisioning_delay_s, schedule.duration_s)
    arrived = int(np.searchsorted(schedule.scheduled_s, seconds))
    needed = int(np.ceil(arrived / seconds / service.replica.target_rps))
    return min(max(needed, 1), service.max_replicas)


def completed(settings: Mapping[str, Any], service: ServedService) -> dict[str, Any]:
    """A policy's settings with what the service says of itself, where the policy takes it and has not got it."""
    told = {
        NAME: service.replica.target_rps,
        "latency_target_s": service.replica.latency_target_s,
        "provisioning_delay_s": service.provisioning_delay_s,
        "max_replicas": service.max_replicas,
        "metrics_delay_s": service.metrics_delay_s,
    }
    fields = find_policy(settings.get("kind")).__dataclass_fields__
    if "flags" in fields:  # it reads the cluster's adapter
        told["window_s"] = service.window_s
    return {**{key: value for key, value in told.items() if key in fields}, **settings}
