"""Training: a learner (learner.py) in simulated clusters, judged (judge.py) on scenarios that it does not learn from,
and exported as the best of all evaluations.

Files in results/<name>/: train.json (its configuration), checkpoint.zip (to go on from), curve.csv (one row an
evaluation) with curves.png, baselines.json (the same of other policies, to compare with), tensorboard/ (of methods that
log to it), policy.onnx and policy.json (of the best evaluation so far).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from testbed.kiscaler.build import make_env, scenarios_of
from testbed.kiscaler.evaluation import Evaluation, write_baselines
from testbed.kiscaler.judge import Judge
from testbed.kiscaler.learner import METHODS
from testbed.kiscaler.methods.ppo import falling_rate  # noqa: F401 - earlier checkpoints name it here
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train_config import TrainConfig
from testbed.study import remember

Progress = Callable[[float], None]


def train(
    config: TrainConfig,
    folder: Path,
    on_evaluation: Callable[[Evaluation], None],
    progress: Progress,
    scenarios: Scenarios | None = None,
) -> Path:
    """Train, or go on where an interrupted training stopped; returns policy.onnx, of the best evaluation.

    scenarios: those of the configuration, where its profiles cannot be read from their files.
    """
    remember(config, folder / "train.json")
    scenarios = scenarios or scenarios_of(config)
    played, shown = played_steps(config), config.shown_steps
    whole = played + shown + config.total_steps
    write_baselines(config, scenarios, folder, lambda share: progress(share * played / whole))
    torch.manual_seed(config.seed)
    checkpoint = folder / "checkpoint.zip"
    torch.set_num_threads(1)  # the simulations need the cores, and the networks are small
    judge = Judge(
        config,
        make_env(config, scenarios),
        folder,
        on_evaluation,
        lambda steps: progress((played + shown + steps) / whole),
    )
    several = SubprocVecEnv if config.environments > 1 else DummyVecEnv  # one needs no process of its own
    environments = several([lambda: make_env(config, scenarios, teacher=shown > 0)] * config.environments)
    try:
        learner = METHODS.find(config.method)(config, environments, folder)
        if checkpoint.exists():
            learner.load(checkpoint)
        else:
            learner.begin(lambda share: progress((played + share * shown) / whole))
        if learner.steps < config.total_steps and not judge.over:
            learner.learn(lambda: judge.go_on(learner))
    finally:
        environments.close()
    return folder / "policy.onnx"


def played_steps(config: TrainConfig) -> int:
    """Decisions of the baselines."""
    return len(config.baselines) * config.evaluation_scenarios * config.episode_steps
