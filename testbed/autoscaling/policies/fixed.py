"""No autoscaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.search import ServedService, Trial


@policy("fixed")
@dataclass(frozen=True)
class Fixed:
    """Always the same number."""

    told: ClassVar[str] = "nothing"

    replicas: int
    period_s: float = 60.0

    @property
    def name(self) -> str:
        """See Policy."""
        return f"fixed-{self.replicas}"

    @classmethod
    def start_replicas(cls, settings: Mapping[str, Any]) -> int | None:
        """What a run begins with: the number itself is there from the start."""
        replicas = settings.get("replicas")
        return replicas if isinstance(replicas, int) else None

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        return {"replicas": trial.suggest_int("replicas", 1, service.max_replicas)}

    def decide(self, observation: Observation, memory: Any) -> Decision:
        """See Policy."""
        return Decision(self.replicas, None, "fixed")
