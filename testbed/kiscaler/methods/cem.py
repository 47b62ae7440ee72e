"""A linear policy, found by the noisy cross-entropy method.

After I. Szita and A. Lörincz: Learning Tetris using the noisy cross-entropy method, Neural Computation 18 (2006),
2936-2941, https://doi.org/10.1162/neco.2006.18.12.2936: parameters are drawn from a normal distribution, independently
of each other; it becomes that of the best quarter; and noise that gets smaller is added to its variance, without which
it would be narrow before it is good.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.kiscaler.learner import Learner, resume_seed

FloatArray = npt.NDArray[np.float64]
CANDIDATES = 48  # of a generation, or a few more: as many as fill the environments
SCENARIOS = 1  # that each of them is played in: fewer leave more generations
ELITE = 0.25
DEVIATION = 1.0  # at the beginning
NOISE = 0.3  # deviation that is added at the beginning; its square falls to 0 over the training
STAYS = 2.5  # logit by which no change is the largest of the first mean


class Distribution(NamedTuple):
    """Of the parameters, float64[p] each: logits = W features + b, row by row of [W | b]."""

    mean: FloatArray
    deviation: FloatArray


def logits_of(parameters: FloatArray, features: npt.NDArray[np.float32]) -> FloatArray:
    """float64[n, actions]. parameters: float64[n, p], features: float32[n, k]."""
    n, k = features.shape
    weights = parameters.reshape(n, -1, k + 1)
    return np.asarray(np.einsum("nak,nk->na", weights[:, :, :k], features) + weights[:, :, k])


def first_distribution(features: int, max_step: int) -> Distribution:
    """Its mean changes nothing, whatever it sees."""
    mean = np.zeros((2 * max_step + 1, features + 1))
    mean[max_step, features] = STAYS
    return Distribution(mean.ravel(), np.full(mean.size, DEVIATION))


def updated(candidates: FloatArray, returns: FloatArray, noise: float) -> Distribution:
    """Of the elite. candidates: float64[n, p], returns: float64[n], noise: added to the variance."""
    elite = candidates[np.argsort(returns)[-max(1, int(ELITE * len(returns))) :]]
    return Distribution(elite.mean(axis=0), np.sqrt(elite.var(axis=0) + noise))


class CrossEntropyMethod(Learner):
    """A linear policy by the noisy cross-entropy method (Szita and Lörincz 2006); at first it changes nothing.

    All candidates of a generation are played in the same drawn scenarios, for whole episodes. The policy that is judged
    and exported is the mean of their distribution.
    """

    name = "cem"
    title = "linear policy by the cross-entropy method"

    def begin(self, on_imitated: Callable[[float], None]) -> None:
        """See Learner."""
        features = self.environments.observation_space.shape
        assert features is not None
        self._go_on_from(0, first_distribution(features[0], self.config.max_step))

    def load(self, checkpoint: Path) -> None:
        """See Learner. The generation that was being played is played again: an interrupt changes no result."""
        with np.load(checkpoint) as state:
            self._go_on_from(int(state["generation"]), Distribution(state["mean"], state["deviation"]))

    def save(self, file: Path) -> None:
        """See Learner."""
        with file.open("wb") as out:
            np.savez(out, generation=self._generation, **self._distribution._asdict())

    def _go_on_from(self, generation: int, distribution: Distribution) -> None:
        n = self.environments.num_envs
        self._candidates = -(-CANDIDATES // n) * n
        self._generation, self._distribution = generation, distribution
        self._of_generation = 0  # decisions of the one that is being played
        self.environments.seed(resume_seed(self.config.seed, self.steps))

    @property
    def steps(self) -> int:
        """See Learner."""
        return self._generation * self._candidates * SCENARIOS * self.config.episode_steps + self._of_generation

    def learn(self, go_on: Callable[[], bool]) -> None:
        """See Learner. A generation that the end cuts short changes nothing."""
        while self._play_generation(go_on):
            pass

    def _play_generation(self, go_on: Callable[[], bool]) -> bool:
        """False: it was cut short."""
        rng = np.random.default_rng((self.config.seed, self._generation))
        mean, deviation = self._distribution
        candidates = mean + deviation * rng.standard_normal((self._candidates, len(mean)))
        returns = np.zeros(self._candidates)
        for scenario in rng.integers(2**31, size=SCENARIOS).tolist():
            for first in range(0, self._candidates, self.environments.num_envs):
                side_by_side = slice(first, first + self.environments.num_envs)
                if not self._play(candidates[side_by_side], scenario, returns[side_by_side], go_on):
                    return False
        noise = NOISE**2 * max(0.0, 1 - self.steps / self.config.total_steps)
        self._distribution = updated(candidates, returns, noise)
        self._generation, self._of_generation = self._generation + 1, 0
        return True

    def _play(self, candidates: FloatArray, scenario: int, returns: FloatArray, go_on: Callable[[], bool]) -> bool:
        """An episode of one candidate in each environment, whose rewards are added to `returns`."""
        self.environments.set_options({"scenario_seed": scenario})
        seen: Any = self.environments.reset()
        for _ in range(self.config.episode_steps):
            seen, rewards, _, _ = self.environments.step(logits_of(candidates, seen).argmax(axis=1))
            returns += rewards
            self._of_generation += len(candidates)
            if not go_on():
                return False
        return True

    def choose(self, features: npt.NDArray[np.float32]) -> int:
        """See Learner."""
        return int(logits_of(self._distribution.mean[None], features[None]).argmax())

    def network(self) -> Any:
        """See Learner."""
        import torch

        rows = torch.from_numpy(self._distribution.mean.reshape(2 * self.config.max_step + 1, -1)).float()
        linear = torch.nn.Linear(rows.shape[1] - 1, rows.shape[0])
        with torch.no_grad():
            linear.weight.copy_(rows[:, :-1])
            linear.bias.copy_(rows[:, -1])
        return linear
