"""How many replicas a Deployment has, wants and waits for: rows as a simulated cluster run leaves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from testbed.measurement.source import MissedSample, Sample
from workloads.errors import KisError


class Replicas(NamedTuple):
    """Of one deployment, now. pending: pods that no node has taken."""

    spec: int
    ready: int
    pending: int


class DeploymentSource:
    """Reads replica counts each time. look: asks the cluster; KisError if it does not answer."""

    name = "deployment"

    def __init__(self, model: str, look: Callable[[], Replicas]) -> None:
        self._model, self._look = model, look

    def sample(self) -> list[Sample]:
        """One reading."""
        try:
            counts = self._look()
        except KisError as error:
            raise MissedSample(str(error)) from None
        labels = {"model": self._model}
        return [
            ("deployment", f"{name}_replicas", labels, float(value), "count")
            for name, value in counts._asdict().items()
        ]
