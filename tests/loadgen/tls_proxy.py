"""A reverse proxy with TLS, as one stands before a user's Triton: a path, a token, other statuses. Loopback only."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testbed.localcluster import pki


@contextmanager
def authority(folder: Path) -> Iterator[Path]:
    """PEM files: ca.crt, server.crt (of localhost and 127.0.0.1), other.crt (of another name), client.crt, and keys."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pki, "PKI", folder)
        for name in ("CA", "FRONT_PROXY_CA", "SERVICE_ACCOUNT_KEY", "SERVICE_ACCOUNT_PUBLIC_KEY"):
            patched.setattr(pki, name, folder / getattr(pki, name).name)
        pki.write_certificates()
        pki.issue("server", pki.CA, "/CN=server", "serverAuth", names=("DNS:localhost", "IP:127.0.0.1"))
        pki.issue("other", pki.CA, "/CN=other", "serverAuth", names=("DNS:other.example",))
        pki.issue("client", pki.CA, "/CN=client", "clientAuth")
        yield folder


@dataclass
class Proxy:
    """routes: path -> host:port behind it. token: what Authorization must be; None: anything. raw: bytes go through
    as they are, to the only route. refuse_infer: refuse requests for inference, and repeat the token."""

    routes: dict[str, str]
    certificates: Path | None
    name: str = "server"
    token: str | None = None
    ask_for_client: bool = False
    raw: bool = False
    refusal: int = 401
    refuse_infer: bool = False
    heads: list[str] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Proxy:
        self._loop, self._open = asyncio.new_event_loop(), []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        tls = None
        if self.certificates is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self.certificates / f"{self.name}.crt", self.certificates / f"{self.name}.key")
            if self.raw:
                tls.set_alpn_protocols(["h2"])
            if self.ask_for_client:
                tls.verify_mode = ssl.CERT_REQUIRED
                tls.load_verify_locations(self.certificates / "ca.crt")
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)

    async def _close(self) -> None:
        self._server.close()
        await asyncio.sleep(0.05)  # for who has just been let in
        for writer in self._open:
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            if self.raw:
                there = await _connected(next(iter(self.routes.values())))
                await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer))
            while not self.raw:
                await self._exchange(reader, writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await _message(reader)
        self.heads.append(head)
        method, path, _ = head.split("\r\n")[0].split(" ")
        route = next((each for each in self.routes if path.startswith(f"{each}/")), None)
        token = re.search(r"\r\nauthorization: *(.*?)\r\n", head, re.IGNORECASE)
        if self.token is not None and (token is None or token[1] != self.token):
            writer.write(_answer(self.refusal, "<html>not you</html>"))
        elif self.refuse_infer and token is not None and path.endswith("/infer"):
            writer.write(_answer(self.refusal, f"who is {token[1]}?"))
        elif route is None:
            writer.write(_answer(404, "404 page not found"))
        else:
            behind, forward = await _connected(self.routes[route])
            forward.write(head.replace(f"{method} {path}", f"{method} {path.removeprefix(route)}", 1).encode("latin-1"))
            forward.write(body)
            answered, content = await _message(behind)
            forward.close()
            writer.write(answered.encode("latin-1") + content)
        await writer.drain()


def _answer(status: int, text: str) -> bytes:
    where = "Location: /elsewhere\r\n" if 300 <= status < 400 else ""
    return f"HTTP/1.1 {status} X\r\n{where}Content-Length: {len(text)}\r\n\r\n{text}".encode()


async def _connected(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _message(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if "transfer-encoding: chunked" in head.lower():
        parts = [b""]
        while parts[-1] != b"0\r\n":
            parts.append(await reader.readuntil(b"\r\n"))
            parts.append(await reader.readexactly(int(parts[-1], 16)) if parts[-1] != b"0\r\n" else b"0\r\n")
        return head, b"".join(parts[:-1]) + await reader.readuntil(b"\r\n")
    return head, await reader.readexactly(int(length[1])) if length else b""


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
