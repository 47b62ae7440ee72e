"""What an adaptation remembers from one step to the next: of the service, and what the state that it is in needs.

A state is a value that cannot be had without what it needs: there is no SHADOW without a candidate, and no PROMOTED
without the predecessor to go back to. Times are seconds on the run's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from testbed.adaptation.drift import Detector, Residual
from testbed.autoscaling.policy import Policy
from testbed.calibration.profile import ServiceProfile


class ActivePolicy(NamedTuple):
    """A policy that decides, or decides beside one, and what it remembers."""

    policy: Policy
    memory: Any = None


@dataclass(frozen=True)
class Watching:
    """The detector looks for a change."""

    name: ClassVar[str] = "WATCHING"


@dataclass(frozen=True)
class Alarmed:
    """Windows after the change are gathered. waits: why the alarm is not acted on; empty: nothing is in the way."""

    name: ClassVar[str] = "ALARMED"
    waits: str = ""


@dataclass(frozen=True)
class Recalibrating:
    """Candidates for the new profile are thought over, since since_s."""

    name: ClassVar[str] = "RECALIBRATING"
    since_s: float


@dataclass(frozen=True)
class Shadow:
    """The candidate decides beside the incumbent, since since_s.

    predicted_s: mean time in the server that the judge predicts for it (NaN: not known). differences: in replicas, of
    its decisions from the incumbent's.
    """

    name: ClassVar[str] = "SHADOW"
    since_s: float
    candidate: ActivePolicy
    predicted_s: float
    differences: tuple[int, ...] = ()


@dataclass(frozen=True)
class Promoted:
    """The candidate is the incumbent since since_s, and its predecessor decides beside it.

    fitted_before: the profile that the predecessor's numbers are of. before_s: mean time in the server while the
    candidate waited; predicted_s: as it was predicted for the candidate (NaN: not known). prolonged: why the probation
    goes on for longer; empty: it does not.
    """

    name: ClassVar[str] = "PROMOTED"
    since_s: float
    predecessor: ActivePolicy
    fitted_before: ServiceProfile
    before_s: float
    predicted_s: float
    prolonged: str = ""


@dataclass(frozen=True)
class Kept:
    """Nothing is begun for a while."""

    name: ClassVar[str] = "KEPT"


State = Watching | Alarmed | Recalibrating | Shadow | Promoted | Kept


@dataclass(frozen=True)
class Memory:
    """What every state knows.

    profile: what residuals are taken against, from `file` if it is not the first one; fitted: the one that the
    incumbent's numbers are of. Nothing is begun before free_s. promotions: when; at least those of the last hour.
    rates: of each window of late, arrivals/s; slowness: its end, and time in the server (NaN: not known); waiting:
    requests in the queues at the end of the last one, which was seen_s. after: residuals since the change. tests:
    candidates that were set against this incumbent.
    """

    profile: ServiceProfile
    fitted: ServiceProfile
    detector: Detector
    incumbent: ActivePolicy
    state: State = Watching()
    file: Path | None = None
    free_s: float = -math.inf
    promotions: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    slowness: tuple[tuple[float, float], ...] = ()
    waiting: float = 0.0
    after: tuple[Residual, ...] = ()
    seen_s: float = -math.inf
    tests: int = 0
