"""What the methods of stable-baselines3 share: the library's checkpoint, its loop of learning, and its log."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from testbed.kiscaler.learner import Learner, resume_seed

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from testbed.kiscaler.evaluation import Evaluation


class StableBaselines(Learner):
    """A Learner whose `model`, made by `begin` or `load`, is an algorithm of that library."""

    model: BaseAlgorithm

    @abstractmethod
    def algorithm(self) -> type[BaseAlgorithm]:
        """Its class, imported when it is asked for."""

    @property
    def steps(self) -> int:
        """See Learner."""
        return self.model.num_timesteps

    def load(self, checkpoint: Path) -> None:
        """See Learner."""
        self.model = self.algorithm().load(checkpoint, env=self.environments, device="cpu")
        self.model.set_random_seed(resume_seed(self.config.seed, self.steps))

    def save(self, file: Path) -> None:
        """See Learner."""
        self.model.save(file)

    def learn(self, go_on: Callable[[], bool]) -> None:
        """See Learner."""
        left = self.config.total_steps - self.steps
        self.model.learn(left, callback=lambda *_: go_on(), reset_num_timesteps=False, tb_log_name=self.name)

    def choose(self, features: npt.NDArray[np.float32]) -> int:
        """See Learner."""
        action, _ = self.model.predict(features, deterministic=True)
        return int(action)

    def log(self, evaluation: Evaluation) -> None:
        """For TensorBoard."""
        for name in ("reward", "slo_violation_rate", "gpu", "churn"):
            self.model.logger.record(f"evaluation/{name}", getattr(evaluation, name))

    def common_settings(self) -> dict[str, Any]:
        """Of every algorithm."""
        return {"tensorboard_log": str(self.folder / "tensorboard"), "seed": self.config.seed, "device": "cpu"}
