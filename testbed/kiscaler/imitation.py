"""The start of a training: the network imitates a teacher, where the network itself goes (DAgger).

Round 0 follows the teacher, the others the network; the teacher's answers are what is learned in all of them. The
critic learns what the rewards of those rounds added up to, so that PPO's first steps do not undo what was imitated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

STRAY = 0.1  # of the actions are random: what comes after a mistake is to be seen too
EPOCHS, BATCH, RATE = 6, 512, 1e-3
TAIL = 60  # steps at the end of what was collected, whose rewards are not all known


@dataclass
class _Collected:
    observations: list[npt.NDArray[np.float32]] = field(default_factory=list)
    teacher_actions: list[npt.NDArray[np.int64]] = field(default_factory=list)
    returns: list[npt.NDArray[np.float32]] = field(default_factory=list)


def imitate(
    model: PPO, environments: VecEnv, steps: int, rounds: int, on_progress: Callable[[float], None] = lambda _: None
) -> float:
    """Teach the model; returns the share of the last round in which it chose as the teacher did.

    The environments tell the teacher's action of what they show in info["teacher"].
    """
    rng = np.random.default_rng(model.seed)
    collected = _Collected()
    agreed = 0.0
    for number in range(rounds):

        def tell(share: float, number: int = number) -> None:
            on_progress((number + share) / rounds)

        agreed = _collect(model, environments, collected, steps // rounds, number > 0, rng, tell)
        _fit(model, collected)
    return agreed


def _collect(
    model: PPO,
    environments: VecEnv,
    into: _Collected,
    steps: int,
    follow_model: bool,
    rng: np.random.Generator,
    on_progress: Callable[[float], None],
) -> float:
    """One round; returns the share of its steps in which the network chose as the teacher did."""
    n = environments.num_envs
    observations = np.asarray(environments.reset())
    teacher = _actions_of_teacher(environments.reset_infos)
    rows, labels, rewards, ends, agreed = [], [], [], [], []
    count = max(2 * TAIL, steps // n)
    for done in range(count):
        on_progress(done / count)
        own, _ = model.predict(observations, deterministic=False)
        agreed.append(float(np.mean(own == teacher)))
        stray = rng.random(n) < STRAY
        actions = np.where(stray, rng.integers(_choices(model), size=n), own if follow_model else teacher)
        rows.append(observations)
        labels.append(teacher)
        answer, reward, over, infos = environments.step(actions)
        observations = np.asarray(answer)
        rewards.append(reward)
        ends.append(over)
        # Where an episode is over, what is shown is the next one's beginning.
        teacher = _actions_of_teacher(
            [environments.reset_infos[k] if done else infos[k] for k, done in enumerate(over.tolist())]
        )
    into.observations.extend(rows[:-TAIL])
    into.teacher_actions.extend(labels[:-TAIL])
    into.returns.extend(returns_of(rewards, ends, model.gamma)[:-TAIL])
    return float(np.mean(agreed))


def returns_of(
    rewards: Sequence[npt.NDArray[np.float32]], ends: Sequence[npt.NDArray[np.bool_]], gamma: float
) -> list[npt.NDArray[np.float32]]:
    """What the rewards from each step on add up to, discounted, until the episode is over or nothing more is known."""
    later, discounted = np.zeros_like(rewards[0]), []
    for reward, over in zip(reversed(rewards), reversed(ends), strict=True):
        later = (reward + gamma * later * ~over).astype(np.float32)
        discounted.append(later)
    return discounted[::-1]


def _actions_of_teacher(infos: Sequence[dict[str, Any]]) -> npt.NDArray[np.int64]:
    return np.array([info["teacher"] for info in infos], dtype=np.int64)


def _choices(model: PPO) -> int:
    space = model.action_space
    assert isinstance(space, gymnasium.spaces.Discrete)
    return int(space.n)


def _fit(model: PPO, collected: _Collected) -> None:
    observations = torch.as_tensor(np.concatenate(collected.observations))
    teacher_actions = torch.as_tensor(np.concatenate(collected.teacher_actions))
    returns = torch.as_tensor(np.concatenate(collected.returns), dtype=torch.float32)
    policy = model.policy
    optimiser = torch.optim.Adam(policy.parameters(), lr=RATE)
    policy.set_training_mode(True)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(observations)), BATCH):
            values, log_probability, _ = policy.evaluate_actions(observations[batch], teacher_actions[batch])
            loss = -log_probability.mean() + 0.5 * torch.nn.functional.mse_loss(values.flatten(), returns[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimiser.step()
    policy.set_training_mode(False)
