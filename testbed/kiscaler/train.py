"""Training: PPO on simulated clusters, judged on worlds of its own, exported as the best of all evaluations.

Files in results/<name>/: train.json (its configuration), checkpoint.zip (to go on from), curve.csv (one row an
evaluation) with curves.png, marks.json (the same of other policies, to compare with), tensorboard/, policy.onnx and
policy.json (of the best evaluation so far).
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, ValidationError, model_validator
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from testbed.autoscaling import placement_features
from testbed.autoscaling.features import FEATURES, VERSION
from testbed.autoscaling.mixes import KindScale
from testbed.autoscaling.policy_file import PolicyFile, write_pair
from testbed.calibration.profile import ServiceProfile
from testbed.config import Strict
from testbed.errors import ConfigError
from testbed.kiscaler.control import Shuffled
from testbed.kiscaler.env import ScalingEnv, Weights
from testbed.kiscaler.imitation import imitate
from testbed.kiscaler.marks import play_marks
from testbed.kiscaler.placement_env import PlacementEnv
from testbed.kiscaler.placement_scenarios import PlacementScenarios, placement_scenarios
from testbed.kiscaler.scenarios import Ranges, Scenarios
from testbed.reporting.training import save_curves
from testbed.simulation.cluster.config import ClusterConfig
from workloads.files import replacing, write_json

ROLLOUT = 3_600  # decisions between two updates
IMITATION_ROUNDS = 4
EVALUATION_SEED = 10_000_000  # worlds from here on are for judging; training draws its own below 2**31 at random
Progress = Callable[[float], None]


class TrainConfig(Strict):
    """`kis train`: in which worlds, for which reward, for how long."""

    cluster: ClusterConfig = Field(description="its one model is what is scaled")
    per_replica_rps: float | None = Field(
        None, gt=0, description="that one replica serves within the target (`kis plan` tells); none with placement"
    )
    placement: dict[str, KindScale] = Field(
        {}, description="by GPU kind; given: which kind is part of the action (KIScalerPlacement-v1)"
    )
    ranges: Ranges = Field(Ranges(), description="what is drawn anew for each episode")
    weights: Weights = Field(Weights(), description="of the reward")
    step_s: float = Field(5.0, gt=0, description="from one decision to the next")
    episode_steps: int = Field(60, ge=1, description="decisions of an episode")
    reach: int = Field(2, ge=1, description="largest change of one decision")
    total_steps: int = Field(300_000, ge=1, description="decisions, of all environments together")
    imitated_steps: int = Field(60_000, ge=0, description="decisions that a teacher shows before; 0: no teacher")
    environments: int = Field(6, ge=1, description="processes that simulate; three for each core keep it busy")
    evaluate_every: int = Field(20_000, ge=1, description="decisions")
    evaluation_worlds: int = Field(12, ge=1, description="never trained on, the same at each evaluation")
    marks: dict[str, dict[str, Any]] = Field({}, description="policies to compare with, by a name of yours (marks.py)")
    control: Literal["shuffled"] | None = Field(None, description="learn from others' observations (control.py)")
    patience: int = Field(8, ge=1, description="evaluations without a better one, then it ends")
    seed: int = Field(0, description="of everything that is drawn")

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if (self.per_replica_rps is None) != bool(self.placement):
            raise ValueError("give either per_replica_rps, or placement with per_replica_rps and gpu_cost by GPU kind")
        if self.placement and self.marks:
            raise ValueError("marks: these policies do not choose the kind of GPU: leave them out with placement")
        return self


class Evaluation(NamedTuple):
    """Means over the evaluation's worlds. missed: share of requests; gpu: share of what max_replicas would hold.

    steps: decisions that were learned from, seconds: wall clock of the training so far; both 0 of a mark.
    """

    steps: int
    reward: float
    missed: float
    gpu: float
    churn: float
    seconds: float = 0.0


def scenarios_of(config: TrainConfig) -> Scenarios:
    """The worlds of a configuration; ArtifactError if a profile cannot be read."""
    profiles = {kind: ServiceProfile.read(file) for kind, file in config.cluster.models[0].profiles.items()}
    if config.per_replica_rps is None:
        return placement_scenarios(config.cluster, profiles, config.placement, config.ranges, config.step_s)
    return Scenarios(config.cluster, profiles, config.per_replica_rps, config.ranges, config.step_s)


def make_env(config: TrainConfig, scenarios: Scenarios, *, teacher: bool = False) -> ScalingEnv | Shuffled:
    """One environment."""
    env: ScalingEnv
    if isinstance(scenarios, PlacementScenarios):
        env = PlacementEnv(scenarios, config.weights, steps=config.episode_steps, reach=config.reach, teacher=teacher)
    else:
        env = ScalingEnv(scenarios, config.weights, steps=config.episode_steps, reach=config.reach, teacher=teacher)
    return env if config.control is None else Shuffled(env)


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
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "train.json"
    if file.exists() and not is_same(json.loads(file.read_text()), config):
        raise ConfigError(f"{file} is of another training: choose another folder, or give that configuration")
    write_json(file, config.model_dump(mode="json"))
    scenarios = scenarios or scenarios_of(config)
    write_marks(config, scenarios, folder / "marks.json")
    torch.manual_seed(config.seed)
    checkpoint = folder / "checkpoint.zip"
    torch.set_num_threads(1)  # the simulations need the cores, and the networks are small
    judge = _Judge(config, make_env(config, scenarios), folder, on_evaluation, progress)
    several = SubprocVecEnv if config.environments > 1 else DummyVecEnv  # one needs no process of its own
    environments = several([lambda: make_env(config, scenarios, teacher=True)] * config.environments)
    try:
        if checkpoint.exists():
            model = PPO.load(checkpoint, env=environments, device="cpu")
            model.set_random_seed(resume_seed(config.seed, model.num_timesteps))
        else:
            model = _new_model(config, environments, folder)
            if config.imitated_steps > 0:
                imitate(model, environments, config.imitated_steps, IMITATION_ROUNDS)
        left = config.total_steps - model.num_timesteps
        if left > 0 and not judge.over:
            model.learn(left, callback=judge, reset_num_timesteps=False, tb_log_name="ppo")
    finally:
        environments.close()
    return folder / "policy.onnx"


def resume_seed(seed: int, steps: int) -> int:
    """Of worlds, actions and batches after `steps` decisions.

    PPO.load seeds everything with the training's own seed, so that it would draw again the worlds that it began with.
    """
    return int(np.random.SeedSequence((seed, steps)).generate_state(1)[0]) >> 1  # each environment's is a little more


def is_same(told: dict[str, Any], config: TrainConfig) -> bool:
    """Is what was written down this configuration? A key that there was not yet has its default."""
    try:
        return TrainConfig.model_validate(told).model_dump(mode="json") == config.model_dump(mode="json")
    except ValidationError:
        return False


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


class _Judge(BaseCallback):
    """Evaluates every so many decisions, keeps the best and a checkpoint, and ends when nothing gets better."""

    def __init__(
        self,
        config: TrainConfig,
        env: ScalingEnv | Shuffled,
        folder: Path,
        on_evaluation: Callable[[Evaluation], None],
        progress: Progress,
    ) -> None:
        super().__init__()
        self._config, self._env, self._folder = config, env, folder
        self._tell, self._progress = on_evaluation, progress
        self._curve = read_curve(folder / "curve.csv")
        self._began_s = time.monotonic() - (self._curve[-1].seconds if self._curve else 0.0)

    @property
    def over(self) -> bool:
        """Has nothing got better for as long as the patience lasts?"""
        rewards = [one.reward for one in self._curve]
        return bool(rewards) and len(rewards) - 1 - int(np.argmax(rewards)) >= self._config.patience

    def _on_step(self) -> bool:
        self._progress(min(1.0, self.num_timesteps / self._config.total_steps))
        last = self._curve[-1].steps if self._curve else -self._config.evaluate_every  # what was imitated is judged too
        at_its_end = last < self._config.total_steps <= self.num_timesteps
        if self.num_timesteps - last < self._config.evaluate_every and not at_its_end:
            return True
        found = evaluate(self._env, self._greedy, self._config.evaluation_worlds, self.num_timesteps)
        found = found._replace(seconds=round(time.monotonic() - self._began_s, 1))
        better = not self._curve or found.reward > max(one.reward for one in self._curve)
        self._curve.append(found)
        if better:  # before its row: a row without its policy would keep all later ones from being exported
            export(self.model.policy, self._config, found, self._folder)
        _append(self._folder / "curve.csv", found)
        with replacing(self._folder / "checkpoint.zip") as temporary:
            self.model.save(temporary)
        for name in ("reward", "missed", "gpu", "churn"):
            self.logger.record(f"evaluation/{name}", getattr(found, name))
        save_curves([self._folder], self._folder / "curves.png")
        self._tell(found)
        return not self.over and self.num_timesteps < self._config.total_steps

    def _greedy(self, features: npt.NDArray[np.float32]) -> int:
        action, _ = self.model.predict(features, deterministic=True)
        return int(action)


def evaluate(
    env: ScalingEnv | Shuffled, choose: Callable[[npt.NDArray[np.float32]], int], worlds: int, steps: int = 0
) -> Evaluation:
    """Play each evaluation world once."""
    sums = np.zeros(4)
    for number in range(worlds):
        seen, _ = env.reset(options={"scenario_seed": EVALUATION_SEED + number})
        over = False
        while not over:
            seen, reward, _, over, parts = env.step(np.int64(choose(seen)))
            sums += (float(reward), parts["missed"], parts["gpu"], parts["churn"])
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
    """policy.onnx and policy.json, which are replaced together (policy_file.py)."""
    actor = _Actor(policy).cpu().eval()
    exported: Any = io.BytesIO()  # torch takes one, though its types do not say so
    version, names = _features(config)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            actor,
            (torch.zeros(1, len(names)),),
            exported,
            input_names=["features"],
            output_names=["logits"],
            dynamic_axes={"features": {0: "n"}, "logits": {0: "n"}},
            dynamo=False,
        )
    told = PolicyFile(
        features_version=version,
        features=names,
        sha256=hashlib.sha256(exported.getvalue()).hexdigest(),
        reach=config.reach,
        step_s=config.step_s,
        prices=config.ranges.price,
        trained={
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "steps": judged.steps,
            "control": config.control,
            "evaluation": judged._asdict(),
            "configuration": config.model_dump(mode="json"),
        },
    )
    write_pair(folder / "policy.onnx", exported.getvalue(), told)


def write_marks(config: TrainConfig, scenarios: Scenarios, file: Path) -> None:
    """A row of curve.csv for each mark, by its name; they are played once, as the configuration stays."""
    if file.exists():
        return
    worlds = range(EVALUATION_SEED, EVALUATION_SEED + config.evaluation_worlds)
    found = play_marks(config.marks, scenarios, config.weights, config.episode_steps, worlds)
    rows = {name: Evaluation(0, **means)._asdict() for name, means in found.items()}
    write_json(file, rows)


def _features(config: TrainConfig) -> tuple[int | str, tuple[str, ...]]:
    """Version and names of what its policy is given."""
    if config.placement:
        return placement_features.VERSION, placement_features.feature_names(tuple(config.placement))
    return VERSION, tuple(FEATURES)


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
