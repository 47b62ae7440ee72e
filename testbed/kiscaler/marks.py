"""Marks beside a learning curve: other policies in the evaluation's worlds, under the same reward.

A mark is a policy's settings as everywhere (autoscaling/build.py). Worlds differ in scale, so a setting may be the word
`world`: it is then the drawn world's value of that name (WORLD).

    marks:
      hpa: {kind: hpa, metric: requests_per_second, target: 67, age_s: world}
      predictive: {kind: predictive, per_replica_rps: world, ahead_s: world, age_s: world}
      oracle: {kind: oracle, per_replica_rps: world, ahead_s: world}

A policy is asked at the agent's first decision, and then at its own period; it begins with the agent's replicas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.policy import Policy
from testbed.autoscaling.simulated import PolicyRun
from testbed.errors import ConfigError
from testbed.kiscaler.env import Weights, begin, pass_step
from testbed.kiscaler.scenarios import Scenario, Scenarios
from workloads.errors import KisError

WORLD = ("per_replica_rps", "latency_target_s", "ahead_s", "age_s", "price")
PARTS = ("reward", "missed", "gpu", "churn")
Settings = Mapping[str, Any]


def play_marks(
    marks: Mapping[str, Settings], scenarios: Scenarios, weights: Weights, steps: int, seeds: Sequence[int]
) -> dict[str, dict[str, float]]:
    """By name of the mark: the means of PARTS over the steps of the worlds with these seeds.

    ConfigError names the mark that is none, before any is played.
    """
    first = scenarios.draw(seeds[0])
    for name, settings in marks.items():
        policy_in(first, settings, name)
    found = {}
    for name, settings in marks.items():
        sums = np.zeros(len(PARTS))
        for seed in seeds:
            world = begin(scenarios, seed)
            sums += play(policy_in(world, settings, name), world, weights, steps)
        found[name] = dict(zip(PARTS, (sums / (len(seeds) * steps)).tolist(), strict=True))
    return found


def policy_in(scenario: Scenario, settings: Settings, name: str) -> Policy:
    """A mark's policy in one world."""
    told = {key: _of_world(scenario, key, name) if value == "world" else value for key, value in settings.items()}
    try:
        return build_policy(told, scenario.scale.max_replicas, scenario.pattern.at)
    except KisError as error:
        raise ConfigError(f"marks.{name}: {error}") from None


def _of_world(scenario: Scenario, key: str, name: str) -> float:
    if key not in WORLD:
        raise ConfigError(f"marks.{name}.{key}: a world has no value of that name: it has {', '.join(WORLD)}")
    return float(getattr(scenario.scale, key))


def play(policy: Policy, scenario: Scenario, weights: Weights, steps: int) -> npt.NDArray[np.float64]:
    """float64[len(PARTS)]: sums over an episode of a world that has begun."""
    sim = scenario.sim
    run = PolicyRun(sim, {scenario.model: policy})
    run.next_s[scenario.model] = sim.now_s
    counted = 0

    def act(until_s: float) -> int:
        nonlocal counted
        run.advance(until_s)
        # What is decided at the end of a step belongs to the next one, as with an agent.
        decided = [one for one in run.steps[counted:] if one.time_s < sim.now_s]
        counted += len(decided)
        return sum(abs(one.wanted - one.before) for one in decided)

    sums = np.zeros(len(PARTS))
    for _ in range(steps):
        reward, parts = pass_step(scenario, weights, act)
        sums += (reward, *(parts[name] for name in PARTS[1:]))
    return sums
