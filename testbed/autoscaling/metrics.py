"""What an autoscaler is told of pods, computed from a window: by the adapter of a cluster, and by the simulation.

A metric of pods is a class deriving from PodMetric, here or in a module of yours: the adapter, the HPA and its tuning
find it by its name, or by its place (`my_module:MyMetric`). docs/how-to/autoscale-with-metrics.md lists ours.
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from testbed.autoscaling.observation import Window
from workloads.errors import KisError
from workloads.registry import Registry


class ReplicaCapacity(NamedTuple):
    """What one replica can do. batch: the largest; full_rps: with full batches all the time; target_rps: requests a
    second that it answers within the latency target."""

    instances: int
    batch: int
    full_rps: float
    target_rps: float
    latency_target_s: float


class PodMetric(ABC):
    """A metric of pods, in a class that is never instantiated. `name`: in the metrics API."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        METRICS.add(cls.name, cls)

    @staticmethod
    @abstractmethod
    def value(window: Window, pods: Sequence[int]) -> float:
        """For some pods of a window, by their places in it: for one pod, or for all; NaN: not known."""

    @staticmethod
    @abstractmethod
    def targets(service: ReplicaCapacity) -> tuple[float, float]:
        """Between which an HPA's target is searched, on a logarithmic scale."""

    @staticmethod
    def query(selector: str, window: str) -> str | None:
        """The same for all pods, of a Prometheus that scrapes Triton; None: it cannot be asked for there.

        selector: of the pods' series, in braces; window: as Prometheus writes durations.
        """
        return None


METRICS: Registry[type[PodMetric]] = Registry.of_subclasses(PodMetric, "metric of pods", KisError, "kis.metrics")


class QueueTime(PodMetric):
    """Mean time in the queue of the requests that these pods answered. The HPA counts in thousandths: of a millisecond.

    With nothing answered: 0 if nothing waits either, and NaN if something does. Nobody knows how long that will take.
    """

    name: ClassVar[str] = "queue_time_ms"

    @staticmethod
    def value(window: Window, pods: Sequence[int]) -> float:
        """See PodMetric."""
        places = list(pods)
        answered = float(window.requests[places].sum())
        if answered > 0:
            return 1e3 * float(window.queue_s[places].sum()) / answered
        return 0.0 if window.waiting[places].sum() == 0 else math.nan

    @staticmethod
    def targets(service: ReplicaCapacity) -> tuple[float, float]:
        """See PodMetric."""
        return 20 * service.latency_target_s, 1000 * service.latency_target_s

    @staticmethod
    def query(selector: str, window: str) -> str:
        """See PodMetric."""
        return (
            f"sum(rate(nv_inference_queue_duration_us{selector}[{window}])) / 1000"
            f" / sum(rate(nv_inference_request_success{selector}[{window}]))"
        )


class PendingRequests(PodMetric):
    """Requests in the pods' queues at the window's end."""

    name: ClassVar[str] = "pending_requests"

    @staticmethod
    def value(window: Window, pods: Sequence[int]) -> float:
        """See PodMetric."""
        return float(window.waiting[list(pods)].sum())

    @staticmethod
    def targets(service: ReplicaCapacity) -> tuple[float, float]:
        """See PodMetric."""
        return 0.1, 4.0 * service.batch * service.instances

    @staticmethod
    def query(selector: str, window: str) -> str:
        """See PodMetric."""
        return f"sum(nv_inference_pending_request_count{selector})"


class InFlightRequests(PodMetric):
    """Requests that the pods had not answered: mean over the window."""

    name: ClassVar[str] = "in_flight_requests"

    @staticmethod
    def value(window: Window, pods: Sequence[int]) -> float:
        """See PodMetric."""
        return float(window.in_flight[list(pods)].sum())

    @staticmethod
    def targets(service: ReplicaCapacity) -> tuple[float, float]:
        """See PodMetric."""
        return 0.2 * service.instances, 4.0 * service.batch * service.instances

    @staticmethod
    def query(selector: str, window: str) -> str:
        """See PodMetric."""
        return f"sum(rate(nv_inference_request_duration_us{selector}[{window}])) / 1e6"


