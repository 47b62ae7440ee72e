"""What an activator (`kis activator`) before the pods has counted: also while there is no pod to ask."""

from __future__ import annotations

import math
from typing import NamedTuple

from testbed.errors import ServingError
from testbed.measurement.triton_metrics import families_of, read_page

SENT, HELD = "kis_activator_requests", "kis_activator_held_connections"
ACTIVATOR = "activator"  # what told nothing, where pods that told nothing are named
TIMEOUT_S = 0.9


class Demand(NamedTuple):
    """sent: requests since the first reading began to count; held: connections that wait for a pod, now."""

    sent: float
    held: float


class ActivatorReader:
    """Reads one deployment's counts at an activator's metrics page. The count goes on where an activator began anew."""

    def __init__(self, url: str, deployment: str) -> None:
        self._url, self._deployment = url, deployment
        self._last = self._before = 0.0

    def read(self) -> Demand:
        """Now; ServingError if it does not answer, or does not know the deployment."""
        values = {SENT: math.nan, HELD: math.nan}
        try:
            for family in families_of(read_page(self._url, TIMEOUT_S)):
                for sample in family.samples:
                    if family.name in values and sample.labels.get("deployment") == self._deployment:
                        values[family.name] = sample.value
        except ValueError as error:
            raise ServingError(f"{self._url} cannot be read ({error}): is this an activator's address?") from None
        sent, held = values[SENT], values[HELD]
        if not (math.isfinite(sent) and math.isfinite(held)):
            raise ServingError(f"{self._url} counts nothing of deployment '{self._deployment}': is it an activator's?")
        if sent < self._last:
            self._before += self._last
        self._last = sent
        return Demand(self._before + sent, held)
