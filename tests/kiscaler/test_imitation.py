"""A network learns what the teacher does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from testbed.kiscaler import imitation
from testbed.kiscaler.env import ScalingEnv
from testbed.kiscaler.imitation import imitate, returns_of
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train_config import Ranges
from tests.oracles.cluster_worlds import GPU, cluster, flat_profile


def test_returns_end_with_their_episode() -> None:
    rewards = [np.array([1.0, 1.0], dtype=np.float32)] * 3
    ends = [np.array([False, False]), np.array([True, False]), np.array([False, False])]
    found = returns_of(rewards, ends, gamma=0.5)
    assert [one.tolist() for one in found] == [[1.5, 1.75], [1.0, 1.5], [1.0, 1.0]]


def make_env() -> ScalingEnv:
    config = cluster(gpus=4, max_batch_size=4, max_replicas=4, latency_target_s=0.1, pod={"container_start_s": 1.0})
    ranges = Ranges(
        families=("periodic",), peak_load=(0.8, 0.9), low_share=(0.2, 0.3), service=(1, 1), slo_penalty=(10, 10)
    )
    scenarios = Scenarios(config, {GPU: flat_profile((0.02, 0.024, 0.028, 0.032))}, 90.0, ranges, step_s=2.0)
    return ScalingEnv(scenarios, steps=100, max_step=2, teacher=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_does_as_the_teacher_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imitation, "EPOCHS", 60)  # there is little to learn from
    torch.set_num_threads(1)
    environments = DummyVecEnv([make_env])
    model = PPO("MlpPolicy", environments, n_steps=64, batch_size=64, gamma=0.9, seed=1, device="cpu")
    before = played(model)
    imitate(model, environments, steps=6000, rounds=3)
    after = played(model)
    assert after.agreed > 0.6 > before.agreed  # of five actions
    assert after.reward > before.reward


class Played(NamedTuple):
    agreed: float
    reward: float


def played(model: PPO) -> Played:
    """Greedily, in three scenarios."""
    env, agreed, total = make_env(), 0, 0.0
    for scenario in range(3):
        seen, told = env.reset(options={"scenario_seed": 10_000 + scenario})
        for _ in range(env.steps):
            action = int(model.predict(seen, deterministic=True)[0])
            agreed += action == told["teacher"]
            seen, reward, _, _, told = env.step(np.int64(action))
            total += reward
    return Played(agreed / (3 * env.steps), total)
