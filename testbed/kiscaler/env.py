"""The environment that KIScaler learns in: a simulated cluster, one decision every step_s."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from testbed.autoscaling.features import Past, bounds, features_of
from testbed.autoscaling.simulated import SimulatedObservation
from testbed.kiscaler.scenarios import Scenario, Scenarios
from testbed.kiscaler.teacher import replicas_of_teacher
from testbed.measurement.misses import missed_share

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """Of the reward's parts, beside the price of what is missed, which is the drawn world's."""

    gpu: float = 1.0
    churn: float = 0.1


def begin(scenarios: Scenarios, seed: int) -> Scenario:
    """The world of that seed at the moment of the first decision: it has run until there are metrics."""
    scenario = scenarios.draw(seed)
    scenario.sim.advance(scenario.scale.age_s + scenario.scale.step_s + scenario.sim.config.scrape_period_s)
    return scenario


def pass_step(scenario: Scenario, weights: Weights, act: Callable[[float], int]) -> tuple[float, dict[str, float]]:
    """Let one step of a world pass: the reward, and its parts missed, gpu and churn, unweighted (see ScalingEnv).

    act(until_s) scales and simulates the world until that second; it returns by how many replicas it has changed it.
    """
    sim, model, scale = scenario.sim, scenario.model, scenario.scale
    before, held_s = sim.totals(model), sim.gpu_seconds(model)
    changed = act(sim.now_s + scale.step_s)
    after = sim.totals(model)
    parts = {
        "missed": missed_share(after.missed - before.missed, after.decided - before.decided) or 0.0,
        "gpu": (sim.gpu_seconds(model) - held_s) / (scale.max_replicas * scale.step_s),
        "churn": changed / scale.max_replicas,
    }
    cost = scale.price * parts["missed"] + weights.gpu * parts["gpu"] + weights.churn * parts["churn"]
    return -cost / math.sqrt(scale.price), parts


class ScalingEnv(gymnasium.Env[FloatArray, np.int64]):
    """One deployment of a simulated cluster, scaled by an agent.

    Observation: float32[19], cut to its ranges, from what a cluster exposes, as old as it is there, and from what the
    policy remembers of it (testbed/autoscaling/features.py is the table: asked, one, coming, load, level, trend,
    season, strength, cycles, peak_15, peak_60, peak, utilisation, queue_time, waiting, ahead, since_change,
    last_change, price).

    Action: Discrete(2 k + 1), a change of the number of replicas by action - k, -k..k. What would leave 1..max_replicas
    is cut at the bound.

    Reward, a step: - price * share of the step's requests that were answered late or not at all
                    - gpu * time that pods held devices, of what max_replicas would hold
                    - churn * |change| / max_replicas, all divided by sqrt(price).
    The price is the world's (Ranges), and the policy is told: one network then serves who cares much and who cares
    little. Its root keeps the rewards of both about as large. A request counts in the step in which it ends. info has
    the parts, unweighted, and the price.

    Start: `reset(seed)` draws a world (scenarios.py), with as many replicas as the first moment's rate needs, and lets
    it run until there are metrics. The same seed gives the same episode.
    End: after `steps` steps the episode is truncated. It never terminates: a service has no end.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium's own attribute

    def __init__(
        self,
        scenarios: Scenarios,
        weights: Weights | None = None,
        *,
        steps: int = 60,
        reach: int = 3,
        teacher: bool = False,
    ) -> None:
        self.scenarios, self.weights, self.steps, self.reach = scenarios, weights or Weights(), steps, reach
        self._teacher = teacher
        low, high = bounds()
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(2 * reach + 1)
        self._scenario: Scenario | None = None
        self._taken, self._past = 0, Past(0.0, 0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """See gymnasium.Env. options: {"scenario_seed": n} names the world, whatever the seed."""
        super().reset(seed=seed)
        number = (options or {}).get("scenario_seed")
        self._scenario = begin(self.scenarios, int(self.np_random.integers(2**31)) if number is None else int(number))
        self._taken, self._past = 0, Past(0.0, 0)
        return self._observe(), self._told()

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """See gymnasium.Env."""
        assert self._scenario is not None, "call reset first"
        world = self._scenario

        def act(until_s: float) -> int:
            change = self._change(world, int(action))
            if change != 0:
                self._past = self._past._replace(change_s=world.sim.now_s, change=change)
            world.sim.advance(until_s)
            return abs(change)

        reward, parts = pass_step(world, self.weights, act)
        self._taken += 1
        told = {**parts, "price": world.scale.price, **self._told()}
        return self._observe(), reward, False, self._taken >= self.steps, told

    def _change(self, world: Scenario, action: int) -> int:
        """Ask for what the action says; by how many replicas that is more."""
        spec = len(world.sim.wanted(world.model))
        wanted = int(np.clip(spec + action - self.reach, 1, self.scenarios.max_replicas))
        if wanted != spec:
            world.sim.scale(world.model, wanted)
        return wanted - spec

    def _told(self) -> dict[str, Any]:
        """The teacher's action now, if it is asked for."""
        if not self._teacher:
            return {}
        assert self._scenario is not None
        world = self._scenario
        change = replicas_of_teacher(world, world.sim.now_s) - len(world.sim.wanted(world.model))
        return {"teacher": int(np.clip(change, -self.reach, self.reach)) + self.reach}

    def _observe(self) -> FloatArray:
        assert self._scenario is not None
        seen = SimulatedObservation(self._scenario.sim, self._scenario.model)
        found, self._past = features_of(seen, self._past, self._scenario.scale)
        if found is None:  # every pod was lost: nothing is known, which reads as nothing there
            return np.zeros(self.observation_space.shape or (), dtype=np.float32)
        return found
