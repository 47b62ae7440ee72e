"""What a policy sees of one deployment: the same from a simulation and from a cluster, at the age it has there."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.hpa.pods import PodState

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scrape:
    """Metrics of one deployment's pods at one moment; one entry a pod. Counters run from a pod's own start."""

    time_s: float
    pods: tuple[str, ...]
    requests: FloatArray  # answered
    queue_s: FloatArray  # sum over those requests of their time in the queue
    compute_s: FloatArray  # sum over those requests of their batch's time
    waiting: FloatArray  # requests in the queue, now
    active_s: FloatArray  # the pod's device was busy
    cpu_s: FloatArray  # of CPU; NaN: not known
    gpu_share: FloatArray | None = None  # that the pod's GPUs say they were busy just now; NaN: not known
    sent: float | None = None  # requests to the service since its start, as what stands before its pods counts them
    batches: FloatArray | None = None  # executed; None: not told
    batch_s: FloatArray | None = None  # sum over those batches of their time, each once
    held: float | None = None  # that wait before the pods, as there is none to take them, now; None: nobody counts them


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
    in_flight: FloatArray  # requests that the pod had not answered: mean over the window
    utilisation: FloatArray  # share of the window that the pod's device was busy: as its GPUs say, else by active_s
    cpu_cores: FloatArray  # that the pod used; NaN: not known
    sent: float | None = None  # requests to the service, whether a pod took them or not; None: nobody counts them
    batches: FloatArray | None = None  # executed; None: not told
    batch_s: FloatArray | None = None  # sum over those batches of their time, each once
    held: float | None = None  # that wait before the pods, as there is none to take them, at the end
    waiting_before: float = 0.0  # requests in the queues at the start, of all pods

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end_s - self.start_s

    @property
    def rate_rps(self) -> float:
        """Answered requests per second, all pods."""
        return float(self.requests.sum()) / self.seconds

    @property
    def sent_rps(self) -> float | None:
        """Requests per second that clients sent; None: nobody counts them. What is held came again in each window in
        which it waits: whoever looks seldom, or looks for the first time, sees it too."""
        return None if self.sent is None else max(self.sent, self.held or 0.0) / self.seconds

    def arrivals_rps(self, waiting_before: float) -> float:
        """Requests per second that arrived, all pods: those answered, and what the queues grew by since waiting_before,
        as a full replica answers no more than it can. Without pods: those sent, if somebody counts them."""
        if not self.pods and self.sent_rps is not None:
            return self.sent_rps
        return max(0.0, self.rate_rps + (float(self.waiting.sum()) - waiting_before) / self.seconds)


def last_window(
    times_s: Sequence[float], now_s: float, seconds: float, metrics_delay_s: float
) -> tuple[int, int] | None:
    """Places of a window's first and last scrape among ascending times: the last one is at least
    metrics_delay_s old, the first at least `seconds` older; None: there are none such."""
    last = bisect_right(times_s, now_s - metrics_delay_s + 1e-9) - 1
    first = -1 if last < 0 else bisect_right(times_s, times_s[last] - seconds + 1e-9) - 1
    return (first, last) if 0 <= first < last else None


def window_of(scrapes: Sequence[Scrape]) -> Window:
    """What happened between the first and the last of the scrapes, which are in order of time.

    In flight: those that wait, over the scrapes after the first, and those in batches, as a mean by Little's law.
    """
    start, end = scrapes[0], scrapes[-1]
    seconds = end.time_s - start.time_s
    before = [dict(zip(start.pods, range(len(start.pods)), strict=True)).get(pod) for pod in end.pods]

    def known(name: str) -> FloatArray | None:
        return None if getattr(start, name) is None or getattr(end, name) is None else increase(name)

    def increase(name: str) -> FloatArray:
        first, last = getattr(start, name), getattr(end, name)
        return np.array([last[k] - (first[j] if j is not None else 0.0) for k, j in enumerate(before)], dtype=float)

    waiting = np.zeros(len(end.pods))
    for scrape in scrapes[1:]:
        queued = dict(zip(scrape.pods, scrape.waiting.tolist(), strict=True))
        waiting += [queued.get(pod, 0.0) for pod in end.pods]
    return Window(
        start_s=start.time_s,
        end_s=end.time_s,
        pods=end.pods,
        requests=increase("requests"),
        queue_s=increase("queue_s"),
        waiting=end.waiting,
        in_flight=waiting / (len(scrapes) - 1) + increase("compute_s") / seconds,
        utilisation=_reported_or(scrapes[1:], np.minimum(increase("active_s") / seconds, 1.0)),
        cpu_cores=increase("cpu_s") / seconds,
        sent=None if start.sent is None or end.sent is None else end.sent - start.sent,
        batches=known("batches"),
        batch_s=known("batch_s"),
        held=end.held,
        waiting_before=float(start.waiting.sum()),
    )


def _reported_or(scrapes: Sequence[Scrape], share: FloatArray) -> FloatArray:
    """Mean of what the GPUs of each pod of the last scrape say; `share` of the pods that have none."""
    total, known = np.zeros(len(share)), np.zeros(len(share))
    for scrape in scrapes:
        if scrape.gpu_share is not None:
            of_pod = dict(zip(scrape.pods, scrape.gpu_share.tolist(), strict=True))
            values = np.array([of_pod.get(pod, np.nan) for pod in scrapes[-1].pods])
            total += np.nan_to_num(values)
            known += np.isfinite(values)
    return np.where(known > 0, total / np.maximum(known, 1), share)


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

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        """The last whole window among samples that are at least metrics_delay_s old; None: there is none yet."""
