"""A rule that a network corrects: what was learned is only where to depart from the rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from testbed.autoscaling.features import FEATURES, FeatureScale, Past, features_of, with_proposal
from testbed.autoscaling.forecast import SMOOTHED
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policies.learned import Learned, explained
from testbed.autoscaling.policies.rule import Rule
from testbed.autoscaling.policy import Decision, policy

MARGIN = -0.05  # of the rule: the network adds what is missing
ASSUMED_GAP = 35.0  # start-ups: the rule's hold_s


def rule_of(scale: FeatureScale) -> Rule:
    """The rule whose proposals are corrected: the same in training and deployed."""
    return Rule(
        replica_capacity_rps=scale.replica_capacity_rps,
        provisioning_delay_s=scale.provisioning_delay_s,
        max_replicas=scale.max_replicas,
        margin=MARGIN,
        hold_s=ASSUMED_GAP * scale.provisioning_delay_s,
        slo_penalty=scale.slo_penalty,
        metrics_delay_s=scale.metrics_delay_s,
        period_s=scale.step_s,
    )


class _CorrectedMemory(NamedTuple):
    past: Past
    rule: Any


@policy("corrected")
@dataclass(frozen=True)
class Corrected(Learned):
    """`rule` with a correction of -k..k replicas by a network that sees the rule's proposal beside Learned's features.

    Its settings are Learned's. Whatever the network answers, the count stays within k of what the rule wants.
    """

    told: ClassVar[str] = "as rule, and as learned"
    corrects: ClassVar[str | None] = "rule"

    name: str = "corrected"

    def decide(self, observation: Observation, memory: Any) -> Decision:
        """See Policy."""
        memory = memory or _CorrectedMemory(Past(observation.now_s, 0), None)
        scale, spec = self.scale, observation.spec_replicas
        proposal = rule_of(scale).decide(observation, memory.rule)
        features, past = features_of(observation, memory.past, scale)
        if features is None or len(past.rates) < SMOOTHED:
            return Decision(spec, _CorrectedMemory(past, proposal.memory), "no metrics yet, or one is no number")
        correction = self.change(with_proposal(features, proposal.replicas, spec, scale))
        if correction is None:
            return Decision(spec, _CorrectedMemory(past, proposal.memory), "the network's answer is no number")
        wanted = min(max(proposal.replicas + correction, self.min_replicas), self.max_replicas)
        if wanted != spec:
            past = past._replace(change_s=observation.now_s, change=wanted - spec)
        seen = dict(zip(FEATURES, features.tolist(), strict=True))
        reason = f"rule {proposal.replicas}, corrected {correction:+d}: {explained(seen, spec, scale, past)}"
        return Decision(wanted, _CorrectedMemory(past, proposal.memory), reason)
