"""The wire: one small protocol, HTTP (the default), and none at all (to measure the harness itself).

A transport is made in the client process that uses it, and sends from many greenlets at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import gevent
import numpy as np
import tritonclient.http as triton_http
from gevent.socket import IPPROTO_TCP, TCP_NODELAY
from gevent.socket import socket as Socket  # noqa: N812
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse

from loadgen.endpoints import host_and_port
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
    def after_connect(self, sock: Socket) -> None:
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)


class _Prepared:
    """A whole HTTP request in three parts: before the request id, after it, and a large body's binary tail."""

    def __init__(self, model: str, body: bytes, json_size: int | None) -> None:
        head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: triton\r\nContent-Length: {len(body)}\r\n"
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

    def __init__(self, requests: Mapping[RequestKind, Tensors], timeout_s: float, connections: int) -> None:
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
        finally:
            for sock in sockets:
                pool.return_socket(sock)

    def _pool(self, endpoint: str) -> _Connections:
        pool = self._pools.get(endpoint)
        if pool is None:
            host, port = host_and_port(endpoint)
            pool = _Connections(host, port, host, port, self._connections)
            pool.connection_timeout = pool.network_timeout = None  # type: ignore[assignment]  # send has its own
            self._pools[endpoint] = pool
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
        if response.status_code >= 400:
            raise RequestFailed(_triton_message(response.status_code, body), answered=True)
        return len(body)

    @staticmethod
    def _post(pool: _Connections, prepared: _Prepared, request_id: int) -> HTTPSocketPoolResponse:
        try:
            sock = pool.get_socket()
        except OSError as error:
            raise NotSent(str(error) or type(error).__name__) from None
        try:
            sock.sendall(prepared.before + b"%012d" % request_id + prepared.after)
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
        message = body[:_DETAIL_CHARS].decode("utf-8", "replace")
    return f"HTTP {status}: {message}"
