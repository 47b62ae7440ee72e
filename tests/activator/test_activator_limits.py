"""What the activator keeps of those who wait, or read slowly: bounded in number, time and memory."""

from __future__ import annotations

import asyncio

import pytest
from activator_world import POST, Backend, answer, ask, run, until, world


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
            (client,) = it.front.clients
            await until(lambda: client._pod is not None)
            assert client._pod is not None
            to_slow = client.transport if slow == "client" else client._pod.transport
            await until(lambda: to_slow.get_write_buffer_size() > 0)
            await asyncio.sleep(0.3)
            assert 0 < to_slow.get_write_buffer_size() < 2 << 20
            go_on.set()
            writer.write_eof()
            assert len(await reader.read(-1)) == (size if slow == "client" else 3)
            server.close()

    run(story)


def large(size: int) -> bytes:
    return b"POST /infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


def test_a_client_with_a_large_request_can_give_up_too() -> None:
    """An image of ResNet-50: it is read whole, so that the end behind it is seen, and no pod works for nobody."""

    async def story() -> None:
        async with world() as it:
            _, writer = await it.connect()
            writer.write(large(602_112))
            await writer.drain()
            await until(lambda: it.front.held_bytes > 602_112)
            writer.close()
            await until(lambda: it.front.held == 0)
            assert it.front.refused == {"gave_up": 1}
            assert it.front.held_bytes == 0

    run(story)


def test_what_waits_is_bounded_in_memory_and_nothing_of_it_is_lost() -> None:
    async def story() -> None:
        async with world(max_held_mib=1) as it:
            clients = [await it.connect() for _ in range(16)]
            for _, writer in clients:
                writer.write(large(900_000))
            await until(lambda: it.front.held == 16)
            await asyncio.sleep(0.3)
            # asyncio reads up to 256 KiB at once; without the limit it would be 14 MB
            assert 1 << 20 <= it.front.held_bytes <= (1 << 20) + 16 * (256 << 10)
            pod = Backend("127.0.0.2")
            await pod.start(it.pod_port)
            it.front.set_pods({"a": pod.host})
            assert {await answer(reader) for reader, _ in clients} == {"200 xxx127.0.0.2"}
            assert it.front.held_bytes == 0

    run(story)


def test_who_reads_too_little_of_one_pod_gets_no_flood_from_the_next() -> None:
    async def story() -> None:
        async with world() as it:
            size = 64 << 20

            async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readexactly(len(POST))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"\0" * size)

            pod = Backend("127.0.0.2")
            await pod.start(it.pod_port)
            server = await asyncio.start_server(flood, "127.0.0.3", it.pod_port)
            it.front.set_pods({"a": pod.host})
            reader, writer = await it.connect()
            assert await ask(reader, writer) == "200 abc127.0.0.2"
            (client,) = it.front.clients
            client.pause_writing()  # as its transport says it when its buffer is full
            it.front.set_pods({"b": "127.0.0.3"})
            writer.write(POST)
            await until(lambda: client.state == "joined")
            await asyncio.sleep(0.2)
            assert client.transport.get_write_buffer_size() == 0
            client.resume_writing()
            assert len(await answer(reader)) == size + 4
            server.close()

    run(story)
