"""Pods as the autoscaler sees them: what they request, and which of them count for a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from testbed.autoscaling.hpa.spec import ControllerFlags
from workloads.errors import KisError


class MetricError(KisError):
    """A metric that proposes no size; the message says why."""


@dataclass(frozen=True)
class PodState:
    """One pod that the scale target selects. Times are seconds on the clock of `now`."""

    name: str
    phase: Literal["Pending", "Running", "Succeeded", "Failed"]
    ready: bool | None  # the Ready condition; None: it has none yet
    ready_changed_s: float  # when that condition last changed
    start_s: float | None  # None: the kubelet has not seen it
    deleting: bool = False
    requests_m: Mapping[str, int | None] | None = None  # container -> request of the resource; None: not asked for
    pod_request_m: int | None = None  # a request of the whole pod (pod-level resources)


class PodSample(NamedTuple):
    """One pod's metric: the mean over the window_s seconds that end at time_s."""

    value_m: int
    time_s: float
    window_s: float


class Groups(NamedTuple):
    """Pods by how they count."""

    ready_count: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


def request_of(pod: PodState, resource: str, container: str | None = None) -> int:
    """Milli-units that a pod, or one container of it, requests; MetricError if there is none."""
    if container is None and pod.pod_request_m is not None:
        return pod.pod_request_m
    requests = pod.requests_m or {}
    if container is not None:
        if container not in requests:
            raise MetricError(f"container {container} not found in Pod {pod.name}")
        requests = {container: requests[container]}
    total = 0
    for name, request_m in requests.items():
        if request_m is None:
            raise MetricError(f"missing request for {resource} in container {name} of Pod {pod.name}")
        total += request_m
    return total


def group_pods(
    pods: Sequence[PodState], samples: Mapping[str, PodSample], resource: str, now_s: float, flags: ControllerFlags
) -> Groups:
    """Which pods count, for one metric. Only for resource "cpu" does readiness matter beyond the phase."""
    ready = 0
    unready, missing, ignored = set(), set(), set()
    for pod in pods:
        if pod.deleting or pod.phase == "Failed":
            ignored.add(pod.name)
        elif pod.phase == "Pending":
            unready.add(pod.name)
        elif pod.name not in samples:
            missing.add(pod.name)
        elif resource == "cpu" and _is_unready(pod, samples[pod.name], now_s, flags):
            unready.add(pod.name)
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_unready(pod: PodState, sample: PodSample, now_s: float, flags: ControllerFlags) -> bool:
    """A pod's CPU does not count while it starts: starting costs CPU that is no load."""
    if pod.ready is None or pod.start_s is None:
        return True
    if pod.start_s + flags.cpu_initialization_period_s > now_s:
        return not pod.ready or sample.time_s < pod.ready_changed_s + sample.window_s
    # After that, one that was never ready: its condition has not changed since shortly after its start.
    return not pod.ready and pod.start_s + flags.initial_readiness_delay_s > pod.ready_changed_s
