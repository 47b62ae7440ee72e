"""Which of the testbed's metrics a metric of theirs is: the same name, or what the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from testbed.autoscaling.metrics import METRICS, SERVICE_METRICS, did_you_mean, is_metric
from testbed.autoscaling.policies.keda import FORECAST
from testbed.errors import ConfigError

SMALLEST, LARGEST = 1e-12, 1e12  # factor between two units
SAID = re.compile(r"(?:(?P<factor>\d+(?:\.\d+)?(?:e[+-]?\d+)?) *\* *)?(?P<name>\S+)")
LIKELY = {  # a part of their name -> ours, for the example of an error
    "gpu": "gpu_utilisation_pct",
    "queue_dur": "queue_time_ms",
    "queue_time": "queue_time_ms",
    "latency": "queue_time_ms",
    "pending": "pending_requests",
    "waiting": "pending_requests",
    "queue": "pending_requests",
    "flight": "in_flight_requests",
    "running": "in_flight_requests",
    "concurren": "in_flight_requests",
}
MEANS = {"gpu_utilisation_pct": "mean_gpu_utilisation_pct"}  # of all pods, where a query rather has a mean than a sum


class Ours(NamedTuple):
    """Theirs is `factor` times the metric of that name."""

    name: str
    factor: float = 1.0


@dataclass
class Names:
    """said: by their name, ours: `queue_time_ms`, or in their unit `1000 * queue_time_ms`."""

    said: Mapping[str, str]
    used: list[str] = field(default_factory=list)  # their names that were asked for

    def ours(self, theirs: str, where: str, *, of_service: bool) -> Ours:
        """ConfigError, if nobody says. of_service: may it be a metric of the service as a whole?"""
        self.used.append(theirs)
        match = SAID.fullmatch(str(self.said.get(theirs, theirs)).strip())
        if match is None:
            raise ConfigError(f"{where}: metrics: {theirs}: give one of ours, or e.g. '1000 * queue_time_ms'")
        name = match["name"]
        if name == FORECAST or not is_metric(name, of_service=of_service):
            raise ConfigError(f"{where}: {unknown(theirs, name, of_service=of_service)}")
        factor = float(match["factor"] or 1)
        if not SMALLEST <= factor <= LARGEST:
            bounds = f"above 0, from {SMALLEST:g} to {LARGEST:g}"
            raise ConfigError(f"{where}: metrics: {theirs}: the factor must be {bounds}")
        return Ours(name, factor)

    def check_all_used(self, where: str) -> None:
        """ConfigError, if a metric was named that is not there."""
        for theirs in self.said:
            if theirs not in self.used:
                has = ", ".join(self.used) or "none that needs a name"
                raise ConfigError(f"{where}: metrics: it has no '{theirs}': it has {has}")


def likely(theirs: str, *, of_service: bool) -> str:
    """Which of ours a name or a query of theirs may mean, for the example of an error."""
    ours = next((ours for part, ours in LIKELY.items() if part in theirs.lower()), "requests_per_second")
    return MEANS.get(ours, ours) if of_service else ours


def unknown(theirs: str, name: str, *, of_service: bool) -> str:
    """What to do about a metric that nobody here knows."""
    known = ", ".join([*METRICS.known(), *(SERVICE_METRICS if of_service else ())])
    if name != theirs:
        return f"metrics: {theirs}: '{name}' is none of ours: {did_you_mean(name)}known are {known}"
    ours = likely(theirs, of_service=of_service)
    return (
        f"'{theirs}' is none of the testbed's metrics ({known}): say which one it is, "
        f"--metric '{theirs}={ours}', or in a configuration metrics: {{{theirs}: {ours}}}; "
        f"in another unit, e.g. '1000 * {ours}'"
    )
