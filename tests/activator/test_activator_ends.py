"""Who ends a connection, and what becomes of the other side of it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from activator_world import POST, Backend, answer, ask, free_port, run, until, world

from testbed.activator import pod as pods
from testbed.activator import proxy
from testbed.activator.config import ActivatorConfig
from testbed.activator.front import Front
from testbed.activator.http2 import GO_AWAY, PREFACE
from testbed.activator.run import serve_until
from testbed.autoscaling.live.deployment import DeploymentStatus


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


def test_what_still_waits_when_the_time_to_finish_is_over_is_told_to_come_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def story() -> None:
        stop, listening = threading.Event(), list[int]()
        ports = [{"listen": 0, "pod": free_port()}]
        config = ActivatorConfig.model_validate(
            {"deployments": [{"deployment": "web", "ports": ports}], "metrics_port": 0, "drain_s": 0.2}
        )
        fronts = list[Front]()

        def started(made: Mapping[str, Front], ports: list[int]) -> None:
            fronts.extend(made.values())
            listening.extend(ports)

        looks = {"web": lambda: DeploymentStatus(0, (), ())}
        served = asyncio.create_task(serve_until(config, looks, stop, started))
        await until(lambda: bool(listening))
        reader, writer = await asyncio.open_connection("127.0.0.1", listening[0])
        other, speaker = await asyncio.open_connection("127.0.0.1", listening[0])
        writer.write(POST)
        speaker.write(b"\x16\x03\x01 hello")
        await until(lambda: fronts[0].held == 2)
        stop.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        assert await other.read() == b""
        writer.close()
        await served

    run(story)
    assert '"cut_off": 2' in capsys.readouterr().out


def test_a_peer_that_vanishes_is_noticed_on_both_sides() -> None:
    async def story() -> None:
        async with world() as it:
            pod = Backend("127.0.0.2")
            await pod.start(it.pod_port)
            it.front.set_pods({"a": pod.host})
            await ask(*await it.connect())
            (client,) = it.front.clients
            assert client._pod is not None
            for transport in (client.transport, client._pod.transport):
                peer = transport.get_extra_info("socket")
                assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                for name, value in pods.KEEP_ALIVE.items():
                    assert peer.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value

    run(story)


def test_a_connection_that_comes_as_its_time_ends_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop stands still meanwhile, as among a thousand connections."""

    class Slow(pods.Pod):
        def __init__(self, *given: Any) -> None:
            time.sleep(0.4)
            super().__init__(*given)

    async def story() -> None:
        async with world() as it:
            monkeypatch.setattr(proxy, "CONNECT_S", 0.2)
            monkeypatch.setattr(proxy, "Pod", Slow)
            pod = Backend("127.0.0.2")
            await pod.start(it.pod_port)
            it.front.set_pods({"a": pod.host})
            reader, writer = await it.connect()
            assert await ask(reader, writer) == "200 abc127.0.0.2"
            assert it.front.connections["a"] == 1
            writer.close()
            await until(lambda: not it.front.clients and it.front.connections["a"] == 0)

    run(story)


@pytest.mark.parametrize("why", ["pod", "drain"])
def test_an_http2_client_has_time_to_hear_that_it_is_to_connect_again(why: str) -> None:
    """What it had sent by then is answered. One that does not care is closed at its next rest."""

    def frame(kind: int, flags: int, stream: int) -> bytes:
        return b"\0\0\1" + bytes([kind, flags]) + stream.to_bytes(4, "big") + b"x"

    async def pod(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        writer.write(frame(4, 0, 0))
        while asked := await reader.read(10):
            writer.write(frame(1, 5, int.from_bytes(asked[5:9], "big")))
        writer.close()

    async def story() -> None:
        async with world() as it:
            server = await asyncio.start_server(pod, "127.0.0.2", it.pod_port)
            it.front.set_pods({"a": "127.0.0.2"})
            reader, writer = await it.connect()
            writer.write(PREFACE + frame(1, 5, 1))
            assert await reader.readexactly(20) == frame(4, 0, 0) + frame(1, 5, 1)
            it.front.drain() if why == "drain" else it.front.set_pods({})
            assert await reader.readexactly(len(GO_AWAY)) == GO_AWAY
            await asyncio.sleep(0.2)
            writer.write(frame(1, 5, 3))
            assert await reader.readexactly(10) == frame(1, 5, 3)
            assert await reader.read() == b""
            await until(lambda: not it.front.clients and it.front.connections["a"] == 0)
            assert it.front.broken == 0
            server.close()

    run(story)
