"""Worlds with several kinds of GPU: those of scenarios.py, started with the cheapest mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from testbed.autoscaling.mixes import KindScale, Mixes, mixes_of
from testbed.calibration.profile import ServiceProfile
from testbed.kiscaler.scenarios import Ranges, Scenario, Scenarios
from testbed.simulation.cluster.config import ClusterConfig


@dataclass(frozen=True)
class PlacementScenarios(Scenarios):
    """mixes: at the profiles' own batch times. per_replica_rps is their reference; `placement_scenarios` makes one."""

    mixes: Mixes = field(kw_only=True)

    def mixes_in(self, world: Scenario) -> Mixes:
        """As fast or slow as that world is."""
        return self.mixes.slower(self.per_replica_rps / world.scale.per_replica_rps)

    def _start(self, needed: float) -> dict[str, object]:
        counts = self.mixes.cheapest(needed * self.per_replica_rps)
        return {"replicas": 0, "replicas_of_kind": dict(zip(self.mixes.names, counts, strict=True))}


def placement_scenarios(
    cluster: ClusterConfig,
    profiles: dict[str, ServiceProfile],
    kinds: Mapping[str, KindScale],
    ranges: Ranges | None = None,
    step_s: float = 5.0,
) -> PlacementScenarios:
    """Peak loads of the ranges are of what the largest mix serves. KisError if the kinds do not fit the cluster."""
    mixes = mixes_of(cluster, kinds)
    return PlacementScenarios(cluster, profiles, mixes.reference_rps, ranges or Ranges(), step_s, mixes=mixes)
