"""The environment that KIScaler learns in: a simulated cluster, one decision every step_s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from testbed.autoscaling.features import FEATURES, Change, bounds, features_of
from testbed.autoscaling.simulated import SimulatedObservation
from testbed.kiscaler.scenarios import Scenario, Scenarios

ENV_ID = "KIScaler-v1"
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """Of the reward's parts. The default has a step with every request missed cost as much as ten with all replicas."""

    missed: float = 10.0
    gpu: float = 1.0
    churn: float = 0.1


class ScalingEnv(gymnasium.Env[FloatArray, np.int64]):
    """One deployment of a simulated cluster, scaled by an agent.

    Observation: float32[11], cut to its ranges, from what a cluster exposes, as old as it is there
    (testbed/autoscaling/features.py is the table: ready, coming, arrivals, to_come, load, load_to_come, utilisation,
    queue_time, waiting, since_change, last_change).

    Action: Discrete(2 k + 1), a change of the number of replicas by action - k, -k..k. What would leave 1..max_replicas
    is cut at the bound.

    Reward, a step: - missed * share of the step's requests that were answered late or not at all
                    - gpu * time that pods held devices, of what max_replicas would hold
                    - churn * |change| / max_replicas.
    A request counts in the step in which it ends. info has the parts, unweighted.

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
        step_s: float = 5.0,
        steps: int = 60,
        reach: int = 3,
    ) -> None:
        self.scenarios, self.weights, self.step_s, self.steps, self.reach = (
            scenarios,
            weights or Weights(),
            step_s,
            steps,
            reach,
        )
        low, high = bounds()
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(2 * reach + 1)
        self._scenario: Scenario | None = None
        self._taken, self._last = 0, Change(0.0, 0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """See gymnasium.Env. options: {"scenario_seed": n} names the world, whatever the seed."""
        super().reset(seed=seed)
        number = (options or {}).get("scenario_seed")
        self._scenario = self.scenarios.draw(int(self.np_random.integers(2**31)) if number is None else int(number))
        self._taken, self._last = 0, Change(0.0, 0)
        scale = self._scenario.scale
        self._scenario.sim.advance(scale.age_s + 2 * scale.window_s + self._scenario.sim.config.scrape_period_s)
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """See gymnasium.Env."""
        assert self._scenario is not None, "call reset first"
        sim, model, most = self._scenario.sim, self._scenario.model, self.scenarios.max_replicas
        before, spec = sim.totals(model), len(sim.wanted(model))
        held_s = sim.gpu_seconds(model)
        wanted = int(np.clip(spec + int(action) - self.reach, 1, most))
        if wanted != spec:
            sim.scale(model, wanted)
            self._last = Change(sim.now_s, wanted - spec)
        sim.advance(sim.now_s + self.step_s)
        after = sim.totals(model)
        ended = sum(getattr(after, name) - getattr(before, name) for name in ("ok", "error", "timeout"))
        parts = {
            "missed": (after.missed - before.missed) / max(1, ended),
            "gpu": (sim.gpu_seconds(model) - held_s) / (most * self.step_s),
            "churn": abs(wanted - spec) / most,
        }
        reward = -sum(getattr(self.weights, name) * value for name, value in parts.items())
        self._taken += 1
        return self._observe(), float(reward), False, self._taken >= self.steps, parts

    def _observe(self) -> FloatArray:
        assert self._scenario is not None
        sim, scale = self._scenario.sim, self._scenario.scale
        found = features_of(SimulatedObservation(sim, self._scenario.model), self._last, scale)
        if found is None:  # every pod was lost: nothing is known, which reads as nothing there
            return np.zeros(len(FEATURES), dtype=np.float32)
        return found


gymnasium.register(ENV_ID, entry_point="testbed.kiscaler.env:ScalingEnv")
