"""Where a pod goes: the node with the best score among those that have a free share. Pure.

Scores are those of kube-scheduler's NodeResourcesFit on the one resource that pods ask for here (LeastAllocated and
MostAllocated, whole numbers 0..100). Where several nodes have the best score the scheduler draws one; here it is the
first, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Node:
    """One node. A device is a GPU, or (kind `cpu`) the room for one replica that asks for none."""

    number: int
    name: str
    kind: str  # of its devices
    shares: int  # of each device
    first_device: int  # its number among all devices of the cluster
    used: list[int] = field(default_factory=list)  # shares taken, by device
    lost: bool = False
    pool: int = 0  # its number in the configuration
    place: int = 0  # in the pool; entries of one node have the same
    exists: bool = True  # asked for, and not given back: it is paid for
    ready: bool = True
    made_ns: int = 0  # when it was asked for
    existed_ns: int = 0  # of earlier nodes in its place
    placeholders: int = 0  # shares that low-priority pods hold until a replica wants them
    images: set[int] = field(default_factory=set)  # models whose image it has pulled
    weights: set[int] = field(default_factory=set)  # models that it has loaded

    @property
    def capacity(self) -> int:
        """Shares of all devices."""
        return self.shares * len(self.used)

    @property
    def free(self) -> int:
        """Shares that nobody has."""
        return self.capacity - sum(self.used) - self.placeholders

    def exists_ns(self, now_ns: int) -> int:
        """For how long there has been a node in its place."""
        return self.existed_ns + (now_ns - self.made_ns if self.exists else 0)

    def take(self, packed: bool) -> int:
        """Take a share; returns the device: the fullest with room if packed, else the emptiest (the device plugin's
        two allocation policies for shared GPUs)."""
        with_room = [k for k, used in enumerate(self.used) if used < self.shares]
        device = (max if packed else min)(with_room, key=lambda k: (self.used[k], -k if packed else k))
        self.used[device] += 1
        return device


def best_node(nodes: Sequence[Node], kinds: Collection[str], scheduler: Literal["spread", "bin_pack"]) -> Node | None:
    """The node for one more pod that runs on any of the kinds; None: no node has room."""
    fitting = [node for node in nodes if node.kind in kinds and node.free > 0 and node.ready and not node.lost]

    def score(node: Node) -> int:
        left = node.free - 1
        taken = node.capacity - left
        return (left if scheduler == "spread" else taken) * 100 // node.capacity

    return max(fitting, key=score, default=None)


def preempted_node(nodes: Sequence[Node], kinds: Collection[str]) -> Node | None:
    """The node whose placeholder makes room for a pod; None: the pod stays Pending."""
    return next((node for node in nodes if node.kind in kinds and node.placeholders and not node.lost), None)


def why_pending(nodes: Sequence[Node], kinds: Collection[str]) -> str:
    """The scheduler's reason, in its words."""
    nodes = [node for node in nodes if node.exists]
    fitting = [node for node in nodes if node.kind in kinds and node.ready and not node.lost]
    parts = []
    if fitting:
        resource = "Too many pods" if set(kinds) == {"cpu"} else "Insufficient nvidia.com/gpu"
        parts.append(f"{len(fitting)} {resource}")
    others = len(nodes) - len(fitting)
    if others:
        parts.append(f"{others} node(s) didn't match Pod's node affinity/selector or are not ready")
    return f"0/{len(nodes)} nodes are available: {', '.join(parts)}."
