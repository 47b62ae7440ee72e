"""What the activator costs: `pytest tests/bench/test_bench_activator.py --benchmark-only -s`.

1,000 requests/s in all over 50 connections that are kept, directly and through it in turn; latency from when a request
was due. The server, the activator and the client are a process each.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil
import pytest

from testbed.activator.config import ActivatorConfig
from testbed.activator.run import serve_until
from testbed.autoscaling.live.deployment import DeploymentStatus
from testbed.measurement.triton_metrics import TritonAddress

RATE_RPS, CONNECTIONS, SECONDS, ROUNDS = 1000, 50, 5.0, 3
BODY = b"x" * 1000
REQUEST = b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Server(asyncio.Protocol):
    """Answers at once."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.read = transport, 0

    def data_received(self, data: bytes) -> None:
        self.read += len(data)
        while self.read >= len(REQUEST):
            self.read -= len(REQUEST)
            self.transport.write(ANSWER)


def serve_directly(told: Connection) -> None:
    async def story() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(story())


def serve_through(told: Connection, port: int) -> None:
    ports = [{"listen": 0, "pod": port}]
    config = ActivatorConfig.model_validate(
        {"deployments": [{"deployment": "web", "ports": ports}], "metrics_port": 0, "drain_s": 0}
    )
    status = DeploymentStatus(1, (), (TritonAddress("pod-0", "127.0.0.1:8000", None),))
    asyncio.run(serve_until(config, {"web": lambda: status}, threading.Event(), lambda _, ports: told.send(ports[0])))


@contextmanager
def process(target: Any, *more: Any) -> Iterator[tuple[psutil.Process, int]]:
    """It, and the port that it listens at."""
    spawned = multiprocessing.get_context("spawn")
    here, there = spawned.Pipe()
    one = spawned.Process(target=target, args=(there, *more), daemon=True)
    one.start()
    try:
        yield psutil.Process(one.pid), here.recv()
    finally:
        one.terminate()
        one.join()


async def latencies_s(port: int) -> list[float]:
    found: list[float] = []
    start_s = time.monotonic() + 0.2

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for k in range(int(SECONDS * RATE_RPS / CONNECTIONS)):
            due_s = start_s + (k * CONNECTIONS + number) / RATE_RPS
            await asyncio.sleep(due_s - time.monotonic())
            writer.write(REQUEST)
            await reader.readexactly(len(ANSWER))
            found.append(time.monotonic() - due_s)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    return found


@pytest.mark.benchmark(group="activator")
def test_latency_and_processor_time_of_the_activator(benchmark: Any) -> None:
    direct: list[float] = []
    through: list[float] = []

    def story(activator: psutil.Process, port: int, through_port: int) -> float:
        used_s = 0.0
        for _ in range(ROUNDS):
            direct.extend(asyncio.run(latencies_s(port)))
            before = activator.cpu_times()
            through.extend(asyncio.run(latencies_s(through_port)))
            after = activator.cpu_times()
            used_s += after.user + after.system - before.user - before.system
        return used_s / (ROUNDS * SECONDS)

    with process(serve_directly) as (_, port), process(serve_through, port) as (activator, through_port):
        asyncio.run(latencies_s(through_port))  # warm
        share = benchmark.pedantic(story, args=(activator, port, through_port), rounds=1)
    for what in (50, 99):
        a, b = (1e3 * float(np.percentile(values, what)) for values in (direct, through))
        print(f"P{what}: {a:.2f} ms directly, {b:.2f} ms through it: {b - a:+.2f} ms, {b / a:.1f} times")
        benchmark.extra_info[f"p{what}_ms"] = (a, b)
    print(f"{100 * share:.0f} % of a core at {RATE_RPS} requests/s")
    benchmark.extra_info["core_share"] = share
    assert len(direct) == len(through) == ROUNDS * RATE_RPS * SECONDS
    assert share < 0.6
