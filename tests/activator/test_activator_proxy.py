"""The activator between real sockets: nothing is lost while pods come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.activator.config import HoldLimits
from testbed.activator.front import Front, choose
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
                await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(3)
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
    import socket

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
        async with asyncio.timeout(20):
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


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 5)), st.dictionaries(st.text(max_size=3), st.integers(0, 9)))
def test_the_chosen_pod_has_the_fewest_connections(pods, connections) -> None:
    chosen = choose(pods.keys(), connections)
    if not pods:
        assert chosen is None
        return
    assert chosen in pods
    assert connections.get(chosen, 0) == min(connections.get(pod, 0) for pod in pods)


def test_a_request_waits_until_there_is_a_pod_and_is_counted_once() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.2")
            reader, writer = await it.connect()
            writer.write(POST)
            await until(lambda: it.front.held == 1)
            assert it.front.requests == 1
            await pod.start(it.pod_port)
            it.front.set_pods({"a": pod.host})
            assert await answer(reader) == "200 abc127.0.0.2"
            assert (it.front.held, it.front.requests) == (0, 1)
            assert await ask(reader, writer) == "200 abc127.0.0.2"  # on the same connection
            assert it.front.requests == 2
            assert pod.served == 2

    run(story)


def test_a_connection_that_sends_nothing_wakes_nobody() -> None:
    async def story() -> None:
        async with world() as it:
            await it.connect()
            await until(lambda: len(it.front.clients) == 1)
            await asyncio.sleep(0.05)
            assert (it.front.held, it.front.requests) == (0, 0)

    run(story)


def test_what_waits_is_bounded_in_number_and_told_so() -> None:
    async def story() -> None:
        async with world(max_waiting=2) as it:
            for _ in range(2):
                _, writer = await it.connect()
                writer.write(POST)
            await until(lambda: it.front.held == 2)
            reader, writer = await it.connect()
            writer.write(POST)
            said = (await reader.read()).decode()
            assert said.startswith("HTTP/1.1 503 ")
            assert "Retry-After: 5\r\n" in said
            assert "too many connections wait" in said
            assert it.front.refused == {"full": 1}
            assert it.front.held == 2

    run(story)


def test_what_waits_is_bounded_in_time_and_what_is_no_http_is_just_closed() -> None:
    async def story() -> None:
        async with world(hold_s=0.3) as it:
            reader, writer = await it.connect()
            writer.write(POST)
            other, speaker = await it.connect()
            speaker.write(b"\x16\x03\x01 hello")
            assert await other.read() == b""
            said = (await reader.read()).decode()
            assert said.startswith("HTTP/1.1 503 ")
            assert "no pod was ready in time" in said
            assert it.front.refused == {"late": 2}

    run(story)


def test_a_client_that_gives_up_waits_no_more() -> None:
    async def story() -> None:
        async with world() as it:
            _, writer = await it.connect()
            writer.write(POST)
            await until(lambda: it.front.held == 1)
            writer.transport.abort()
            await until(lambda: it.front.held == 0)
            assert not it.front.waiting
            assert it.front.refused == {"gave_up": 1}

    run(story)


def test_a_pod_that_refuses_connections_is_passed_over() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.3")
            await pod.start(it.pod_port)
            it.front.set_pods({"a": "127.0.0.2", "b": pod.host})  # nobody listens at a
            for _ in range(3):
                reader, writer = await it.connect()
                assert await ask(reader, writer) == "200 abc127.0.0.3"
            assert it.front.connections["a"] == 0
            assert it.front.broken == 0

    run(story)


def test_the_only_pod_that_does_not_listen_yet_is_tried_again() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.2")
            it.front.set_pods({"a": pod.host})
            reader, writer = await it.connect()
            writer.write(POST)
            await asyncio.sleep(0.2)
            await pod.start(it.pod_port)
            assert await answer(reader) == "200 abc127.0.0.2"

    run(story)


def test_a_pod_that_dies_breaks_its_own_requests_only() -> None:
    async def story() -> None:
        async with world() as it:
            first, second = Backend("127.0.0.2"), Backend("127.0.0.3")
            for pod in (first, second):
                await pod.start(it.pod_port)
            first.gate.clear()
            it.front.set_pods({"a": first.host})
            stuck, writer = await it.connect()
            writer.write(POST)
            await until(lambda: it.front.connections["a"] == 1 and bool(first.writers))
            it.front.set_pods({"a": first.host, "b": second.host})
            reader, other = await it.connect()
            assert await ask(reader, other) == "200 abc127.0.0.3"
            await asyncio.sleep(0.05)
            first.die()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await answer(stuck)
            assert await ask(reader, other) == "200 abc127.0.0.3"
            assert it.front.broken == 1
            await until(lambda: it.front.connections["a"] == 0)

    run(story)


def test_a_half_closed_connection_still_gets_its_answer() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.2")
            pod.delay_s = 0.1
            await pod.start(it.pod_port)
            it.front.set_pods({"a": pod.host})
            for at_once in (True, False):
                reader, writer = await it.connect()
                writer.write(POST)
                if not at_once:
                    await until(lambda: any(client.state == "joined" for client in it.front.clients))
                writer.write_eof()
                assert await answer(reader) == "200 abc127.0.0.2"
                assert await reader.read() == b""
            await until(lambda: not it.front.clients and it.front.connections["a"] == 0)

    run(story)


def test_a_half_closed_connection_that_waits_is_kept_where_it_is_no_http() -> None:
    async def story() -> None:
        async with world() as it:

            async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write((await reader.read()).upper())
                writer.close()

            await asyncio.start_server(shout, "127.0.0.2", it.pod_port)
            reader, writer = await it.connect()
            writer.write(b"hello")
            writer.write_eof()
            await until(lambda: it.front.held == 1)
            await asyncio.sleep(0.05)
            it.front.set_pods({"a": "127.0.0.2"})
            assert await reader.read() == b"HELLO"
            assert it.front.requests == 1

    run(story)


def test_a_pod_that_leaves_answers_what_it_has_and_the_connection_goes_on_elsewhere() -> None:
    async def story() -> None:
        async with world() as it:
            first, second = Backend("127.0.0.2"), Backend("127.0.0.3")
            for pod in (first, second):
                await pod.start(it.pod_port)
            it.front.set_pods({"a": first.host})
            busy, idle = await it.connect(), await it.connect()
            assert await ask(*idle) == "200 abc127.0.0.2"
            first.gate.clear()
            busy[1].write(POST)
            await until(lambda: it.front.requests == 2)
            await asyncio.sleep(0.05)
            it.front.set_pods({"b": second.host})
            assert await ask(*idle) == "200 abc127.0.0.3"  # it was at rest, and left at once
            first.gate.set()
            assert await answer(busy[0]) == "200 abc127.0.0.2"
            assert await ask(*busy) == "200 abc127.0.0.3"
            await until(lambda: it.front.connections["a"] == 0)
            first.die()
            assert it.front.broken == 0

    run(story)


def test_a_server_that_closes_what_is_idle_closes_no_client() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.2")
            await pod.start(it.pod_port)
            it.front.set_pods({"a": pod.host})
            client = await it.connect()
            assert await ask(*client) == "200 abc127.0.0.2"
            for writer in tuple(pod.writers):
                writer.close()
            await until(lambda: it.front.connections["a"] == 0)
            assert await ask(*client) == "200 abc127.0.0.2"

    run(story)


def test_nothing_is_lost_of_a_thousand_connections_while_pods_change() -> None:
    async def story() -> None:
        async with world(max_waiting=1000) as it:
            pods = {f"pod-{k}": Backend(f"127.0.0.{2 + k}") for k in range(4)}
            for pod in pods.values():
                pod.delay_s = 0.01
                await pod.start(it.pod_port)

            async def client() -> list[str]:
                reader, writer = await it.connect()
                said = [await ask(reader, writer) for _ in range(5)]
                writer.close()
                return said

            clients = [asyncio.ensure_future(client()) for _ in range(1000)]
            await until(lambda: it.front.held == 1000)
            names = list(pods)
            for here in ([0], [0, 1, 2], [3], [], [1, 2, 3]):
                it.front.set_pods({names[k]: pods[names[k]].host for k in here})
                await asyncio.sleep(0.15)
            said = [line for lines in await asyncio.gather(*clients) for line in lines]
            assert {line.split()[0] for line in said} == {"200"}
            assert len(said) == it.front.requests == sum(pod.served for pod in pods.values()) == 5000
            assert it.front.broken == 0
            assert not it.front.refused
            await until(lambda: not any(it.front.connections.values()))
            assert not it.front.clients

    run(story)


def test_connections_are_spread_over_the_pods() -> None:
    async def story() -> None:
        async with world() as it:
            pods = {f"pod-{k}": Backend(f"127.0.0.{2 + k}") for k in range(3)}
            for pod in pods.values():
                await pod.start(it.pod_port)
            it.front.set_pods({name: pod.host for name, pod in pods.items()})
            for _ in range(9):
                await ask(*await it.connect())
            assert [pod.served for pod in pods.values()] == [3, 3, 3]

    run(story)


@pytest.mark.parametrize("slow", ["pod", "pod that comes later", "client"])
def test_bytes_that_nobody_reads_yet_wait_in_the_sockets(slow: str) -> None:
    """64 MB each way through a connection whose reader is slow: the activator keeps little of it."""

    async def story() -> None:
        async with world() as it:
            size, go_on = 64 << 20, asyncio.Event()

            async def pod(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if slow != "client":
                    await go_on.wait()
                    assert len(await reader.read(-1)) == size
                    writer.write(b"all")
                else:
                    await reader.readexactly(1)
                    writer.write(b"\x00" * size)
                writer.close()

            server = await asyncio.start_server(pod, "127.0.0.2", it.pod_port)
            reader, writer = await it.connect()
            if slow == "pod that comes later":
                writer.write(b"\x00" * size)
                await until(lambda: it.front.held == 1)
                await asyncio.sleep(0.1)
                it.front.set_pods({"a": "127.0.0.2"})
            else:
                it.front.set_pods({"a": "127.0.0.2"})
                writer.write(b"\x00" * size if slow == "pod" else b"\x00")
            await asyncio.sleep(0.3)
            (client,) = it.front.clients
            assert client._pod is not None
            kept = (client.transport if slow == "client" else client._pod.transport).get_write_buffer_size()
            assert 0 < kept < 1 << 20
            go_on.set()
            writer.write_eof()
            assert len(await reader.read(-1)) == (size if slow == "client" else 3)
            server.close()

    run(story)


def test_a_drained_activator_answers_what_is_on_its_way_and_ends_the_rest() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.2")
            await pod.start(it.pod_port)
            it.front.set_pods({"a": pod.host})
            idle, busy = await it.connect(), await it.connect()
            await ask(*idle)
            pod.gate.clear()
            busy[1].write(POST)
            await until(lambda: it.front.requests == 2)
            it.front.drain()
            assert await idle[0].read() == b""
            pod.gate.set()
            assert await answer(busy[0]) == "200 abc127.0.0.2"
            assert await busy[0].read() == b""
            await until(lambda: not it.front.clients)

    run(story)
