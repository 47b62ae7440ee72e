"""A pod's life as a record, and which pods a smaller deployment gives up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

State = Literal["pending", "starting", "loading", "ready", "serving", "draining", "backoff", "gone"]


@dataclass
class Pod:
    """One pod. Times are nanoseconds of the run; None: that has not happened."""

    number: int
    model: int
    state: State
    requested_ns: int
    reason: str = ""  # why it is pending, or how it ended
    scheduled_ns: int | None = None
    started_ns: int | None = None
    loaded_ns: int | None = None
    ready_ns: int | None = None
    serving_ns: int | None = None  # clients send to it from then on
    deleted_ns: int | None = None
    gone_ns: int | None = None
    node: int | None = None
    device: int | None = None  # of the node
    replica: int | None = None  # its row in the event loop, while it has a device
    restarts: int = 0
    changed_ns: int = 0  # when the Ready condition last changed
    kind: str | None = None  # of device that its node selector asks for; None: any that the model has a profile for

    @property
    def ready(self) -> bool:
        """The Ready condition."""
        return self.state in ("ready", "serving")

    @property
    def wanted(self) -> bool:
        """Not deleted: the deployment counts it."""
        return self.deleted_ns is None and self.state != "gone"


class StateChange(NamedTuple):
    """A pod has entered a state."""

    time_ns: int
    pod: int
    state: State


def victims(pods: Sequence[Pod], count: int) -> list[Pod]:
    """The `count` pods that a ReplicaSet deletes first: unscheduled, then not running, then not ready, then where more
    of its pods share a node, then those that became ready last, then the youngest."""
    on_node: dict[int | None, int] = {}
    for pod in pods:
        on_node[pod.node] = on_node.get(pod.node, 0) + 1

    def rank(pod: Pod) -> tuple[bool, bool, bool, int, int, int]:
        return (
            pod.node is not None,
            pod.started_ns is not None,
            pod.ready,
            -on_node[pod.node],
            -(pod.ready_ns or 0),
            -pod.number,
        )

    return sorted(pods, key=rank)[:count]
