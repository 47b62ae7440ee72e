"""Where the adapter's values come from: whoever can answer these questions can be served to the HPA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Value(NamedTuple):
    """One measured value in milli-units: over the window_s seconds that end at time_s (since 1970).

    labels: a pod's own, or those of a deployment's value. pod: empty for the value of a whole deployment.
    """

    pod: str
    labels: Mapping[str, str]
    value_m: int
    time_s: float
    window_s: float


class MetricSource(Protocol):
    """Values by namespace and metric. What was not measured is not among them: there is no value for 'not known'."""

    @property
    def metrics(self) -> Sequence[str]:
        """Their names."""

    def of_pods(self, namespace: str, metric: str) -> Sequence[Value]:
        """One for each pod that was measured."""

    def of_deployments(self, namespace: str, metric: str) -> Sequence[Value]:
        """One for each deployment that was measured."""
