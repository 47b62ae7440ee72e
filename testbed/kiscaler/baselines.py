"""Baselines beside a learning curve: other policies in the evaluation's scenarios, under the same reward.

A baseline is a policy's settings as everywhere (autoscaling/build.py). Scenarios differ in scale, so a setting may be
the word `scenario`: it is then the drawn scenario's value of that name (OF_SCENARIO).

    baselines:
      hpa: {kind: hpa, metric: requests_per_second, target: 67, metrics_delay_s: scenario}
      predictive: {kind: predictive, replica_capacity_rps: scenario, provisioning_delay_s: scenario}
      oracle: {kind: oracle, replica_capacity_rps: scenario, provisioning_delay_s: scenario}

A policy is asked at the agent's first decision, and then at its own period; it begins with the agent's replicas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.policy import Policy
from testbed.autoscaling.simulated import PolicyRun
from testbed.errors import ConfigError
from testbed.kiscaler.env import StepReward, begin, pass_step
from testbed.kiscaler.scenarios import Scenario, Scenarios
from testbed.kiscaler.train_config import Weights
from workloads.errors import KisError

OF_SCENARIO = ("replica_capacity_rps", "latency_target_s", "provisioning_delay_s", "metrics_delay_s", "slo_penalty")
Settings = Mapping[str, Any]


def play_baselines(
    baselines: Mapping[str, Settings],
    scenarios: Scenarios,
    weights: Weights,
    steps: int,
    seeds: Sequence[int],
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, StepReward]:
    """By name of the baseline: means over the steps of the scenarios with these seeds.

    ConfigError names the baseline that is none, before any is played.
    """
    first = scenarios.draw(seeds[0])
    for name, settings in baselines.items():
        policy_in(first, settings, name)
    played = {}
    for done, (name, settings) in enumerate(baselines.items(), start=1):
        sums = np.zeros(len(StepReward._fields))
        for seed in seeds:
            scenario = begin(scenarios, seed)
            sums += play_scenario(policy_in(scenario, settings, name), scenario, weights, steps)
        played[name] = StepReward(*(sums / (len(seeds) * steps)).tolist())
        on_progress(done / len(baselines))
    return played


def policy_in(scenario: Scenario, settings: Settings, name: str) -> Policy:
    """A baseline's policy in one scenario."""
    given = {key: _of(scenario, key, name) if value == "scenario" else value for key, value in settings.items()}
    try:
        return build_policy(given, scenario.scale.max_replicas, scenario.pattern.at)
    except KisError as error:
        raise ConfigError(f"baselines.{name}: {error}") from None


def _of(scenario: Scenario, key: str, name: str) -> float:
    if key not in OF_SCENARIO:
        known = ", ".join(OF_SCENARIO)
        raise ConfigError(f"baselines.{name}.{key}: a scenario has no value of that name: it has {known}")
    return float(getattr(scenario.scale, key))


def play_scenario(policy: Policy, scenario: Scenario, weights: Weights, steps: int) -> npt.NDArray[np.float64]:
    """float64[len(StepReward._fields)]: sums over an episode of a scenario that has begun."""
    run = PolicyRun(scenario.sim, {scenario.model: policy})
    run.next_s[scenario.model] = scenario.sim.now_s
    return np.asarray(np.sum([pass_step(run, scenario, weights) for _ in range(steps)], axis=0))
