"""The judge of a training: evaluations of what learns, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from testbed.kiscaler.control import Shuffled
from testbed.kiscaler.env import ScalingEnv
from testbed.kiscaler.evaluation import Evaluation, append_to_curve, evaluate, read_curve
from testbed.kiscaler.export import export
from testbed.kiscaler.learner import Learner
from testbed.kiscaler.train_config import TrainConfig
from testbed.reporting.training import save_curves
from workloads.files import replacing


class Judge:
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
        self._config, self._env, self._folder = config, env, folder
        self._on_evaluation, self._on_steps = on_evaluation, on_steps
        self._curve = read_curve(folder / "curve.csv")
        self._began_s = time.monotonic() - (self._curve[-1].seconds if self._curve else 0.0)

    @property
    def over(self) -> bool:
        """Were all decisions taken, or has nothing got better for as long as the patience lasts?"""
        rewards = [row.reward for row in self._curve]
        return bool(rewards) and (
            self._curve[-1].steps >= self._config.total_steps
            or len(rewards) - 1 - int(np.argmax(rewards)) >= self._config.patience
        )

    def go_on(self, learner: Learner) -> bool:
        """Evaluate it if that is due; False: the training is over."""
        steps, config = learner.steps, self._config
        self._on_steps(min(steps, config.total_steps))
        last = self._curve[-1].steps if self._curve else -config.evaluate_every  # the first network is judged too
        at_its_end = last < config.total_steps <= steps
        if steps - last < config.evaluate_every and not at_its_end:
            return True
        self._evaluate(learner)
        return not self.over

    def _evaluate(self, learner: Learner) -> None:
        evaluation = evaluate(self._env, learner.choose, self._config.evaluation_scenarios, learner.steps)
        evaluation = evaluation._replace(seconds=round(time.monotonic() - self._began_s, 1))
        better = not self._curve or evaluation.reward > max(row.reward for row in self._curve)
        self._curve.append(evaluation)
        if better:  # before its row: a row without its policy would keep all later ones from being exported
            export(learner.network(), self._config, evaluation, self._folder)
        append_to_curve(self._folder / "curve.csv", evaluation)
        with replacing(self._folder / "checkpoint.zip") as temporary:
            learner.save(temporary)
        learner.log(evaluation)
        save_curves([self._folder], self._folder / "curves.png")
        self._on_evaluation(evaluation)
