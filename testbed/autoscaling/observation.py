"""What a policy sees of one deployment: the same from a simulation and from a cluster, at the age it has there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.hpa.pods import PodState

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """What each pod did in the seconds (start_s, end_s]: one entry a pod that was sampled at the end.

    A counter of a pod that was not there at the start counts from its own start.
    """

    start_s: float
    end_s: float
    pods: tuple[str, ...]
    requests: FloatArray  # answered
    queue_s: FloatArray  # sum over those requests of their time in the queue
    waiting: FloatArray  # requests in the queue, at the end
    in_flight: FloatArray  # requests that were sent and not answered: mean of the samples in the window
    utilisation: FloatArray  # share of the window that the pod's device was busy
    cpu_cores: FloatArray  # that the pod used; NaN: not known

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end_s - self.start_s

    @property
    def rate_rps(self) -> float:
        """Answered requests per second, all pods."""
        return float(self.requests.sum()) / self.seconds

    @property
    def mean_queue_s(self) -> float:
        """Mean time in the queue of the requests answered; NaN if there were none."""
        total = float(self.requests.sum())
        return float(self.queue_s.sum()) / total if total else float("nan")


class Observation(Protocol):
    """One deployment at one moment."""

    @property
    def now_s(self) -> float:
        """Seconds on the run's clock."""

    @property
    def spec_replicas(self) -> int:
        """Asked for."""

    @property
    def pods(self) -> Sequence[PodState]:
        """That the deployment's selector finds."""

    def window(self, seconds: float, age_s: float) -> Window | None:
        """The last whole window among samples that are at least age_s old; None: there is none yet."""
