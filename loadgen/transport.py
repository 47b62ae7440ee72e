"""The wire: one small protocol, HTTP (the default), and none at all (to measure the harness itself).

A transport is made in the client process that uses it, and sends from many greenlets at once.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import gevent
import numpy as np
import tritonclient.http as triton_http
from gevent.socket import IPPROTO_TCP, TCP_NODELAY
from gevent.socket import socket as Socket  # noqa: N812
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse

from loadgen.access import PLAIN, Access, hidden
from loadgen.clients import tls_of_gevent
from loadgen.endpoints import Endpoint, endpoint_of
from loadgen.refused import why_no_tls
from workloads.catalog import TensorSpec
from workloads.payloads import payload


class RequestKind(NamedTuple):
    """Requests that are the same but for their number.

    tokens: how long they are; None: the model has one shape. entry: in the user's file of requests. rows: of each.
    """

    model: str
    tokens: int | None = None
    entry: int = 0
    rows: int = 1


Tensors = dict[str, tuple[str, np.ndarray[Any, Any]]]  # name -> KServe datatype, data as sent
PLACEHOLDER = "000000000000"  # the request id has a fixed width, so that it can be patched in place
_DETAIL_CHARS = 160
_READ_BYTES = 4096  # of an answer that is no JSON
WARM = 16  # connections to an endpoint that are opened ahead
_SMALL_BODY = 65536  # below this, one write of a copy is cheaper than two writes


class RequestFailed(Exception):  # noqa: N818
    """The request ended without a result. answered: the server said so itself."""

    def __init__(self, detail: str, answered: bool = False) -> None:
        super().__init__(detail[:_DETAIL_CHARS])
        self.answered = answered


class NotSent(RequestFailed):
    """Nobody took the connection: no part of the request was sent, and another endpoint may be asked."""


class RequestTimeout(RequestFailed):
    """No answer within the request timeout."""


class Transport(Protocol):
    """Sends one request and waits for its answer."""

    def connect(self, endpoint: str) -> None:
        """Make connections ahead of the first request; OSError if nobody listens there."""

    def send(self, endpoint: str, kind: RequestKind, request_id: int) -> int:
        """Bytes of the answer's body; RequestFailed, NotSent or RequestTimeout."""

    def close(self) -> None:
        """Close all connections."""


def request_tensors(
    inputs: tuple[TensorSpec, ...],
    batched: bool,
    seed: int,
    tokens: int | None = None,
    *,
    values: Mapping[str, str] | None = None,
    batch: int = 1,
) -> Tensors:
    """One request's inputs as they are sent: with a batch dimension if the model has one.

    tokens: what the dimensions have that the model leaves free. values: of inputs, as a user types them. batch: rows
    of the request, each with data of its own.
    """
    if tokens is not None:
        inputs = tuple(
            tensor.model_copy(update={"shape": tuple(tokens if size < 0 else size for size in tensor.shape)})
            for tensor in inputs
        )
    if not batched:
        data = payload(inputs, seed, values)
        return {spec.name: (spec.datatype, data[spec.name]) for spec in inputs}
    rows = [payload(inputs, seed if row == 0 else [seed, row], values) for row in range(batch)]
    return {spec.name: (spec.datatype, np.stack([row[spec.name] for row in rows])) for spec in inputs}


def file_tensors(inputs: tuple[TensorSpec, ...], batched: bool, data: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
    """The same of one entry of a file of requests."""
    return {spec.name: (spec.datatype, data[spec.name][None] if batched else data[spec.name]) for spec in inputs}


class NullTransport:
    """Answers at once."""

    def connect(self, endpoint: str) -> None:
        """See Transport."""

    def send(self, endpoint: str, kind: RequestKind, request_id: int) -> int:
        """See Transport."""
        return 0

    def close(self) -> None:
        """See Transport."""


class _Connections(ConnectionPool):
    """To one endpoint. prefix, headers: of each request to it."""

    def __init__(self, endpoint: Endpoint, size: int, access: Access) -> None:
        super().__init__(endpoint.host, endpoint.port, endpoint.host, endpoint.port, size)
        self.connection_timeout = self.network_timeout = None  # type: ignore[assignment]  # send has its own
        self.prefix = endpoint.prefix.encode()
        headers = {"host": endpoint.authority} | access.header_values()
        self.headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        self._tls = tls_of_gevent(access) if endpoint.tls else None

    def _connect_socket(self, sock: Socket, address: Any) -> Socket:
        sock = super()._connect_socket(sock, address)
        return sock if self._tls is None else self._tls.wrap_socket(sock, server_hostname=self._request_host)

    def _is_socket_alive(self, sock: Socket | None) -> bool:
        """TLS 1.3 sends tickets that nobody asked for: an idle connection may have something to read, and live."""
        alive = bool(super()._is_socket_alive(sock))
        if alive or self._tls is None or sock is None:
            return alive
        try:
            sock.settimeout(0.0)
            sock.recv(1)  # its end, or an answer that nobody waits for any more
        except ssl.SSLWantReadError:
            return True
        except (OSError, ValueError):
            return False
        finally:
            sock.settimeout(None)
        return False

    def after_connect(self, sock: Socket) -> None:
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)


