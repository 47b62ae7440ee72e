"""A rule that a network corrects: with no correction it is the rule, in training and deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.features import features_with
from testbed.autoscaling.policies.corrected import rule_of
from testbed.errors import ConfigError
from testbed.kiscaler.baselines import play_scenario
from testbed.kiscaler.build import scenarios_of
from testbed.kiscaler.env import ScalingEnv, StepReward, begin, replicas_of_teacher
from testbed.kiscaler.episodes import write_episodes
from testbed.kiscaler.evaluation import EVALUATION_SEED, read_curve
from testbed.kiscaler.learner import METHODS
from testbed.kiscaler.train import train
from testbed.kiscaler.train_config import TrainConfig, Weights
from tests.autoscaling.test_learned import Scene, export
from tests.kiscaler.test_baselines import scenarios
from tests.kiscaler.test_train import settings

MAX_STEP, STEPS = 2, 20


def always(correction: int) -> np.ndarray:
    """Weights of a network that always answers that: the feature `one` is above 0."""
    names = list(features_with("rule"))
    weights = np.zeros((len(names), 2 * MAX_STEP + 1))
    weights[names.index("one"), MAX_STEP + correction] = 1.0
    return weights


def corrected(folder: Path, correction: int) -> Any:
    file = export(folder, always(correction), features=list(features_with("rule")), base="rule")
    given = {"replica_capacity_rps": 50, "latency_target_s": 0.1, "provisioning_delay_s": 5}
    return build_policy({"kind": "corrected", "file": str(file), **given}, 8, None)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_with_no_correction_an_episode_is_the_rules(seed: int) -> None:
    worlds = scenarios(peak_load=(0.5, 0.8))
    env = ScalingEnv(worlds, steps=STEPS, max_step=MAX_STEP, base="rule")
    seen, _ = env.reset(options={"scenario_seed": seed})
    expected = np.zeros(len(StepReward._fields))
    for _ in range(STEPS):
        assert env.observation_space.contains(seen)
        seen, reward, _, _, info = env.step(np.int64(MAX_STEP))
        expected += (reward, *(info[name] for name in StepReward._fields[1:]))
    scenario = begin(worlds, seed)
    played = play_scenario(rule_of(scenario.scale), scenario, Weights(), STEPS)
    np.testing.assert_allclose(expected, played, rtol=1e-12)


@pytest.mark.parametrize("correction", [-2, -1, 0, 1, 2])
def test_the_count_stays_that_near_to_what_the_rule_wants(tmp_path: Path, correction: int) -> None:
    policy, memory = corrected(tmp_path, correction), None
    rule, of_rule = rule_of(policy.scale), None
    for k in range(6):
        scene = Scene(rate=140.0, now_s=100.0 + 5.0 * k)
        wanted, of_rule = rule.decide(scene, of_rule)[:2]
        decision = policy.decide(scene, memory)
        memory = decision.memory
    assert decision.replicas == min(max(wanted + correction, 1), 8)
    assert decision.reason.startswith(f"rule {wanted}, corrected {correction:+d}: 140/s")


def test_a_network_is_refused_where_it_would_be_taken_for_another(tmp_path: Path) -> None:
    file = export(tmp_path, always(0), features=list(features_with("rule")), base="rule")
    given = {"file": str(file), "replica_capacity_rps": 50, "latency_target_s": 0.1, "provisioning_delay_s": 5}
    with pytest.raises(ConfigError, match="was trained to correct a rule: give kind corrected"):
        build_policy({"kind": "learned", **given}, 8, None)


def test_the_teacher_says_what_to_add_to_the_rule(tmp_path: Path) -> None:
    """Whoever follows it has the teacher's count, as far as a correction reaches."""
    found = scenarios_of(TrainConfig.model_validate(settings(tmp_path, base="rule")))
    env = ScalingEnv(found, steps=40, max_step=2, teacher=True, base="rule")
    observation, info = env.reset(seed=3)
    scenario, sim = env._scenario, env._run.sim
    corrections = []
    for _ in range(40):
        proposed = len(sim.wanted(scenario.model)) + round(float(observation[-1]) * scenario.scale.max_replicas)
        correction = replicas_of_teacher(scenario, sim.now_s) - proposed
        assert info["teacher"] == np.clip(correction, -2, 2) + 2
        corrections.append(correction)
        observation, *_, info = env.step(np.int64(info["teacher"]))
    assert len(set(corrections)) > 1


@pytest.mark.parametrize("method", sorted(METHODS.known()))
def test_a_training_begins_with_the_rule_and_leaves_a_corrected_policy(tmp_path: Path, method: str) -> None:
    told = settings(tmp_path, base="rule", total_steps=900, evaluate_every=450, method=method, imitated_steps=0)
    config = TrainConfig.model_validate(told)
    found: list[Any] = []
    file = train(config, tmp_path / "out", found.append, lambda share: None)
    rule = np.zeros(len(StepReward._fields))
    for number in range(config.evaluation_scenarios):
        scenario = begin(scenarios_of(config), EVALUATION_SEED + number)
        rule += play_scenario(rule_of(scenario.scale), scenario, config.weights, config.episode_steps)
    first = found[0]
    assert first.acting == 0.0
    assert read_curve(tmp_path / "out" / "curve.csv") == found
    assert first.reward == pytest.approx(rule[0] / (config.evaluation_scenarios * config.episode_steps))
    given = {"replica_capacity_rps": 90, "latency_target_s": 0.1, "provisioning_delay_s": 5}
    policy: Any = build_policy({"kind": "corrected", "file": str(file), **given}, 6, None)
    assert policy.corrects == "rule"
    write_episodes(config, scenarios_of(config), tmp_path / "out")
    assert "trained" in (tmp_path / "out" / "episodes.csv").read_text()
