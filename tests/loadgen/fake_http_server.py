"""A fake inference server: speaks just enough of Triton's HTTP to fail in every way that a real one can.

It is no model of Triton's timing. What is measured against it is the client's accounting, never a latency.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b"{}"
    delay_s: float = 0.0
    hold: Callable[[], bool] = lambda: False  # answer only once this is false
    reset: bool = False  # close the connection instead of answering


METADATA = {
    "name": "toy",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
}
CONFIG = {"name": "toy", "max_batch_size": 8, "instance_group": [{"count": 2}], "dynamic_batching": {}}


class FakeServer:
    """`behave(request id)` decides each infer's Reply; `seen` lists the ids in order of arrival."""

    def __init__(self, behave: Callable[[int], Reply] = lambda request_id: Reply(), port: int = 0) -> None:
        self.behave = behave
        self.seen: list[int] = []
        self._port = port
        self.models = {"toy": (METADATA, CONFIG)}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeServer:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self._port), self._loop
        )
        self._server = starting.result()
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                reply = self._answer(head.split(" ")[0:2], body)
                await asyncio.sleep(reply.delay_s)
                while reply.hold():
                    await asyncio.sleep(0.005)
                if reply.reset:
                    writer.transport.abort()
                    return
                writer.write(f"HTTP/1.1 {reply.status} X\r\nContent-Length: {len(reply.body)}\r\n\r\n".encode())
                writer.write(reply.body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, request: list[str], body: bytes) -> Reply:
        path = request[1]
        if path.endswith("/infer"):
            found = re.search(rb'"id":"(\d{12})"', body)
            assert found, body[:80]
            self.seen.append(int(found[1]))
            return self.behave(int(found[1]))
        if path == "/v2/repository/index":
            return Reply(body=json.dumps([{"name": name, "state": "READY"} for name in self.models]).encode())
        name = path.split("/")[3] if path.startswith("/v2/models/") else ""
        if name not in self.models:
            return Reply(400, json.dumps({"error": f"Request for unknown model: '{name}' is not found"}).encode())
        return Reply(body=json.dumps(self.models[name][path.endswith("/config")]).encode())