class _Prepared:
    """A whole HTTP request but for what its endpoint adds: path, and from there to the request id (between these come
    the endpoint's headers), after it, and a large body's binary tail."""

    def __init__(self, model: str, body: bytes, json_size: int | None) -> None:
        self.path = f"/v2/models/{model}/infer HTTP/1.1\r\n".encode()
        head = f"Content-Length: {len(body)}\r\n"
        if json_size is not None:
            head += f"Inference-Header-Content-Length: {json_size}\r\n"
        request = head.encode() + b"\r\n" + body
        before, separator, after = request.partition(f'"id":"{PLACEHOLDER}"'.encode())
        assert separator, "tritonclient writes the request id first"
        self.before = before + b'"id":"'
        rest = b'"' + after
        inline = len(rest) if len(body) <= _SMALL_BODY else len(rest) - (len(body) - (json_size or 0))
        self.after, self.tail = rest[:inline], rest[inline:]


class HttpTransport:
    """A request built once by tritonclient, posted over geventhttpclient's kept-alive connections.

    At most `connections` to an endpoint, WARM of them opened ahead. Triton's error answers are failures.
    """

    def __init__(
        self, requests: Mapping[RequestKind, Tensors], timeout_s: float, connections: int, access: Access = PLAIN
    ) -> None:
        self._access, self._secrets = access, access.secrets()
        self._prepared = {
            kind: _Prepared(kind.model, *_body(inputs)) for kind, inputs in self._inputs(requests).items()
        }
        self._timeout_s = timeout_s
        self._connections = connections
        self._pools: dict[str, _Connections] = {}

    def _inputs(self, requests: Mapping[RequestKind, Tensors]) -> dict[RequestKind, list[triton_http.InferInput]]:
        inputs = {}
        for kind, tensors in requests.items():
            inputs[kind] = [described(name, datatype, data) for name, (datatype, data) in tensors.items()]
            for tensor, (_, data) in zip(inputs[kind], tensors.values(), strict=True):
                tensor.set_data_from_numpy(data)
        return inputs

    def connect(self, endpoint: str) -> None:
        """See Transport."""
        pool = self._pool(endpoint)
        sockets = []
        try:
            with gevent.Timeout(self._timeout_s, TimeoutError("no connection in time")):
                for _ in range(min(WARM, self._connections)):
                    sockets.append(pool.get_socket())
        except ssl.SSLError as error:
            raise ConnectionError(why_no_tls(error) or str(error)) from None
        finally:
            for sock in sockets:
                pool.return_socket(sock)

    def _pool(self, endpoint: str) -> _Connections:
        pool = self._pools.get(endpoint)
        if pool is None:
            pool = self._pools[endpoint] = _Connections(endpoint_of(endpoint), self._connections, self._access)
        return pool

    def send(self, endpoint: str, kind: RequestKind, request_id: int) -> int:
        """See Transport."""
        # Spans the whole exchange; the sockets' own timeouts would start anew with every read.
        timeout = gevent.Timeout.start_new(self._timeout_s)
        try:
            response = self._post(self._pool(endpoint), self._prepared[kind], request_id)
            body = response.read()
        except gevent.Timeout as fired:
            if fired is not timeout:
                raise
            raise RequestTimeout(f"no answer within {self._timeout_s:g} s") from None
        except (OSError, HTTPParseError) as error:
            raise RequestFailed(str(error) or type(error).__name__) from None
        finally:
            timeout.close()
        if response.status_code >= 300:  # a redirection is no answer
            said = hidden(_triton_message(response.status_code, body), self._secrets)
            raise RequestFailed(said, answered=True)
        return len(body)

    @staticmethod
    def _post(pool: _Connections, prepared: _Prepared, request_id: int) -> HTTPSocketPoolResponse:
        try:
            sock = pool.get_socket()
        except OSError as error:
            raise NotSent(str(error) or type(error).__name__) from None
        try:
            head = b"POST %b%b%b" % (pool.prefix, prepared.path, pool.headers)
            sock.sendall(head + prepared.before + b"%012d" % request_id + prepared.after)
            if prepared.tail:
                sock.sendall(prepared.tail)
        except BaseException:
            pool.release_socket(sock)
            raise
        return HTTPSocketPoolResponse(sock, pool, block_size=_SMALL_BODY, method="POST")

    def close(self) -> None:
        """See Transport."""
        for pool in self._pools.values():
            pool.close()


def described(name: str, datatype: str, data: np.ndarray[Any, Any]) -> triton_http.InferInput:
    """An input of that name and shape, its data yet to be given."""
    return triton_http.InferInput(name, list(data.shape), datatype)


def _body(inputs: list[triton_http.InferInput]) -> tuple[bytes, int | None]:
    body, size = triton_http.InferenceServerClient.generate_request_body(inputs, request_id=PLACEHOLDER)
    return body, size


def _triton_message(status: int, body: bytes) -> str:
    try:
        message = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        message = body[:_READ_BYTES].decode("utf-8", "replace")
    return f"HTTP {status}: {message}"