class RequestsPerSecond(PodMetric):
    """Requests that the pods answered, a second."""

    name: ClassVar[str] = "requests_per_second"

    @staticmethod
    def value(window: Window, pods: Sequence[int]) -> float:
        """See PodMetric."""
        return float(window.requests[list(pods)].sum()) / window.seconds

    @staticmethod
    def targets(service: ReplicaCapacity) -> tuple[float, float]:
        """A target above what a replica serves is never reached: nothing scales up."""
        return 0.15 * service.full_rps, max(0.2 * service.full_rps, 0.95 * service.target_rps)

    @staticmethod
    def query(selector: str, window: str) -> str:
        """See PodMetric."""
        return f"sum(rate(nv_inference_request_success{selector}[{window}]))"


class GpuUtilisation(PodMetric):
    """Busy share of each pod's device, in per cent, summed over the pods."""

    name: ClassVar[str] = "gpu_utilisation_pct"

    @staticmethod
    def value(window: Window, pods: Sequence[int]) -> float:
        """See PodMetric."""
        return 100.0 * float(window.utilisation[list(pods)].sum())

    @staticmethod
    def targets(service: ReplicaCapacity) -> tuple[float, float]:
        """See PodMetric."""
        return 20.0, 99.0

    @staticmethod
    def query(selector: str, window: str) -> str:
        """See PodMetric. Triton counts devices, not models: those of pods that have the model. Of a pod with several
        devices their mean; without a GPU Triton has no such series."""
        pods = f"avg by (namespace, pod) (avg_over_time(nv_gpu_utilization[{window}]))"
        return f"100 * sum({pods} and on (namespace, pod) nv_inference_request_success{selector})"


def arrivals_per_second(window: Window) -> float | None:
    """Requests a second that clients sent to the service, also while it has no pod; None: nobody counts them."""
    return window.sent_rps


def mean_gpu_utilisation_pct(window: Window) -> float | None:
    """Busy share of the pods' devices, in per cent, as avg(...) of them gives it; None: not known of each."""
    total = of_all(GpuUtilisation.name, window)
    return None if total is None else total / len(window.pods)


# Of a service as a whole, which no pod has: what an ingress or a proxy before it counts (KISim does, and `kis
# activator`), or a mean over the pods. `kis adapter` has none of it.
SERVICE_METRICS: Mapping[str, Callable[[Window], float | None]] = {
    "arrivals_per_second": arrivals_per_second,
    "mean_gpu_utilisation_pct": mean_gpu_utilisation_pct,
}


def did_you_mean(name: str) -> str:
    """`did you mean 'queue_time_ms'? `, of a metric that nobody offers; empty: nothing is near."""
    near = difflib.get_close_matches(name, [*METRICS.known(), *SERVICE_METRICS], n=1)
    return f"did you mean '{near[0]}'? " if near and near[0] != name else ""


def is_metric(name: str, *, of_service: bool = True) -> bool:
    """Of pods: a name, or the place of one of yours, my_module:MyMetric; KisError if there is none. Or of a service."""
    if ":" in name:
        METRICS.find(name)
        return True
    return name in METRICS.known() or (of_service and name in SERVICE_METRICS)


def of_each(metric: str, window: Window) -> dict[str, float]:
    """By pod; a pod that was not measured is not there."""
    value = METRICS.find(metric).value
    values = {window.pods[place]: value(window, [place]) for place in _counted(window)}
    return {pod: number for pod, number in values.items() if math.isfinite(number)}


def of_all(metric: str, window: Window) -> float | None:
    """For all pods of the window; None if one of them was not measured, or there is none: part of a sum is no sum.

    A metric of the service as a whole does not ask for pods.
    """
    if metric in SERVICE_METRICS:
        return SERVICE_METRICS[metric](window)
    places = _counted(window)
    if not places or len(places) < len(window.pods):
        return None
    value = METRICS.find(metric).value(window, places)
    return value if math.isfinite(value) else None


def _counted(window: Window) -> list[int]:
    """Places of the pods whose counters went forwards: those of a server that was started anew begin at 0 again."""
    forwards = (window.requests >= 0) & (window.queue_s >= 0) & (window.utilisation >= 0)
    return [place for place, good in enumerate(forwards.tolist()) if good]


def milli(value: float) -> int:
    """Kubernetes rounds a quantity up to whole milli-units."""
    return math.ceil(value * 1000 - 1e-9)
