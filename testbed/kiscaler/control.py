"""The control of a training: what it learns without its observations.

The same training in the same scenarios, but each observation is that of another step, drawn from those before. It has
all that the real one has except what it should learn from, so it must do worse; where it does not, the real one's
reward says nothing of what it sees. Its policy.json says that it is a control, and it is refused where policies run.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from testbed.kiscaler.env import FloatArray, ScalingEnv

KEPT = 20_000  # observations to draw from


class Shuffled(gymnasium.ObservationWrapper[FloatArray, np.int64, FloatArray]):
    """A ScalingEnv that shows a random earlier observation, of this episode or another; at the very first step, a
    random point of the observation space. Scenarios, rewards and info are those of the ScalingEnv.
    """

    def __init__(self, env: ScalingEnv) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        self.steps, self._low, self._high = env.steps, space.low, space.high
        self._rng = np.random.default_rng(0)
        self._before: list[FloatArray] = []
        self._newest = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """See gymnasium.Env. What is shown is drawn by a generator of its own: the scenarios stay the same."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        return super().reset(seed=seed, options=options)

    def observation(self, observation: FloatArray) -> FloatArray:
        """Another one."""
        if not self._before:
            self._before.append(observation)
            return self._rng.uniform(self._low, self._high).astype(np.float32)
        shown = self._before[int(self._rng.integers(len(self._before)))]
        if len(self._before) < KEPT:
            self._before.append(observation)
        else:
            self._before[self._newest] = observation
            self._newest = (self._newest + 1) % KEPT
        return shown
