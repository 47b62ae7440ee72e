"""PPO, after the imitation of a teacher (imitation.py)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from testbed.kiscaler.stable_baselines import StableBaselines

if TYPE_CHECKING:
    from stable_baselines3 import PPO

ROLLOUT = 3_600  # decisions between two updates
IMITATION_ROUNDS = 4
UNCORRECTED = 2.5  # logit by which no correction is more likely than each other one: about two thirds of all actions


class ProximalPolicyOptimisation(StableBaselines):
    """Proximal policy optimisation (Schulman et al. 2017) of stable-baselines3, after the imitation of a teacher."""

    name = "ppo"
    title = "PPO of stable-baselines3"
    imitates = True
    model: PPO

    def algorithm(self) -> type[PPO]:
        """See StableBaselines."""
        from stable_baselines3 import PPO

        return PPO

    def begin(self, on_imitated: Callable[[float], None]) -> None:
        """See Learner. With a base and no teacher, most actions correct nothing at first: it is greedily the base."""
        import torch

        from testbed.kiscaler.imitation import imitate

        self.model = self._new_model()
        if self.config.base is not None:
            bias: Any = self.model.policy.action_net.bias
            with torch.no_grad():
                bias[self.config.max_step] += UNCORRECTED
        if self.config.shown_steps > 0:
            imitate(self.model, self.environments, self.config.shown_steps, IMITATION_ROUNDS, on_imitated)

    def network(self) -> Any:
        """See Learner: the actor."""
        import torch

        policy: Any = self.model.policy
        return torch.nn.Sequential(OrderedDict(hidden=policy.mlp_extractor.policy_net, logits=policy.action_net))

    def _new_model(self) -> PPO:
        config = self.config
        rollout = max(64, min(ROLLOUT, config.total_steps) // config.environments)
        return self.algorithm()(
            "MlpPolicy",
            self.environments,
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
            **self.common_settings(),
        )


def falling_rate(left: float) -> float:
    """Learning rate, from the share of the training that is left. Named: a checkpoint then holds no code of it."""
    return 3e-4 * max(left, 0.1)
