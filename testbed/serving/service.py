"""What replicas of a service tell, however they are had: local processes here, a Kubernetes Deployment elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ReplicaState = Literal["starting", "ready", "draining", "gone"]


@dataclass(frozen=True)
class Endpoint:
    """Where one ready replica listens; the addresses are host:port."""

    name: str  # of the replica; never used again for another one
    http: str
    grpc: str
    metrics: str
    pid: int | None  # of the server's process; None if it is not on this machine


@dataclass(frozen=True)
class ReplicaEvent:
    """A replica entered a state. `start_up_s`, with state ready: seconds from the process's start to a ready model."""

    time_ns: int  # CLOCK_MONOTONIC
    replica: str
    state: ReplicaState
    start_up_s: float | None = None
