"""gRPC through the activator: a client and a server of grpcio, and the activator's event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from testbed.activator.config import HoldLimits
from testbed.activator.front import Front
from testbed.activator.proxy import Client


class Echo(grpc.GenericRpcHandler):
    """Says what it is told, after as many seconds as the request has bytes more than 100 of, in tenths."""

    def service(self, handler_call_details):
        def echo(request, context):
            time.sleep(max(0, len(request) - 100) / 10)
            return request

        return grpc.unary_unary_rpc_method_handler(echo)


@pytest.fixture
def port():
    """Of gRPC servers on 127.0.0.2 and 127.0.0.3."""
    servers = [grpc.server(ThreadPoolExecutor(4), handlers=[Echo()]) for _ in range(2)]
    bound = servers[0].add_insecure_port("127.0.0.2:0")
    servers[1].add_insecure_port(f"127.0.0.3:{bound}")
    for server in servers:
        server.start()
    yield bound
    for server in servers:
        server.stop(0)


@pytest.fixture
def before(port):
    """The activator's port, its front, and a function that runs in its event loop."""
    loop, front = asyncio.new_event_loop(), Front("web", HoldLimits())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listens = loop.create_server(lambda: Client(front, port), "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(listens, loop).result(5)
    yield server.sockets[0].getsockname()[1], front, loop.call_soon_threadsafe
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def until(value):
    deadline_s = time.monotonic() + 20
    while not value():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_calls_of_grpc_wait_and_are_counted(before) -> None:
    listening, front, in_loop = before
    with grpc.insecure_channel(f"127.0.0.1:{listening}") as channel, ThreadPoolExecutor(1) as pool:
        call = channel.unary_unary("/web/echo")
        first = pool.submit(call, b"one", timeout=30)
        until(lambda: front.held > 0)
        time.sleep(0.3)
        assert not first.done()
        in_loop(front.set_pods, {"a": "127.0.0.2"})
        assert first.result(20) == b"one"
        assert [call(b"%d" % k, timeout=10) for k in range(9)] == [b"%d" % k for k in range(9)]
        assert front.requests == 10
        assert +front.connections == {"a": 1}


def test_no_call_of_grpc_is_lost_while_pods_change_and_one_is_long(before) -> None:
    listening, front, in_loop = before
    in_loop(front.set_pods, {"a": "127.0.0.2"})
    enough = threading.Event()
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection each

    def client(number: int) -> int:
        with grpc.insecure_channel(f"127.0.0.1:{listening}", options=options) as channel:
            call, calls = channel.unary_unary("/web/echo"), 0
            long = call.future(b"x" * 125, timeout=30)  # 2.5 s: its pod leaves meanwhile
            while not enough.is_set():
                assert call(b"%d" % number, timeout=30) == b"%d" % number
                calls += 1
            assert long.result() == b"x" * 125
            return calls + 1

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client, k) for k in range(3)]
        until(lambda: front.requests > 30)
        for pods in ({"b": "127.0.0.3"}, {}, {"a": "127.0.0.2"}):
            in_loop(front.set_pods, pods)
            time.sleep(1.5)
        until(lambda: set(+front.connections) == {"a"})
        enough.set()
        calls = sum(one.result(30) for one in clients)
    assert calls == front.requests
    assert front.broken == 0


def test_a_drained_activator_ends_grpcs_connections_when_their_calls_are_done(before) -> None:
    listening, front, in_loop = before
    in_loop(front.set_pods, {"a": "127.0.0.2"})
    with grpc.insecure_channel(f"127.0.0.1:{listening}") as channel:
        call = channel.unary_unary("/web/echo")
        long = call.future(b"x" * 115, timeout=30)
        until(lambda: front.requests == 1)
        in_loop(front.drain)
        assert long.result(20) == b"x" * 115
        until(lambda: not front.clients)
    assert front.broken == 0
