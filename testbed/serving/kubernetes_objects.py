"""What objects of the Kubernetes API say of Triton pods. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from loadgen.endpoints import at
from testbed.serving.service import Endpoint

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002  # of every Triton container of the manifests


class Listed(NamedTuple):
    """An endpoint of a slice that is not on its way out."""

    endpoint: Endpoint
    ready: bool


def to_clients(listed: Iterable[Listed], given: Collection[str]) -> list[Endpoint]:
    """The endpoints that clients may use: the ready ones; if none is, those that they were given last and are listed.

    All at once are seldom broken. More often Kubernetes has lost sight of them: an API server that was away for longer
    than the nodes' leases takes all pods for unready when it is back. A replica that is dead refuses requests anyway.
    """
    listed = list(listed)
    ready = [pod.endpoint for pod in listed if pod.ready]
    return ready or [pod.endpoint for pod in listed if pod.endpoint.name in given]


def listed_in(part: Any) -> list[Listed]:
    """Of an EndpointSlice of Triton pods: those that are not on their way out."""
    return [
        Listed(Endpoint(name, at(ip, HTTP_PORT), at(ip, GRPC_PORT), at(ip, METRICS_PORT), None), ready)
        for name, ip, ready in _pods_in(part)
    ]


def ready_pods(part: Any) -> list[tuple[str, str]]:
    """Name and address of what an EndpointSlice holds that is ready, and not on its way out."""
    return [(name, ip) for name, ip, ready in _pods_in(part) if ready]


def _pods_in(part: Any) -> list[tuple[str, str, bool]]:
    triples = []
    for endpoint in part.endpoints or ():
        conditions = endpoint.conditions
        if conditions is None or conditions.terminating:
            continue
        ip = endpoint.addresses[0]
        triples.append(
            (endpoint.target_ref.name if endpoint.target_ref is not None else ip, ip, bool(conditions.ready))
        )
    return triples


def why_not_ready(pod: Any) -> str:
    """Of a V1Pod, in one line: the scheduler's reason, what a container waits for, or what its readiness lacks."""
    conditions = {condition.type: condition for condition in pod.status.conditions or ()}
    scheduled, ready = conditions.get("PodScheduled"), conditions.get("Ready")
    if scheduled is not None and scheduled.status != "True":
        return str(scheduled.message or scheduled.reason or "not scheduled")
    containers = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    waiting = [
        container.state.waiting
        for container in containers
        if container.state is not None and container.state.waiting is not None
    ]
    if waiting:
        return ": ".join(str(part) for part in (waiting[0].reason, waiting[0].message) if part)
    return str((ready is not None and (ready.message or ready.reason)) or "not ready yet")


def seconds(time_of: Any) -> float | None:
    """Since 1970; None stays None."""
    return None if time_of is None else float(time_of.timestamp())


def deleted_s(pod: Any) -> float | None:
    """The API stamps the end of the grace period; the deletion was that long before."""
    at = seconds(pod.metadata.deletion_timestamp)
    return None if at is None else at - float(pod.metadata.deletion_grace_period_seconds or 0)
