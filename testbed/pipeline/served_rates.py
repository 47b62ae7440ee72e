"""Policies that rest on what one replica serves, and do not say it: taken from the profile and the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.autoscaling.policies import find_policy
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
    rate_rps = rate_within(services[0].profile, services[0].config, served.latency_target_s)
    if rate_rps <= 0:
        raise ConfigError(
            f"policy {settings['kind']}: no rate has P{PERCENTILE:g} within {1e3 * served.latency_target_s:g} ms on "
            f"one replica of '{served.name}': raise latency_target_s, or give {NAME}"
        )
    return {**settings, NAME: float(f"{rate_rps:.4g}")}
