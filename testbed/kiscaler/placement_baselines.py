"""What a learned placement is compared with: each chooses an action of a PlacementEnv as it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from testbed.autoscaling.forecast import SMOOTHED, smooth, trend_of
from testbed.kiscaler.placement_env import PlacementEnv

Choose = Callable[[PlacementEnv], int]
LEAST_HELD_STEPS = 5
DRAIN_STEPS = 2  # in which what waits is to be served beside what comes


@dataclass(frozen=True)
class CheapestMix:
    """The cheapest mix that serves the arrivals that are expected, from what a cluster shows: the larger of a line
    through the newest ones and the peak of the last steps, times the headroom, and what waits.

    held: so many steps are looked back for each unit of the price, 5 at least: who cares much keeps what was needed.
    kind: of that kind alone; None: of all.
    """

    held: float
    headroom: float = 1.0
    kind: str | None = None

    def __call__(self, env: PlacementEnv) -> int:
        """Number of the action."""
        scale = env.world.scale
        rates = np.array(env.past.rates)
        if not len(rates):
            return 0
        smoothed = smooth(rates) if len(rates) >= SMOOTHED else np.array([rates.mean()])
        held_steps = max(LEAST_HELD_STEPS, round(self.held * scale.price))
        ahead = (scale.ahead_s + scale.age_s) / scale.step_s
        expected = max(trend_of(rates, ahead), float(smoothed[-held_steps:].max()))
        rate_rps = self.headroom * expected + env.past.waiting / (DRAIN_STEPS * scale.step_s)
        return env.action_towards(rate_rps, env.mixes_of(self.kind))


@dataclass(frozen=True)
class Fixed:
    """The cheapest mix for that share of what the largest serves; then it stays."""

    share: float

    def __call__(self, env: PlacementEnv) -> int:
        """Number of the action."""
        return env.action_towards(self.share * env.mixes.largest_rps, env.mixes)


@dataclass(frozen=True)
class Foreseeing:
    """The cheapest mix for what the teacher knows of the traffic. kind: see CheapestMix."""

    kind: str | None = None

    def __call__(self, env: PlacementEnv) -> int:
        """Number of the action."""
        return env.action_towards(env.foreseen_rps, env.mixes_of(self.kind))


def at_random(seed: int) -> Choose:
    """Any possible action, each as likely."""
    rng = np.random.default_rng(seed)
    return lambda env: int(rng.choice(np.flatnonzero(env.action_masks())))
