"""Training: PPO on simulated clusters, judged on worlds of its own, exported as the best of all evaluations.

Files in results/<name>/: train.json (its configuration), checkpoint.zip (to go on from), curve.csv (one row an
evaluation), tensorboard/, policy.onnx and policy.json (of the best evaluation so far).
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.wrappers import TransformReward
from pydantic import Field
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv

from testbed.autoscaling.features import FEATURES, VERSION, FeatureScale
from testbed.autoscaling.learned import PolicyFile
from testbed.calibration.profile import ServiceProfile
from testbed.config import Strict
from testbed.errors import ConfigError
from testbed.kiscaler.env import ScalingEnv, Weights
from testbed.kiscaler.scenarios import Ranges, Scenarios
from testbed.simulation.cluster.config import ClusterConfig

EVALUATION_SEED = 10_000_000  # worlds from here on are for judging; training draws its own below 2**31 at random
Progress = Callable[[float], None]


class TrainConfig(Strict):
    """`kis train`: in which worlds, for which reward, for how long."""

    cluster: ClusterConfig = Field(description="its one model is what is scaled")
    per_replica_rps: float = Field(gt=0, description="that one replica serves within the target (`kis plan` tells)")
    ranges: Ranges = Field(Ranges(), description="what is drawn anew for each episode")
    weights: Weights = Field(Weights(), description="of the reward")
    step_s: float = Field(5.0, gt=0, description="from one decision to the next")
    episode_steps: int = Field(60, ge=1)
    reach: int = Field(2, ge=1, description="largest change of one decision")
    total_steps: int = Field(300_000, ge=1, description="decisions, of all environments together")
    environments: int = Field(2, ge=1, description="processes that simulate; as many as there are cores")
    evaluate_every: int = Field(20_000, ge=1, description="decisions")
    evaluation_worlds: int = Field(12, ge=1, description="never trained on, the same at each evaluation")
    patience: int = Field(8, ge=1, description="evaluations without a better one, then it ends")
    seed: int = 0


class Evaluation(NamedTuple):
    """Means over the evaluation's worlds. missed: share of requests; gpu: share of what max_replicas would hold."""

    steps: int
    reward: float
    missed: float
    gpu: float
    churn: float


def scenarios_of(config: TrainConfig) -> Scenarios:
    """The worlds of a configuration; ArtifactError if a profile cannot be read."""
    profiles = {kind: ServiceProfile.read(file) for kind, file in config.cluster.models[0].profiles.items()}
    return Scenarios(config.cluster, profiles, config.per_replica_rps, config.ranges)


def make_env(config: TrainConfig, scenarios: Scenarios) -> ScalingEnv:
    """One environment."""
    return ScalingEnv(scenarios, config.weights, step_s=config.step_s, steps=config.episode_steps, reach=config.reach)


