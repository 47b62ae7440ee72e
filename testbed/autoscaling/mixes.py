"""Replicas on several kinds of GPU: what a mix of them serves, what it costs, and the cheapest that serves enough.

How much a mix serves depends on who spreads the requests. A balancer that looks for the replica with the fewest gives
each what it can serve: capacities add up. One that gives every replica as many (kube-proxy, round robin) fills the
slowest first: each of the others then serves no more than that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
from pydantic import Field

from testbed.config import Strict
from testbed.simulation.cluster.config import ClusterConfig
from workloads.errors import KisError

Counts = tuple[int, ...]  # replicas of each kind, in the order of the kinds


class KindScale(Strict):
    """One kind of GPU for one model."""

    per_replica_rps: float = Field(gt=0, description="that one replica serves within the target (`kis plan` tells)")
    gpu_cost: float = Field(gt=0, description="price of a device-second, in any unit that all kinds share")


@dataclass(frozen=True)
class Mixes:
    """The mixes there can be: 1..max_replicas replicas, at most `most` of each kind.

    even: does the balancer give every replica as many requests as any other?
    """

    kinds: Mapping[str, KindScale]
    most: Counts
    max_replicas: int
    even: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Of the kinds, in their order."""
        return tuple(self.kinds)

    @cached_property
    def rates_rps(self) -> npt.NDArray[np.float64]:
        """float64[kinds]: of one replica."""
        return np.array([one.per_replica_rps for one in self.kinds.values()])

    @cached_property
    def costs(self) -> npt.NDArray[np.float64]:
        """float64[kinds]: of a device-second."""
        return np.array([one.gpu_cost for one in self.kinds.values()])

    @property
    def largest_rps(self) -> float:
        """The largest capacity of all mixes."""
        return float(self._capacities.max())

    @property
    def reference_rps(self) -> float:
        """The same for each of max_replicas."""
        return self.largest_rps / self.max_replicas

    @property
    def dearest(self) -> float:
        """What a second of the mix that costs most costs."""
        return float((self._table @ self.costs).max())

    def capacity_rps(self, counts: Sequence[int]) -> float:
        """Requests a second within the target."""
        return float(self._capacities_of(np.array([counts]))[0])

    def cheapest(self, rate_rps: float) -> Counts:
        """The mix that serves the rate at the least cost, of such the one that serves most; if none does, the cheapest
        of those that serve most."""
        enough = self._capacities >= rate_rps * (1 - 1e-9)
        place = int(np.argmax(enough)) if enough.any() else int(np.argmax(self._capacities))
        return tuple(self._table[place].tolist())

    def only(self, kind: str) -> Mixes:
        """Those of one kind alone."""
        most = tuple(one if name == kind else 0 for name, one in zip(self.names, self.most, strict=True))
        return replace(self, most=most)

    def slower(self, factor: float) -> Mixes:
        """The same where everything takes so many times as long."""
        kinds = {
            name: KindScale(per_replica_rps=one.per_replica_rps / factor, gpu_cost=one.gpu_cost)
            for name, one in self.kinds.items()
        }
        return replace(self, kinds=kinds)

    @cached_property
    def _table(self) -> npt.NDArray[np.int64]:
        """int64[mixes, kinds]: the cheapest first, of the same cost the one that serves most."""
        counts = np.array(list(product(*(range(most + 1) for most in self.most))))
        counts = counts[(counts.sum(axis=1) >= 1) & (counts.sum(axis=1) <= self.max_replicas)]
        order = np.lexsort((-self._capacities_of(counts), np.round(counts @ self.costs, 9)))
        return np.asarray(counts[order])

    @cached_property
    def _capacities(self) -> npt.NDArray[np.float64]:
        return self._capacities_of(self._table)

    def _capacities_of(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        if not self.even:
            return np.asarray(counts @ self.rates_rps)
        slowest = np.where(counts > 0, self.rates_rps, np.inf).min(axis=1)
        total = counts.sum(axis=1)
        return np.asarray(np.where(total > 0, total * np.where(total > 0, slowest, 0.0), 0.0))


def mixes_of(cluster: ClusterConfig, kinds: Mapping[str, KindScale]) -> Mixes:
    """Those of a cluster's only model on its nodes; KisError if the kinds are not those of its profiles."""
    served = cluster.models[0]
    if set(kinds) != set(served.profiles):
        raise KisError(
            f"placement has {', '.join(kinds)}, model '{served.name}' has profiles for {', '.join(served.profiles)}: "
            "give both for the same kinds"
        )
    there = dict.fromkeys(kinds, 0)
    for pool in cluster.pools:
        if pool.gpu_kind in there:
            there[pool.gpu_kind] += pool.nodes * pool.gpus * cluster.gpu_kinds[pool.gpu_kind].shares
        if "cpu" in there:
            there["cpu"] += pool.nodes * pool.cpu_replicas
    most = tuple(min(count, served.max_replicas) for count in there.values())
    if min(most) < 1:
        raise KisError(f"placement: the nodes have no room for {', '.join(k for k, n in there.items() if n < 1)}")
    return Mixes(dict(kinds), most, served.max_replicas, even=served.balancer != "least_requests")
