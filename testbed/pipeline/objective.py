"""What a policy is to take little of: GPU-seconds, or money."""

from __future__ import annotations

from typing import Literal

from testbed.simulation.cluster.config import ClusterConfig

Objective = Literal["gpu_seconds", "cost"]
DESCRIPTION = "what policies are to take little of: GPU-seconds that pods hold, or cost, the money for all nodes"


def check(objective: Objective, cluster: ClusterConfig) -> None:
    """ValueError if the cluster's money is not known, or no policy can change it."""
    if objective == "gpu_seconds":
        return
    if cluster.node_hour_prices is None:
        raise ValueError("objective is cost: give the cluster's pools or gpu_kinds a price_per_gpu_hour, and currency")
    if cluster.provisioner is None:
        raise ValueError(
            "objective is cost, and the number of nodes is fixed, so that all policies cost the same: give a pool "
            "max_nodes, and a provisioner"
        )
