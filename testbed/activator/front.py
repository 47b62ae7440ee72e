"""One deployment as clients see it: who waits, which pod is next, and what is counted."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, get_args

from testbed.activator.config import HoldLimits
from testbed.log_line import print_line

if TYPE_CHECKING:
    from testbed.activator.proxy import Client

FAILED_S = 0.5  # that a pod which took no connection gets no other

State = Literal["idle", "waiting", "connecting", "joined", "refused", "closed"]
HELD: tuple[State, ...] = ("waiting", "connecting")
Refusal = Literal["full", "late", "gave_up"]
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)


def choose(pods: Collection[str], connections: Mapping[str, int]) -> str | None:
    """The pod with the fewest connections, of several the first by name; None: there is no pod."""
    return min(pods, key=lambda pod: (connections.get(pod, 0), pod), default=None)


class Front:
    """One deployment as clients see it: its ready pods, what waits for one, and counts."""

    def __init__(self, name: str, limits: HoldLimits) -> None:
        self.name, self.limits = name, limits
        self.pods: Mapping[str, str] = {}  # name -> address, of the ready ones
        self.clients: set[Client] = set()
        self.waiting: OrderedDict[Client, None] = OrderedDict()  # in the order in which they came
        self.held_bytes = 0  # that clients have sent and no pod has yet
        self.connections: Counter[str] = Counter()  # by pod, also of those that leave
        self.requests = 0  # that clients have sent
        self.refused: Counter[Refusal] = Counter()
        self.broken = 0  # connections that a pod broke with a request on its way
        self.draining = False
        self._failed: set[str] = set()

    @property
    def held(self) -> int:
        """Connections that have sent something and are joined to no pod yet."""
        return sum(client.state in HELD for client in self.clients)

    def set_pods(self, pods: Mapping[str, str]) -> None:
        """The ready pods, now."""
        if pods == self.pods:
            return
        self.pods = pods
        for client in tuple(self.clients):
            client.judge()
        self.pump()

    def pump(self) -> None:
        """Join what waits to the pods that there are."""
        while self.waiting and (pod := choose(self.pods.keys() - self._failed, self.connections)) is not None:
            client, _ = self.waiting.popitem(last=False)
            client.join(pod, self.pods[pod])

    def distrust(self, pod: str, why: str) -> None:
        """It took no connection: it gets none for a while."""
        if pod in self._failed:
            return
        self._failed.add(pod)
        print_line(sys.stdout, deployment=self.name, pod=pod, no_connection=why)
        asyncio.get_running_loop().call_later(FAILED_S, self._trust, pod)

    def drain(self) -> None:
        """What is at rest ends now, the others between two requests; of HTTP/2, when the client has heard of it."""
        self.draining = True
        for client in tuple(self.clients):
            client.judge()

    def _trust(self, pod: str) -> None:
        self._failed.discard(pod)
        self.pump()