def train(config: TrainConfig, folder: Path, on_evaluation: Callable[[Evaluation], None], progress: Progress) -> Path:
    """Train, or go on where an interrupted training stopped; returns policy.onnx, of the best evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    told, file = json.dumps(config.model_dump(mode="json"), indent=2) + "\n", folder / "train.json"
    if file.exists() and json.loads(file.read_text()) != json.loads(told):
        raise ConfigError(f"{file} is of another training: choose another folder, or give that configuration")
    file.write_text(told)
    scenarios = scenarios_of(config)
    torch.manual_seed(config.seed)
    checkpoint = folder / "checkpoint.zip"
    environments = SubprocVecEnv([lambda: _scaled(config, scenarios)] * config.environments)
    try:
        if checkpoint.exists():
            model = PPO.load(checkpoint, env=environments, device="cpu")
        else:
            model = _new_model(config, environments, folder)
        judge = _Judge(config, make_env(config, scenarios), folder, on_evaluation, progress)
        left = config.total_steps - model.num_timesteps
        if left > 0 and not judge.over:
            model.learn(left, callback=judge, reset_num_timesteps=False, tb_log_name="ppo")
    finally:
        environments.close()
    return folder / "policy.onnx"


def _scaled(config: TrainConfig, scenarios: Scenarios) -> gymnasium.Env[Any, Any]:
    """With rewards of about 1 at most: large returns leave the actor no room beside the critic in one gradient norm."""
    largest = max(config.weights.missed, config.weights.gpu)
    return TransformReward(make_env(config, scenarios), lambda reward: float(reward) / largest)


def _new_model(config: TrainConfig, environments: SubprocVecEnv, folder: Path) -> PPO:
    rollout = max(64, 2048 // config.environments)
    return PPO(
        "MlpPolicy",
        environments,
        learning_rate=lambda left: 3e-4 * max(left, 0.1),
        n_steps=rollout,
        batch_size=256,
        n_epochs=8,
        gamma=0.98,
        gae_lambda=0.95,
        ent_coef=0.005,
        policy_kwargs={"net_arch": [64, 64]},
        tensorboard_log=str(folder / "tensorboard"),
        seed=config.seed,
        device="cpu",
    )


class _Judge(BaseCallback):
    """Evaluates every so many decisions, keeps the best and a checkpoint, and ends when nothing gets better."""

    def __init__(
        self,
        config: TrainConfig,
        env: ScalingEnv,
        folder: Path,
        on_evaluation: Callable[[Evaluation], None],
        progress: Progress,
    ) -> None:
        super().__init__()
        self._config, self._env, self._folder = config, env, folder
        self._tell, self._progress = on_evaluation, progress
        self._curve = read_curve(folder / "curve.csv")

    @property
    def over(self) -> bool:
        """Has nothing got better for as long as the patience lasts?"""
        rewards = [one.reward for one in self._curve]
        return bool(rewards) and len(rewards) - 1 - int(np.argmax(rewards)) >= self._config.patience

    def _on_step(self) -> bool:
        self._progress(min(1.0, self.num_timesteps / self._config.total_steps))
        last = self._curve[-1].steps if self._curve else 0
        if self.num_timesteps - last < self._config.evaluate_every and self.num_timesteps < self._config.total_steps:
            return True
        found = evaluate(self._env, self._greedy, self._config.evaluation_worlds, self.num_timesteps)
        better = not self._curve or found.reward > max(one.reward for one in self._curve)
        self._curve.append(found)
        _append(self._folder / "curve.csv", found)
        if better:
            export(self.model.policy, self._config, found, self._folder)
        self.model.save(self._folder / "checkpoint.zip")
        for name in ("reward", "missed", "gpu", "churn"):
            self.logger.record(f"evaluation/{name}", getattr(found, name))
        self._tell(found)
        return not self.over

    def _greedy(self, features: npt.NDArray[np.float32]) -> int:
        action, _ = self.model.predict(features, deterministic=True)
        return int(action)


def evaluate(
    env: ScalingEnv, choose: Callable[[npt.NDArray[np.float32]], int], worlds: int, steps: int = 0
) -> Evaluation:
    """Play each evaluation world once."""
    sums = np.zeros(4)
    for number in range(worlds):
        seen, _ = env.reset(options={"scenario_seed": EVALUATION_SEED + number})
        over = False
        while not over:
            seen, reward, _, over, parts = env.step(np.int64(choose(seen)))
            sums += (reward, parts["missed"], parts["gpu"], parts["churn"])
    return Evaluation(steps, *(sums / (worlds * env.steps)).tolist())


class _Actor(torch.nn.Module):
    """Features -> logits, as the trained policy computes them."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.hidden, self.logits = policy.mlp_extractor.policy_net, policy.action_net

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        logits: torch.Tensor = self.logits(self.hidden(features))
        return logits


def export(policy: Any, config: TrainConfig, judged: Evaluation, folder: Path) -> None:
    """policy.onnx and policy.json; both are replaced, the network first."""
    actor = _Actor(policy).cpu().eval()
    file = folder / "policy.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            actor,
            (torch.zeros(1, len(FEATURES)),),
            str(file),
            input_names=["features"],
            output_names=["logits"],
            dynamic_axes={"features": {0: "n"}, "logits": {0: "n"}},
            dynamo=False,
        )
    told = PolicyFile(
        features_version=VERSION,
        features=tuple(FEATURES),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        reach=config.reach,
        step_s=config.step_s,
        window_s=Scenarios.window_s,
        windows=FeatureScale.windows,
        trained={
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "steps": judged.steps,
            "evaluation": judged._asdict(),
            "configuration": config.model_dump(mode="json"),
        },
    )
    file.with_suffix(".json").write_text(told.model_dump_json(indent=2) + "\n")


def read_curve(file: Path) -> list[Evaluation]:
    """Every evaluation so far."""
    if not file.exists():
        return []
    with file.open() as rows:
        return [
            Evaluation(int(row["steps"]), *(float(row[name]) for name in Evaluation._fields[1:]))
            for row in csv.DictReader(rows)
        ]


def _append(file: Path, found: Evaluation) -> None:
    new = not file.exists()
    with file.open("a", newline="") as rows:
        writer = csv.writer(rows)
        writer.writerows([Evaluation._fields, found] if new else [found])
