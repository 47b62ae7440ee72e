"""What a policy offers to a search over its settings (`kis tune`), and what it may rest on.

A policy that can be tuned has a classmethod in its own file:

    suggested(trial, service, given) -> dict      its settings in this trial, without `kind`

    first_tried(service) -> list[dict]            values that a trial suggests, to be tried first; need not be there

trial: optuna's, which suggests values by name. given: the settings that the user has fixed; they replace what is
suggested, and a policy reads them where others depend on them. All ranges are relative to the service, so that one
range fits a pod that starts in 4 s and one that takes two minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from testbed.autoscaling.metrics import ReplicaCapacity


class ServedService(NamedTuple):
    """What is known of a service before it has traffic. provisioning_delay_s: from asked for to serving.

    metrics_delay_s: age of the newest sample that a policy sees; window_s: over which an adapter averages.
    """

    replica: ReplicaCapacity
    max_replicas: int
    provisioning_delay_s: float
    metrics_delay_s: float
    window_s: float


class Trial(Protocol):
    """As much of optuna's Trial as policies use. The same name is asked for with the same range in every trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Between both."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Between both, both included."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of them."""
