"""What makes nodes while pods are pending, and gives empty ones back: its settings, and how many nodes it makes. Pure.

Defaults are those of the Kubernetes cluster autoscaler and of Karpenter v1.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from testbed.config import Strict


class ClusterAutoscaler(Strict):
    """The Kubernetes cluster autoscaler: it scans the cluster, and makes nodes of the first group that fits."""

    kind: Literal["cluster_autoscaler"] = Field(description="this provisioner")
    scan_interval_s: float = Field(10.0, gt=0, description="time between two scans (--scan-interval)")
    unneeded_s: float = Field(
        600.0, ge=0, description="time for which a node has been empty when it goes (--scale-down-unneeded-time)"
    )
    delay_after_add_s: float = Field(
        600.0, ge=0, description="time after a scale-up in which no node goes (--scale-down-delay-after-add)"
    )


class Karpenter(Strict):
    """Karpenter: it collects pending pods in a window, makes the cheapest nodes, and removes empty ones (WhenEmpty)."""

    kind: Literal["karpenter"] = Field(description="this provisioner")
    batch_idle_s: float = Field(
        1.0, ge=0, description="time without a new pending pod that ends the window (BATCH_IDLE_DURATION)"
    )
    batch_max_s: float = Field(10.0, ge=0, description="longest window (BATCH_MAX_DURATION)")
    consolidate_after_s: float = Field(
        0.0, ge=0, description="time for which a node has been empty when it goes (consolidateAfter)"
    )


Provisioner = Annotated[ClusterAutoscaler | Karpenter, Field(discriminator="kind")]


@dataclass
class Group:
    """A node group, by the number of its pool. shares: of one node, by kind of device. coming: those of nodes that
    start."""

    pool: int
    shares: dict[str, int]
    nodes: int
    most: int
    coming: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A pending pod: the kinds of device that it may have, of one group alone if it is a placeholder."""

    kinds: Collection[str]
    pool: int | None = None


def nodes_for(claims: Sequence[Claim], groups: Sequence[Group]) -> tuple[dict[int, int], list[bool]]:
    """How many nodes to make, by pool, and of each claim whether a node is coming for it.

    A claim takes room of a node that starts already, else a new node of the first group below its maximum.

    Example: three pods that want a GPU, one node of two GPUs starting, groups of one GPU: two have room there, and one
    new node is made for the third.
    """
    made, helped = {group.pool: 0 for group in groups}, list[bool]()
    coming = {(group.pool, kind): group.coming.get(kind, 0) for group in groups for kind in group.shares}
    for claim in claims:
        fitting = [
            (group, kind)
            for group in groups
            if claim.pool in (None, group.pool)
            for kind in group.shares
            if kind in claim.kinds
        ]
        place = next(((group, kind) for group, kind in fitting if coming[group.pool, kind] > 0), None)
        if place is None:
            place = next((each for each in fitting if each[0].nodes + made[each[0].pool] < each[0].most), None)
            if place is not None:
                made[place[0].pool] += 1
                for kind, shares in place[0].shares.items():
                    coming[place[0].pool, kind] += shares
        if place is not None:
            coming[place[0].pool, place[1]] -= 1
        helped.append(place is not None)
    return {pool: count for pool, count in made.items() if count}, helped
