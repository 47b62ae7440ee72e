"""A pod's side of a client's connection."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from testbed.activator.front import Front

if TYPE_CHECKING:
    from testbed.activator.proxy import Client

# A peer that vanished is noticed after 45 s, whoever's turn it is to send; one that only sends nothing stays.
KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


def keep_alive(transport: asyncio.Transport) -> None:
    """Ask the kernel to notice when the peer has gone without a word: a lost node or network."""
    peer = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):  # Linux
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Pod(asyncio.Protocol):
    """A connection to a pod, for one client."""

    def __init__(self, client: Client, front: Front, name: str) -> None:
        self._client: Client | None = client
        self._front, self._name, self._ended = front, name, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)
        keep_alive(self.transport)
        if self._client is not None:
            self._client.joined(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._client is not None:
            self._client.answer(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        self._ended = True
        if self._client is not None:
            self._client.pod_ended()
        return self._client is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._front.connections[self._name] -= 1
        if self._client is not None:
            self._client.pod_lost(had_ended=self._ended)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._client is not None:
            self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._client is not None:
            self._client.transport.resume_reading()

    def leave(self, *, abort: bool) -> None:
        """No longer its client's."""
        self._client = None
        self.transport.abort() if abort else self.transport.close()
