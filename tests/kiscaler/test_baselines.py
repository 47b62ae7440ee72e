"""Other policies in an agent's scenarios: the same scenario, the same reward, each at its own scale."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from testbed.autoscaling.policy import Decision
from testbed.errors import ConfigError
from testbed.kiscaler.baselines import play_baselines, play_scenario, policy_in
from testbed.kiscaler.env import ScalingEnv, StepReward, begin
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train_config import Ranges, Weights
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile

STEPS = 20
ORACLE = {"kind": "oracle", "replica_capacity_rps": "scenario", "provisioning_delay_s": "scenario"}


def scenarios(**ranges: Any) -> Scenarios:
    config = cluster(gpus=8, max_batch_size=4, max_replicas=8, latency_target_s=0.1, pod={"container_start_s": 1.0})
    profile = flat_profile((0.020, 0.024, 0.028, 0.032))
    return Scenarios(config, {GPU: profile}, replica_capacity_rps=90.0, ranges=Ranges(**ranges))


class UpAndDown(NamedTuple):
    """One more, then one fewer."""

    name: str = "up-and-down"
    period_s: float = 5.0

    def decide(self, seen: Any, memory: int | None) -> Decision:
        turn = memory or 0
        return Decision(seen.spec_replicas + (1 if turn % 2 == 0 else -1), turn + 1, "")


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_policy_that_does_what_an_agent_does_gets_its_reward(seed: int) -> None:
    env = ScalingEnv(scenarios(peak_load=(0.5, 0.6)), steps=STEPS, max_step=1)
    env.reset(options={"scenario_seed": seed})
    expected = np.zeros(len(StepReward._fields))
    for k in range(STEPS):
        _, reward, _, _, info = env.step(np.int64(2 if k % 2 == 0 else 0))
        expected += (reward, *(info[name] for name in StepReward._fields[1:]))
    assert expected[StepReward._fields.index("churn")] == pytest.approx(STEPS / 8)
    played = play_scenario(UpAndDown(), begin(scenarios(peak_load=(0.5, 0.6)), seed), Weights(), STEPS)
    np.testing.assert_allclose(played, expected, rtol=1e-12)


def test_settings_may_be_the_scenarios_own() -> None:
    drawn = [begin(scenarios(), seed) for seed in (1, 2)]
    policies: list[Any] = [policy_in(scenario, {**ORACLE, "min_replicas": 2}, "oracle") for scenario in drawn]
    for scenario, policy in zip(drawn, policies, strict=True):
        assert policy.replica_capacity_rps == scenario.scale.replica_capacity_rps
        assert policy.provisioning_delay_s == scenario.scale.provisioning_delay_s
        assert policy.max_replicas == 8
        assert policy.rate_rps(10.0) == scenario.pattern.rate_rps(np.array([10.0]))[0]
    assert policies[0].replica_capacity_rps != policies[1].replica_capacity_rps


def test_who_knows_the_traffic_misses_less_than_one_replica_and_holds_less_than_all() -> None:
    baselines = {"one": {"kind": "fixed", "replicas": 1}, "all": {"kind": "fixed", "replicas": 8}, "oracle": ORACLE}
    played = play_baselines(baselines, scenarios(peak_load=(0.7, 0.7)), Weights(), STEPS, [1, 2])
    assert list(played) == list(baselines)
    assert played["oracle"].reward > max(played["one"].reward, played["all"].reward)
    assert played["one"].slo_violation_rate > played["oracle"].slo_violation_rate
    assert played["one"].gpu < played["oracle"].gpu < played["all"].gpu <= 1
    assert played == play_baselines(baselines, scenarios(peak_load=(0.7, 0.7)), Weights(), STEPS, [1, 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "hpaa"}, r"baselines.mine: unknown policy 'hpaa': did you mean 'hpa'\?"),
        ({"kind": "hpa", "metric": "queue_time_ms", "target": "scenario"}, "baselines.mine.target: a scenario has no"),
        ({"kind": "fixed", "replicas": "many"}, r"baselines.mine: policy fixed: replicas: .*got 'many'"),
        (
            {"kind": "predictive", "replica_capacity_rps": 0, "provisioning_delay_s": "scenario"},
            "baselines.mine: policy predictive",
        ),
    ],
)
def test_what_is_no_baseline_is_named(settings: dict[str, Any], message: str) -> None:
    given = {"fine": {"kind": "fixed", "replicas": 1}, "mine": settings}
    with pytest.raises(ConfigError, match=message):
        play_baselines(given, scenarios(), Weights(), STEPS, [1])
