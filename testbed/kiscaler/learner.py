"""The protocol of a learning method, and where each is found by its name.

A method is one file in methods/ with a class that derives from Learner; one of your own is named by its place, `method:
my_module:MyLearner`, or is an entry point of the group `kis.methods`. It imports its library when it is used:
configurations and reports, which name methods, are read where no library for training is installed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from testbed.errors import ConfigError
from workloads.registry import Registry

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from testbed.kiscaler.evaluation import Evaluation
    from testbed.kiscaler.train_config import TrainConfig


class Learner(ABC):
    """Learns in the scenarios of a training, which does the rest: evaluations, the best network, checkpoints, the end.

    A learner is made, then either `begin` or `load` is called once, then `learn`. Its random values follow from the
    training's seed, and after `load` also from how far it was.

    title: for pages. imitates: it begins with imitated_steps decisions of a teacher, whose action the environments then
    tell as info["teacher"].
    """

    name: ClassVar[str]
    title: ClassVar[str]
    imitates: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "name" in cls.__dict__:
            METHODS.add(cls.name, cls)

    def __init__(self, config: TrainConfig, environments: VecEnv, folder: Path) -> None:
        self.config, self.environments, self.folder = config, environments, folder

    @property
    @abstractmethod
    def steps(self) -> int:
        """Decisions that it has learned from, over all environments."""

    @abstractmethod
    def begin(self, on_imitated: Callable[[float], None]) -> None:
        """Get ready to learn. on_imitated: told the share of the imitation that is done."""

    @abstractmethod
    def load(self, checkpoint: Path) -> None:
        """Go on from what `save` wrote."""

    @abstractmethod
    def save(self, file: Path) -> None:
        """Write all that `load` needs."""

    @abstractmethod
    def learn(self, go_on: Callable[[], bool]) -> None:
        """Learn up to config.total_steps. go_on: called after each step of the environments, when `steps`, `choose`,
        `network` and `save` can be used; False ends the learning at once."""

    @abstractmethod
    def choose(self, features: npt.NDArray[np.float32]) -> int:
        """The best action, as far as it knows. features: float32[k]."""

    @abstractmethod
    def network(self) -> Any:
        """A torch.nn.Module for export: features float32[n, k] -> logits float32[n, 2 max_step + 1], the largest of
        which is what `choose` answers."""

    def log(self, evaluation: Evaluation) -> None:  # noqa: B027 - not every method has one
        """Record an evaluation where the method keeps its own log, if it does."""


METHODS: Registry[type[Learner]] = Registry.of_subclasses(Learner, "learning method", ConfigError, "kis.methods")


def resume_seed(seed: int, steps: int) -> int:
    """Of scenarios, actions and batches after `steps` decisions: with the training's own seed, the first scenarios
    would be drawn again."""
    return int(np.random.SeedSequence((seed, steps)).generate_state(1)[0]) >> 1  # each environment's is a little more
