"""A policy: (what is seen, what it remembers) -> how many replicas. Each is a file in policies/.

Policies are values without clock or cluster. What one remembers is a value too, handed in and handed back, so that a
controller can be restarted.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from testbed.autoscaling.observation import Observation


class Decision(NamedTuple):
    """replicas: wanted from now on. memory: hand it to the next call. reason: one line for logs."""

    replicas: int
    memory: Any
    reason: str


class Policy(Protocol):
    """Asked every period_s; memory is None at the first call."""

    @property
    def name(self) -> str:
        """For tables and files."""

    @property
    def period_s(self) -> float:
        """Seconds from one decision to the next."""

    def decide(self, observation: Observation, memory: Any) -> Decision:
        """How many replicas there should be."""


Recommendations = tuple[tuple[float, int], ...]  # when (seconds), and how many replicas


def kept(before: Recommendations, now_s: float, delay_s: float, wanted: int) -> Recommendations:
    """What a policy has wanted in the last delay_s, and wants now: for those that scale down to the largest of it."""
    return (*(recommendation for recommendation in before if recommendation[0] > now_s - delay_s), (now_s, wanted))
