"""The environment in which KIScaler also chooses the kind of GPU: one Deployment for each kind, behind one Service."""

from __future__ import annotations

from typing import NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

from testbed.autoscaling.features import Past
from testbed.autoscaling.mixes import Mixes
from testbed.autoscaling.placement_features import KindState, feature_bounds, placement_features
from testbed.autoscaling.simulated import SimulatedObservation
from testbed.kiscaler.env import FloatArray, ScalingEnv, Weights
from testbed.kiscaler.placement_scenarios import PlacementScenarios
from testbed.kiscaler.scenarios import Scenario
from testbed.kiscaler.teacher import rate_of_teacher


class Change(NamedTuple):
    """An action in words: by how many replicas, of which kind (its place among the kinds)."""

    kind: int
    replicas: int


NO_CHANGE = Change(0, 0)


class PlacementEnv(ScalingEnv):
    """The Deployments of one model in a simulated cluster, one for each of K kinds of GPU, scaled by an agent.

    Observation: float32[19 + 6 K], cut to its ranges (testbed/autoscaling/placement_features.py is the table): the
    features of ScalingEnv for all Deployments together, then of each kind: asked, ready, coming, capacity, cost, room.

    Action: Discrete(1 + 2 k K), with k the reach. 0: no change. Then, kind by kind, a change of that kind's replicas by
    -k, .., -1, 1, .., k. One that is not possible is no change: a kind below 0, fewer than one replica of all kinds,
    more than max_replicas of all kinds, or more of a kind than free devices of it, less what is on its way to them.
    `action_masks()` tells which are possible: bool[1 + 2 k K], as maskable algorithms ask for it.

    Reward: that of ScalingEnv, its gpu part with the time that pods held devices times the kind's gpu_cost, of what
    the dearest mix would cost.

    Start, end: as in ScalingEnv; a world starts with the mix that serves the first moment's rate at the least cost.
    """

    scenarios: PlacementScenarios

    def __init__(
        self,
        scenarios: PlacementScenarios,
        weights: Weights | None = None,
        *,
        steps: int = 60,
        reach: int = 2,
        teacher: bool = False,
    ) -> None:
        super().__init__(scenarios, weights, steps=steps, reach=reach, teacher=teacher)
        names = scenarios.mixes.names
        low, high = feature_bounds(names)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        sizes = [change for change in range(-reach, reach + 1) if change != 0]
        self.changes = (NO_CHANGE, *(Change(kind, size) for kind in range(len(names)) for size in sizes))
        self.action_space = gymnasium.spaces.Discrete(len(self.changes))
        self.seen = np.zeros_like(low)  # the newest observation
        self._prices = scenarios.mixes.costs * scenarios.max_replicas / scenarios.mixes.dearest
        self._mixes: tuple[Scenario, Mixes] | None = None  # those of a world are made once

    @property
    def world(self) -> Scenario:
        """The world that was drawn."""
        return self._world

    @property
    def past(self) -> Past:
        """What is remembered."""
        return self._past

    @property
    def foreseen_rps(self) -> float:
        """The rate that the teacher, who knows the traffic, would be ready for."""
        return rate_of_teacher(self._world, self._world.sim.now_s)

    @property
    def mixes(self) -> Mixes:
        """In this world."""
        if self._mixes is None or self._mixes[0] is not self._world:
            self._mixes = (self._world, self.scenarios.mixes_in(self._world))
        return self._mixes[1]

    def mixes_of(self, kind: str | None) -> Mixes:
        """Those of that kind alone; None: all."""
        return self.mixes if kind is None else self.mixes.only(kind)

    def states(self) -> list[KindState]:
        """Of each kind, now."""
        sim, model = self._world.sim, self._world.model
        found = []
        for kind in self.scenarios.mixes.names:
            pods = sim.alive(model, kind)
            ready = sum(1 for pod in pods if pod.ready)
            found.append(KindState(sum(1 for pod in pods if pod.wanted), ready, sim.room(model, kind)))
        return found

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """bool[actions]: is it possible now?"""
        states = self.states()
        total, most = sum(one.asked for one in states), self.scenarios.max_replicas

        def possible(change: Change) -> bool:
            state = states[change.kind]
            if change.replicas > 0:
                return change.replicas <= state.room and total + change.replicas <= most
            return state.asked + change.replicas >= 0 and total + change.replicas >= 1

        return np.array([change is NO_CHANGE or possible(change) for change in self.changes])

    def action_towards(self, rate_rps: float, mixes: Mixes) -> int:
        """The possible action that leads towards the cheapest of the mixes that serves the rate.

        What is missing comes first, most capacity first; what is too many goes once the ready replicas that stay serve
        the rate, or when what is missing has no place.
        """
        states, possible = self.states(), self.action_masks()
        gaps = [wanted - one.asked for wanted, one in zip(mixes.cheapest(rate_rps), states, strict=True)]
        rates, ours = self.scenarios.mixes.rates_rps, self.mixes
        by_capacity = sorted(range(len(gaps)), key=lambda kind: -abs(gaps[kind]) * rates[kind])
        for kind in by_capacity:
            for size in range(min(gaps[kind], self.reach), 0, -1):
                if possible[self.action_of(kind, size)]:
                    return self.action_of(kind, size)
        no_place = any(gap > 0 for gap in gaps)
        for kind in by_capacity:
            for size in range(min(-gaps[kind], self.reach), 0, -1):
                left = [min(s.ready, s.asked - size if k == kind else s.asked) for k, s in enumerate(states)]
                enough = no_place or ours.capacity_rps(left) >= rate_rps * (1 - 1e-9)
                if enough and possible[self.action_of(kind, -size)]:
                    return self.action_of(kind, -size)
        return 0

    def action_of(self, kind: int, replicas: int) -> int:
        """Number of the action that changes that kind by so many replicas, which are not 0."""
        return self.changes.index(Change(kind, replicas))

    @property
    def _world(self) -> Scenario:
        assert self._scenario is not None, "call reset first"
        return self._scenario

    def _change(self, world: Scenario, action: int) -> int:
        kind, replicas = self.changes[action] if self.action_masks()[action] else NO_CHANGE
        if replicas != 0:
            name = self.scenarios.mixes.names[kind]
            world.sim.scale(world.model, len(world.sim.wanted(world.model, name)) + replicas, kind=name)
        return replicas

    def _held_s(self, world: Scenario) -> float:
        held_s = [world.sim.gpu_seconds(world.model, kind) for kind in self.scenarios.mixes.names]
        return float(self._prices @ held_s)

    def _teachers_action(self, world: Scenario) -> int:
        return self.action_towards(self.foreseen_rps, self.mixes)

    def _features(self, world: Scenario, seen: SimulatedObservation) -> tuple[FloatArray | None, Past]:
        found, past = placement_features(seen, self.states(), self.mixes, self._past, world.scale)
        self.seen = np.zeros_like(self.seen) if found is None else found
        return found, past
