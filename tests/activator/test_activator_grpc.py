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
    def service(self, handler_call_details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


@pytest.fixture
def port():
    """Of a gRPC server on 127.0.0.1."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Echo()])
    bound = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield bound
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


def test_calls_of_grpc_wait_are_counted_and_one_connection_stays_with_its_pod(before) -> None:
    listening, front, in_loop = before
    with grpc.insecure_channel(f"127.0.0.1:{listening}") as channel, ThreadPoolExecutor(1) as pool:
        call = channel.unary_unary("/web/echo")
        first = pool.submit(call, b"one", timeout=30)
        deadline_s = time.monotonic() + 10
        while front.held == 0:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        time.sleep(0.3)
        assert not first.done()
        in_loop(front.set_pods, {"a": "127.0.0.1"})
        assert first.result(20) == b"one"
        in_loop(front.set_pods, {"b": "127.0.0.1"})  # its pod leaves: what is no HTTP/1.1 stays while the pod lasts
        assert [call(b"%d" % k, timeout=10) for k in range(9)] == [b"%d" % k for k in range(9)]
        assert front.requests == 10
        assert +front.connections == {"a": 1}
