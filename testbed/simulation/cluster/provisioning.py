"""The nodes' lifecycle: made while pods are pending, ready after a while, given back when they have been empty.

A node of a group is in a place of its pool: event loop and devices have all places from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from testbed.simulation.cluster.agenda import Agenda, NodeEvent, NodeStep
from testbed.simulation.cluster.config import NodePool
from testbed.simulation.cluster.placement import Node, best_node
from testbed.simulation.cluster.pods import Pod
from testbed.simulation.cluster.provisioners import Claim, ClusterAutoscaler, Group, Karpenter, nodes_for
from testbed.simulation.cluster.state import ClusterState
from testbed.simulation.cluster.stream import SECOND_NS


@dataclass
class Place:
    """Of one node: its entries, one by kind of device, and since when it has been empty. plan: see NodeEvent."""

    sides: list[Node]
    empty_ns: int | None = None
    plan: int = 0

    @property
    def pool(self) -> int:
        """Its number."""
        return self.sides[0].pool

    @property
    def exists(self) -> bool:
        """Is a node there, or starting?"""
        return self.sides[0].exists

    @property
    def serves(self) -> bool:
        """Do pods run there, or could they?"""
        return self.exists and self.sides[0].ready and not self.sides[0].lost

    @property
    def empty(self) -> bool:
        """No pod has a share of it, no placeholder either."""
        return not any(sum(side.used) or side.placeholders for side in self.sides)


class NodeLifecycle:
    """The provisioner of a cluster, on its node groups.

    pending: pods that the scheduler has no room for. has_room: tells the scheduler of a new node.
    """

    def __init__(
        self,
        state: ClusterState,
        agenda: Agenda,
        seed: int,
        pending: Callable[[], Sequence[Pod]],
        has_room: Callable[[], None],
    ) -> None:
        self._state, self._agenda, self._seed = state, agenda, seed
        self._pending, self._has_room = pending, has_room
        self._settings, pools = state.config.provisioner, state.config.pools
        by_place: dict[tuple[int, int], list[Node]] = {}
        for node in state.nodes:
            if pools[node.pool].max_nodes is not None:
                by_place.setdefault((node.pool, node.place), []).append(node)
        self._places = [Place(sides) for sides in by_place.values()]
        self._groups = [number for number, pool in enumerate(pools) if pool.max_nodes is not None]
        prices = state.config.node_hour_prices
        if prices is not None and isinstance(self._settings, Karpenter):
            self._groups.sort(key=lambda number: prices[number])
        self.made = [0] * len(pools)  # nodes, so far
        self._last_add_ns: int | None = None
        self._window_ns: int | None = None  # when Karpenter's window opened; None: it is closed
        self._window_plan = 0
        if isinstance(self._settings, ClusterAutoscaler):
            self._plan(self._settings.scan_interval_s, "scan")

    def start_with(self, kinds: Sequence[str]) -> bool:
        """Before the run: one more node that is ready, for a replica that runs on one of these kinds; False: all are
        there."""
        wanted, _ = nodes_for([Claim(kinds)], self._now())
        for pool in wanted:
            self._make(pool, starts=False)
        return bool(wanted)

    def happen(self, event: NodeEvent) -> None:
        """An event of the agenda whose time has come."""
        if event.step == "scan":
            self._on_scan()
        elif event.step == "ready":
            self._on_ready(self._places[event.node], event.plan)
        elif event.step == "empty":
            self._remove_empty()
        elif event.plan == self._window_plan:
            self._window_ns = None
            self._make_missing()

    def settle(self, new_pod: bool = False) -> None:
        """After a change of pods or nodes: lost nodes end with their pods, placeholders go where there is room, and
        Karpenter looks at once. new_pod: one has just become pending."""
        for place in self._places:
            if place.exists and place.sides[0].lost:
                for side in place.sides:
                    side.placeholders = 0
                if place.empty:
                    self._remove(place)
        self._place_placeholders()
        if isinstance(self._settings, Karpenter):
            self._note_empty(self._settings.consolidate_after_s)
            self._remove_empty()
            self._collect(self._settings, new_pod)

    def coming_for(self) -> set[int]:
        """Numbers of the pending pods that a node is coming for, or will be asked for; the others find all groups at
        their maximum."""
        pods = self._pending()
        _, helped = nodes_for(self._claims(pods), self._now())
        return {pod.number for pod, coming in zip(pods, helped, strict=False) if coming}

    # What the provisioner sees.

    def _claims(self, pods: Sequence[Pod]) -> list[Claim]:
        models, pools = self._state.config.models, self._state.config.pools
        claims = [Claim(list(models[pod.model].profiles) if pod.kind is None else [pod.kind]) for pod in pods]
        for number in self._groups:
            claims += [Claim([_kind_of(pools[number])], number)] * self._placeholders_pending(number)
        return claims

    def _placeholders_pending(self, pool: int) -> int:
        return self._state.config.pools[pool].placeholders - sum(
            side.placeholders for place in self._places if place.pool == pool for side in place.sides
        )

    def _now(self) -> list[Group]:
        """The groups, in the order in which they are taken."""
        groups = []
        for number in self._groups:
            own = [place for place in self._places if place.pool == number]
            there = [place for place in own if place.exists]
            shares = {side.kind: side.capacity for side in own[0].sides}
            coming = sum(not place.sides[0].ready and not place.sides[0].lost for place in there)
            ahead = {kind: coming * count for kind, count in shares.items()}
            groups.append(Group(number, shares, len(there), len(own), ahead))
        return groups

    # What it does.

    def _on_scan(self) -> None:
        settings, now_ns = self._settings, self._state.now_ns
        assert isinstance(settings, ClusterAutoscaler)
        self._plan(settings.scan_interval_s, "scan")
        if self._make_missing():
            self._last_add_ns = now_ns
            return
        for place in self._places:
            if not (place.serves and place.empty):
                place.empty_ns = None
            elif place.empty_ns is None:
                place.empty_ns = now_ns
        waits_ns = round(settings.delay_after_add_s * SECOND_NS)
        if self._last_add_ns is None or now_ns - self._last_add_ns >= waits_ns:
            self._remove_empty()

    def _make_missing(self) -> bool:
        """Nodes for what is pending; False: none was made."""
        wanted, _ = nodes_for(self._claims(self._pending()), self._now())
        for pool, count in wanted.items():
            for _ in range(count):
                self._make(pool)
        return bool(wanted)

    def _make(self, pool: int, starts: bool = True) -> None:
        number, place = next((k, place) for k, place in enumerate(self._places) if _is_free(place, pool))
        place.plan += 1
        for side in place.sides:
            side.exists, side.ready, side.lost = True, not starts, False
            side.made_ns = self._state.now_ns
        if starts:
            rng = np.random.default_rng(np.random.SeedSequence((self._seed, pool, self.made[pool], 3)))
            self.made[pool] += 1
            ready_s = float(rng.choice(self._state.config.pools[pool].node_ready_s))
            self._plan(ready_s, "ready", number, place.plan)

    def _on_ready(self, place: Place, plan: int) -> None:
        if place.plan != plan or place.sides[0].lost:
            return
        for side in place.sides:
            side.ready = True
        self._has_room()
        self.settle()

    def _note_empty(self, after_s: float) -> None:
        for place in self._places:
            if not (place.serves and place.empty):
                place.empty_ns = None
            elif place.empty_ns is None:
                place.empty_ns = self._state.now_ns
                self._plan(after_s, "empty")

    def _remove_empty(self) -> None:
        """Of those that have been empty for long enough, as many as their group has beyond its minimum."""
        settings, pools = self._settings, self._state.config.pools
        assert settings is not None
        after_s = settings.unneeded_s if isinstance(settings, ClusterAutoscaler) else settings.consolidate_after_s
        for place in self._places:
            due = place.empty_ns is not None and place.serves and place.empty
            if due and self._state.now_ns - (place.empty_ns or 0) >= round(after_s * SECOND_NS):
                there = sum(other.exists for other in self._places if other.pool == place.pool)
                if there > pools[place.pool].min_nodes:
                    self._remove(place)

    def _remove(self, place: Place) -> None:
        place.empty_ns = None
        place.plan += 1
        for side in place.sides:
            side.existed_ns = side.exists_ns(self._state.now_ns)
            side.exists = side.ready = side.lost = False
            side.images.clear()
            side.weights.clear()

    def _place_placeholders(self) -> None:
        for number in self._groups:
            kind = _kind_of(self._state.config.pools[number])
            own = [side for place in self._places if place.pool == number for side in place.sides]
            for _ in range(self._placeholders_pending(number)):
                node = best_node(own, [kind], self._state.config.scheduler)
                if node is None:
                    break
                node.placeholders += 1

    def _collect(self, settings: Karpenter, new_pod: bool) -> None:
        """Karpenter's window: it opens with a pod that a node could be made for, and each new pod makes it longer."""
        now_ns = self._state.now_ns
        if self._window_ns is None:
            wanted, _ = nodes_for(self._claims(self._pending()), self._now())
            if not wanted:
                return
            self._window_ns = now_ns
        elif not new_pod:
            return
        left_s = settings.batch_max_s - (now_ns - self._window_ns) / SECOND_NS
        self._window_plan += 1
        self._plan(max(0.0, min(settings.batch_idle_s, left_s)), "batch", plan=self._window_plan)

    def _plan(self, delay_s: float, step: NodeStep, node: int = -1, plan: int = 0) -> None:
        self._agenda.push(self._state.now_ns + round(delay_s * SECOND_NS), NodeEvent(step, node, plan))


def _is_free(place: Place, pool: int) -> bool:
    """Can a node of the pool be made there?"""
    return place.pool == pool and not place.exists


def _kind_of(pool: NodePool) -> str:
    """Of device, that its placeholders have."""
    return "cpu" if pool.gpu_kind is None else pool.gpu_kind
