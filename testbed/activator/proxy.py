"""Connections of clients, each joined to a pod while it has something to send; it waits while there is no pod.

Everything here runs in one event loop. A connection that was refused by a pod before any byte went there is joined to
another. One whose pod leaves goes to another between two requests (HTTP/1.1), or its client is told to connect again
for its next ones (HTTP/2, so gRPC).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import cast

from testbed.activator.exchange import Exchange
from testbed.activator.front import HELD, Front, Refusal, State
from testbed.activator.http2 import GO_AWAY
from testbed.activator.pod import Pod, keep_alive

CONNECT_S = 2.0  # to a pod
RETRY_AFTER_S = 5
LINGER_S = 1.0  # for a client to read why it was refused
FAREWELL_S = 1.0  # for an HTTP/2 client to hear that it is to connect again, and what it had sent by then to arrive
HALF_OPEN_S = 60.0  # for a client to end a connection that its pod has ended
MOST_HELD_BYTES = 1 << 20  # of one connection; the rest stays in its socket, also the sign that the client gave up

_WHY: Mapping[Refusal, str] = {"full": "too many connections wait for a pod", "late": "no pod was ready in time"}


class Client(asyncio.Protocol):
    """A client's connection. It has no pod before its first byte."""

    def __init__(self, front: Front, port: int) -> None:
        self.state: State = "idle"
        self.exchange = Exchange()
        self._front, self._port = front, port
        self._held: list[bytes] = []
        self._pod: Pod | None = None
        self._joined_to = ""
        self._leaving = False  # its pod takes no new requests, or the activator ends
        self._told_s: float | None = None  # when an HTTP/2 client was told so; there is no way back
        self._ended = False  # the client sends no more
        self._full = False  # the client reads too little of what it gets
        self._late: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)
        keep_alive(self.transport)
        self._front.clients.add(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.state == "refused":
            return
        self._front.requests += self.exchange.from_client(data)
        if self._pod is not None:
            self._pod.transport.write(data)
            self._leave()  # a call that was cancelled may have been the last
            return
        self._held.append(data)
        self._front.held_bytes += len(data)
        most = self._front.limits.max_held_mib << 20
        if self._front.held_bytes >= most or sum(map(len, self._held)) >= MOST_HELD_BYTES:
            self.transport.pause_reading()
        if self.state == "idle":
            self._wait()

    def eof_received(self) -> bool:
        """See asyncio.Protocol. The other direction stays open: an answer may be on its way.

        But who speaks HTTP and ends while he waits has given up, as nginx and Envoy take it too: HTTP clients close
        both directions, and from here that looks the same.
        """
        self._ended = True
        if self._pod is not None:
            self._pod.transport.write_eof()
        return self.state in ("connecting", "joined") or (self.state == "waiting" and not self.exchange.speaks_http)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self.state in HELD:
            self._front.refused["gave_up"] += 1
        self.state = "closed"
        self._stop_timer()
        self._let_go()
        self._front.waiting.pop(self, None)
        self._front.clients.discard(self)
        if self._pod is not None:
            self._pod.leave(abort=exc is not None)
            self._pod = None

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._full = True
        if self._pod is not None:
            self._pod.transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._full = False
        if self._pod is not None:
            self._pod.transport.resume_reading()

    def judge(self) -> None:
        """The pods have changed, or the activator ends: may it stay where it is?"""
        if self.state == "joined":
            gone = self._front.draining or self._joined_to not in self._front.pods
            self._leaving = gone or self._told_s is not None
            self._leave()
        elif self._front.draining and self.state == "idle":
            self.transport.close()

    def cut_off(self) -> None:
        """The time to finish is over: who waits is told to come again."""
        if self.state in HELD:
            self._refuse("late")
        elif self.state != "refused":  # it still reads why
            self.transport.abort()

    def join(self, pod: str, host: str) -> None:
        """Connect it to that pod."""
        self.state, self._joined_to = "connecting", pod
        self._front.connections[pod] += 1
        self._task = asyncio.get_running_loop().create_task(self._connect(pod, host))

    def part(self) -> None:
        """Between two requests: without a pod until its next one."""
        pod, self._pod, self.state = self._pod, None, "idle"
        if pod is not None:
            pod.leave(abort=False)
            self.transport.resume_reading()  # the pod may have been slow to read
        if self._ended or self._front.draining or self.exchange.is_bound:
            self.transport.close()

    def _leave(self) -> None:
        """If it is to leave its pod, and may."""
        if not self._leaving or self.state != "joined":
            return
        loop = asyncio.get_running_loop()
        if self._told_s is None and self.exchange.may_be_told:
            self.transport.write(GO_AWAY)
            self._told_s = loop.time()
            loop.call_later(FAREWELL_S, self._leave)
        heard = not self.exchange.is_bound or (self._told_s is not None and loop.time() >= self._told_s + FAREWELL_S)
        if heard and self.exchange.at_rest:
            self.part()

    def answer(self, data: bytes) -> None:
        """Bytes of its pod."""
        self.exchange.from_server(data)
        self.transport.write(data)
        self._leave()

    def pod_ended(self) -> None:
        """Its pod sends no more."""
        if self.exchange.at_rest:  # an end that says nothing: a server closes what is idle
            self.part()
            return
        self._front.broken += self.exchange.unanswered
        if self._ended or self.exchange.speaks_http:
            self.transport.close()
        else:
            self.transport.write_eof()
            asyncio.get_running_loop().call_later(HALF_OPEN_S, self.transport.close)

    def pod_lost(self, *, had_ended: bool) -> None:
        """The connection to its pod is gone."""
        if self.exchange.at_rest:
            self.part()
            return
        self._pod = None
        self._front.broken += not had_ended and self.exchange.unanswered
        self.transport.close()  # what came is still the client's

    async def _connect(self, pod: str, host: str) -> None:
        """The time limit is of the socket alone: once there is a Pod, it may have bytes that none must get twice."""
        loop = asyncio.get_running_loop()
        peer = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        peer.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(peer, (host, self._port))
        except (OSError, TimeoutError) as error:
            peer.close()
            self._front.connections[pod] -= 1
            self._front.distrust(pod, str(error) or f"silent for {CONNECT_S:g} s")
            if self.state == "connecting":
                self._wait(first=True)
        else:
            await loop.create_connection(lambda: Pod(self, self._front, pod), sock=peer)

    def joined(self, pod: Pod) -> None:
        """The connection to a pod is there: what was held goes first."""
        if self.state != "connecting":  # the client has gone meanwhile
            pod.leave(abort=True)
            return
        self._stop_timer()
        self.state, self._pod = "joined", pod
        if self._full:  # of an earlier pod's answers
            pod.transport.pause_reading()
        self.transport.resume_reading()  # before the pod may say that it is too much
        pod.transport.writelines(self._let_go())
        if self._ended:
            pod.transport.write_eof()
        self.judge()

    def _wait(self, *, first: bool = False) -> None:
        front = self._front
        if not first and len(front.waiting) >= front.limits.max_waiting:
            self._refuse("full")
            return
        self.state = "waiting"
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(front.limits.hold_s, self._refuse_late)
        front.waiting[self] = None
        front.waiting.move_to_end(self, last=not first)
        front.pump()

    def _refuse_late(self) -> None:
        if self.state == "connecting":  # it may still come off; if not, there is no other try
            self._late = asyncio.get_running_loop().call_later(CONNECT_S, self._refuse_late)
            return
        self._refuse("late")

    def _refuse(self, why: Refusal) -> None:
        """503 to plain HTTP, an end to anything else."""
        self._stop_timer()
        self._let_go()
        self._front.waiting.pop(self, None)
        self.state = "refused"
        self._front.refused[why] += 1
        if not self.exchange.is_http:
            self.transport.close()
            return
        body = f"{self._front.name}: {_WHY[why]}\n".encode()
        head = f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY_AFTER_S}\r\n"
        head += f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        self.transport.resume_reading()  # an end with bytes unread would take the answer with it
        asyncio.get_running_loop().call_later(LINGER_S, self.transport.close)

    def _let_go(self) -> list[bytes]:
        """What it has sent and no pod has: no longer held here."""
        held, self._held = self._held, []
        self._front.held_bytes -= sum(map(len, held))
        return held

    def _stop_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
