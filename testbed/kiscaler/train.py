"""Training: PPO on simulated clusters, judged on scenarios of its own, exported as the best of all evaluations.

Files in results/<name>/: train.json (its configuration), checkpoint.zip (to go on from), curve.csv (one row an
evaluation) with curves.png, baselines.json (the same of other policies, to compare with), tensorboard/, policy.onnx and
policy.json (of the best evaluation so far).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from testbed.kiscaler.build import make_env, scenarios_of
from testbed.kiscaler.control import Shuffled
from testbed.kiscaler.env import ScalingEnv
from testbed.kiscaler.evaluation import Evaluation, append_to_curve, evaluate, read_curve, write_baselines
from testbed.kiscaler.export import export
from testbed.kiscaler.imitation import imitate
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train_config import TrainConfig
from testbed.reporting.training import save_curves
from testbed.study import remember
from workloads.files import replacing

ROLLOUT = 3_600  # decisions between two updates
IMITATION_ROUNDS = 4
UNCORRECTED = 2.5  # logit by which no correction is more likely than each other one: about two thirds of all actions
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
    played, shown = played_steps(config), config.imitated_steps if config.base is None else 0
    whole = played + shown + config.total_steps

    def imitated(share: float) -> None:
        progress((played + share * shown) / whole)

    write_baselines(config, scenarios, folder, lambda share: progress(share * played / whole))
    torch.manual_seed(config.seed)
    checkpoint = folder / "checkpoint.zip"
    torch.set_num_threads(1)  # the simulations need the cores, and the networks are small
    judge = _Judge(
        config,
        make_env(config, scenarios),
        folder,
        on_evaluation,
        lambda steps: progress((played + shown + steps) / whole),
    )
    several = SubprocVecEnv if config.environments > 1 else DummyVecEnv  # one needs no process of its own
    environments = several([lambda: make_env(config, scenarios, teacher=True)] * config.environments)
    try:
        if checkpoint.exists():
            model = PPO.load(checkpoint, env=environments, device="cpu")
            model.set_random_seed(resume_seed(config.seed, model.num_timesteps))
        else:
            model = _new_model(config, environments, folder)
            if config.base is not None:
                _begin_with_the_base(model, config.max_step)
            elif config.imitated_steps > 0:
                imitate(model, environments, shown, IMITATION_ROUNDS, imitated)
        left = config.total_steps - model.num_timesteps
        if left > 0 and not judge.over:
            model.learn(left, callback=judge, reset_num_timesteps=False, tb_log_name="ppo")
    finally:
        environments.close()
    return folder / "policy.onnx"


def played_steps(config: TrainConfig) -> int:
    """Decisions of the baselines."""
    return len(config.baselines) * config.evaluation_scenarios * config.episode_steps


def resume_seed(seed: int, steps: int) -> int:
    """Of scenarios, actions and batches after `steps` decisions.

    PPO.load seeds everything with the training's own seed, so that it would draw its first scenarios again.
    """
    return int(np.random.SeedSequence((seed, steps)).generate_state(1)[0]) >> 1  # each environment's is a little more


def falling_rate(left: float) -> float:
    """Learning rate, from the share of the training that is left. Named: a checkpoint then holds no code of it."""
    return 3e-4 * max(left, 0.1)


def _new_model(config: TrainConfig, environments: VecEnv, folder: Path) -> PPO:
    rollout = max(64, min(ROLLOUT, config.total_steps) // config.environments)
    return PPO(
        "MlpPolicy",
        environments,
        learning_rate=falling_rate,
        n_steps=rollout,
        batch_size=min(600, rollout * config.environments),
        n_epochs=6,
        gamma=0.96,  # a replica takes some 10 steps from asked for to gone
        gae_lambda=0.92,
        clip_range=0.15,  # small steps: the start is good already
        target_kl=0.03,
        ent_coef=0.001,
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [128, 128]}},
        tensorboard_log=str(folder / "tensorboard"),
        seed=config.seed,
        device="cpu",
    )


def _begin_with_the_base(model: PPO, max_step: int) -> None:
    """Most actions correct nothing at first: the greedy policy is the base itself."""
    bias: Any = model.policy.action_net.bias
    with torch.no_grad():
        bias[max_step] += UNCORRECTED


class _Judge(BaseCallback):
    """Evaluates every so many decisions, keeps the best and a checkpoint, and ends when nothing gets better.

    Stable-Baselines3's EvalCallback and StopTrainingOnNoModelImprovement do not fit: they draw their own episodes, not
    the same scenarios each time, know the reward only, never judge what was imitated before the first update, and
    forget the best one and the patience when a training goes on after an interrupt.
    """

    def __init__(
        self,
        config: TrainConfig,
        env: ScalingEnv | Shuffled,
        folder: Path,
        on_evaluation: Callable[[Evaluation], None],
        on_steps: Callable[[int], None],
    ) -> None:
        super().__init__()
        self._config, self._env, self._folder = config, env, folder
        self._on_evaluation, self._on_steps = on_evaluation, on_steps
        self._curve = read_curve(folder / "curve.csv")
        self._began_s = time.monotonic() - (self._curve[-1].seconds if self._curve else 0.0)

    @property
    def over(self) -> bool:
        """Has nothing got better for as long as the patience lasts?"""
        rewards = [row.reward for row in self._curve]
        return bool(rewards) and len(rewards) - 1 - int(np.argmax(rewards)) >= self._config.patience

    def _on_step(self) -> bool:
        self._on_steps(min(self.num_timesteps, self._config.total_steps))
        last = self._curve[-1].steps if self._curve else -self._config.evaluate_every  # what was imitated is judged too
        at_its_end = last < self._config.total_steps <= self.num_timesteps
        if self.num_timesteps - last < self._config.evaluate_every and not at_its_end:
            return True
        evaluation = evaluate(self._env, self._greedy, self._config.evaluation_scenarios, self.num_timesteps)
        evaluation = evaluation._replace(seconds=round(time.monotonic() - self._began_s, 1))
        better = not self._curve or evaluation.reward > max(row.reward for row in self._curve)
        self._curve.append(evaluation)
        if better:  # before its row: a row without its policy would keep all later ones from being exported
            export(self.model.policy, self._config, evaluation, self._folder)
        append_to_curve(self._folder / "curve.csv", evaluation)
        with replacing(self._folder / "checkpoint.zip") as temporary:
            self.model.save(temporary)
        for name in ("reward", "slo_violation_rate", "gpu", "churn"):
            self.logger.record(f"evaluation/{name}", getattr(evaluation, name))
        save_curves([self._folder], self._folder / "curves.png")
        self._on_evaluation(evaluation)
        return not self.over and self.num_timesteps < self._config.total_steps

    def _greedy(self, features: npt.NDArray[np.float32]) -> int:
        action, _ = self.model.predict(features, deterministic=True)
        return int(action)
