"""DQN: what is exported answers as the trained network, and a checkpoint has what was remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

from testbed.kiscaler.build import make_env, scenarios_of
from testbed.kiscaler.evaluation import Evaluation
from testbed.kiscaler.export import export
from testbed.kiscaler.methods.dqn import DeepQNetwork
from testbed.kiscaler.train_config import TrainConfig
from tests.kiscaler.test_train import settings


def learned(folder: Path, steps: int, environments: int = 2) -> DeepQNetwork:
    """From so many decisions."""
    told = settings(folder, method="dqn", environments=environments, total_steps=600)
    config = TrainConfig.model_validate(told)
    several = DummyVecEnv([lambda: make_env(config, scenarios_of(config))] * environments)
    learner = DeepQNetwork(config, several, folder)
    learner.begin(lambda share: None)
    learner.learn(lambda: learner.steps < steps)
    return learner


def test_what_is_exported_chooses_as_the_network_that_was_trained(tmp_path: Path) -> None:
    learner = learned(tmp_path, 600)
    export(learner.network(), learner.config, Evaluation(0, 0, 0, 0, 0), tmp_path)
    seen = np.random.default_rng(1).random((64, 19), dtype=np.float32)
    (values,) = onnxruntime.InferenceSession(tmp_path / "policy.onnx").run(None, {"features": seen})
    actions, _ = learner.model.predict(seen, deterministic=True)
    assert values.shape == (64, 5)
    assert values.argmax(axis=1).tolist() == actions.tolist() == [learner.choose(one) for one in seen]
    assert len(set(actions.tolist())) > 1


def test_it_learns_as_often_for_a_decision_in_any_number_of_environments(tmp_path: Path) -> None:
    updates = [learned(tmp_path, 600, environments).model._n_updates for environments in (1, 3)]
    assert updates == pytest.approx([(600 - 60) // 4] * 2, abs=5)  # the last ones are after the end


def test_a_checkpoint_has_what_was_remembered(tmp_path: Path) -> None:
    learner = learned(tmp_path, 200)
    learner.save(tmp_path / "checkpoint.zip")
    again: Any = DQN.load(tmp_path / "checkpoint.zip", device="cpu")
    other = DeepQNetwork(learner.config, learner.environments, tmp_path)
    other.load(tmp_path / "checkpoint.zip")
    assert other.steps == 200
    for model in (again, other.model):
        assert model.replay_buffer.size() == 99  # of two decisions each; the last ones were the end
        np.testing.assert_array_equal(model.replay_buffer.observations, learner.model.replay_buffer.observations)
    other.learn(lambda: other.steps < 300)
    assert other.model.replay_buffer.size() == 148
    assert other.steps == 300
