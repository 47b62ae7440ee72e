"""DQN, from a random start, or from a rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.kiscaler.stable_baselines import StableBaselines

if TYPE_CHECKING:
    from stable_baselines3 import DQN

REMEMBERED = 100_000  # decisions to learn from again: 17 MB, which a checkpoint can hold
DECISIONS_AN_UPDATE = 4
PREFERRED = 0.1  # value by which no correction is the best action of a network that has learned nothing


class DeepQNetwork(StableBaselines):
    """Deep Q-learning (Mnih et al. 2015) of stable-baselines3. The values of the actions are exported as the logits.

    It explores with random actions, always in all environments at once: at every of the first steps, at one of 20 from
    a fifth of the training on.
    """

    name = "dqn"
    title = "DQN of stable-baselines3"
    model: DQN

    def algorithm(self) -> type[DQN]:
        """See StableBaselines."""
        from stable_baselines3 import DQN

        return DQN

    def begin(self, on_imitated: Callable[[float], None]) -> None:
        """See Learner. With a base, every state is worth nothing at first but for the base's own action."""
        import torch

        self.model = self._new_model()
        if self.config.base is not None:
            for network in (self.model.q_net, self.model.q_net_target):
                values: Any = network.q_net[-1]
                with torch.no_grad():
                    values.weight.zero_()
                    values.bias.zero_()
                    values.bias[self.config.max_step] = PREFERRED

    def save(self, file: Path) -> None:
        """See Learner: with what it remembers, so that an interrupt changes nothing of that."""
        self.model.save(file, include=["replay_buffer"])

    def network(self) -> Any:
        """See Learner: the values."""
        return self.model.q_net.q_net

    def _new_model(self) -> DQN:
        config = self.config
        return self.algorithm()(
            "MlpPolicy",
            self.environments,
            learning_rate=5e-4,
            buffer_size=min(REMEMBERED, config.total_steps),
            learning_starts=min(1_000, config.total_steps // 10),
            batch_size=128,
            gamma=0.96,  # as PPO
            train_freq=DECISIONS_AN_UPDATE,  # steps of all environments at once
            gradient_steps=config.environments,
            target_update_interval=1_000,
            exploration_fraction=0.2,
            exploration_final_eps=0.05,
            policy_kwargs={"net_arch": [64, 64]},
            **self.common_settings(),
        )
