"""What an autoscaler is told of pods, computed from a window: by the adapter of a cluster, and by the simulation.

Add a metric of pods to METRICS: the adapter, the HPA and its tuning find it there. docs/kubernetes.md lists them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from testbed.autoscaling.observation import Window


class ReplicaCapacity(NamedTuple):
    """What one replica can do. batch: the largest; full_rps: with full batches all the time; target_rps: requests a
    second that it answers within the latency target."""

    instances: int
    batch: int
    full_rps: float
    target_rps: float
    latency_target_s: float


class PodMetric(NamedTuple):
    """value: for some pods of a window, by their places in it: for one pod, or for all. targets: between which an HPA's
    target is searched, on a logarithmic scale."""

    value: Callable[[Window, Sequence[int]], float]
    targets: Callable[[ReplicaCapacity], tuple[float, float]]


def queue_time_ms(window: Window, pods: Sequence[int]) -> float:
    """Mean time in the queue of the requests that these pods answered. The HPA counts in thousandths: of a millisecond.

    With nothing answered: 0 if nothing waits either, and NaN if something does. Nobody knows how long that will take.
    """
    places = list(pods)
    answered = float(window.requests[places].sum())
    if answered > 0:
        return 1e3 * float(window.queue_s[places].sum()) / answered
    return 0.0 if window.waiting[places].sum() == 0 else math.nan


def pending_requests(window: Window, pods: Sequence[int]) -> float:
    """Requests in the pods' queues at the window's end."""
    return float(window.waiting[list(pods)].sum())


def in_flight_requests(window: Window, pods: Sequence[int]) -> float:
    """Requests that the pods had not answered: mean over the window."""
    return float(window.in_flight[list(pods)].sum())


def requests_per_second(window: Window, pods: Sequence[int]) -> float:
    """Requests that the pods answered, a second."""
    return float(window.requests[list(pods)].sum()) / window.seconds


def gpu_utilisation_pct(window: Window, pods: Sequence[int]) -> float:
    """Busy share of each pod's device, in per cent, summed over the pods."""
    return 100.0 * float(window.utilisation[list(pods)].sum())


def arrivals_per_second(window: Window) -> float | None:
    """Requests a second that clients sent to the service, also while it has no pod; None: nobody counts them."""
    return None if window.sent is None else window.sent / window.seconds


METRICS: Mapping[str, PodMetric] = {  # by their name in the metrics API
    "queue_time_ms": PodMetric(
        queue_time_ms, lambda service: (20 * service.latency_target_s, 1000 * service.latency_target_s)
    ),
    "pending_requests": PodMetric(pending_requests, lambda service: (0.1, 4.0 * service.batch * service.instances)),
    "in_flight_requests": PodMetric(
        in_flight_requests, lambda service: (0.2 * service.instances, 4.0 * service.batch * service.instances)
    ),
    "requests_per_second": PodMetric(  # a target above what a replica serves is never reached: nothing scales up
        requests_per_second,
        lambda service: (0.15 * service.full_rps, max(0.2 * service.full_rps, 0.95 * service.target_rps)),
    ),
    "gpu_utilisation_pct": PodMetric(gpu_utilisation_pct, lambda service: (20.0, 99.0)),
}


# Of a service as a whole, which no pod knows: what an ingress or a proxy before it counts. KISim does; `kis adapter`
# has none of it, as it asks the pods.
SERVICE_METRICS: Mapping[str, Callable[[Window], float | None]] = {"arrivals_per_second": arrivals_per_second}


def of_each(metric: str, window: Window) -> dict[str, float]:
    """By pod; a pod that was not measured is not there."""
    values = {window.pods[place]: METRICS[metric].value(window, [place]) for place in _counted(window)}
    return {pod: value for pod, value in values.items() if math.isfinite(value)}


def of_all(metric: str, window: Window) -> float | None:
    """For all pods of the window; None if one of them was not measured, or there is none: part of a sum is no sum.

    A metric of the service as a whole does not ask for pods.
    """
    if metric in SERVICE_METRICS:
        return SERVICE_METRICS[metric](window)
    places = _counted(window)
    if not places or len(places) < len(window.pods):
        return None
    value = METRICS[metric].value(window, places)
    return value if math.isfinite(value) else None


def _counted(window: Window) -> list[int]:
    """Places of the pods whose counters went forwards: those of a server that was started anew begin at 0 again."""
    forwards = (window.requests >= 0) & (window.queue_s >= 0) & (window.utilisation >= 0)
    return [place for place, good in enumerate(forwards.tolist()) if good]


def milli(value: float) -> int:
    """Kubernetes rounds a quantity up to whole milli-units."""
    return math.ceil(value * 1000 - 1e-9)
