"""A world for the activator's tests: real sockets, with pods at addresses of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from testbed.activator.config import HoldLimits
from testbed.activator.front import Front
from testbed.activator.proxy import Client

POST = b"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


class Backend:
    """An HTTP server at an address of its own. answer: what it does with a request."""

    def __init__(self, host: str) -> None:
        self.host, self.served, self.writers = host, 0, set[asyncio.StreamWriter]()
        self.delay_s = 0.0
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self, port: int = 0) -> int:
        self.server = await asyncio.start_server(self._serve, self.host, port, backlog=2000)
        return int(self.server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = (await reader.readexactly(int(head.partition(b"Length: ")[2].partition(b"\r\n")[0])))[:3]
                await self.gate.wait()
                await asyncio.sleep(self.delay_s)
                self.served += 1
                said = body + self.host.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def die(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


class World:
    def __init__(self, front: Front, port: int, pod_port: int) -> None:
        self.front, self.port, self.pod_port = front, port, pod_port
        self._kept: list[asyncio.StreamWriter] = []  # one that nobody holds any more is closed

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._kept.append(writer)
        return reader, writer


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def world(**limits: Any) -> AsyncIterator[World]:
    """An activator without pods."""
    front, pod_port = Front("web", HoldLimits(**limits)), free_port()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(front, pod_port), "127.0.0.1", 0, backlog=2000)
    try:
        yield World(front, server.sockets[0].getsockname()[1], pod_port)
    finally:
        server.close()
        for client in tuple(front.clients):
            client.transport.abort()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):  # it hangs: a busy machine takes 20 s
            await story()

    asyncio.run(limited())


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(POST)
    return await answer(reader)


async def answer(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
    body = (await reader.readexactly(length)).decode()
    return f"{head.split()[1]} {body}"


async def until(value: Callable[[], bool]) -> None:
    while not value():
        await asyncio.sleep(0.005)
