"""Triton's own clients, made for an address and how it is reached; and what their errors mean."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import tritonclient.http as triton
from geventhttpclient.connectionpool import create_default_context  # type: ignore[attr-defined]  # gevent's
from geventhttpclient.response import HTTPConnectionClosed
from tritonclient.utils import InferenceServerException

from loadgen.access import PLAIN, Access
from loadgen.endpoints import endpoint_of
from loadgen.refused import ASKS_FOR_ONE, why_no_tls, why_not_plain, why_status


def tls_of_gevent(access: Access) -> ssl.SSLContext:
    """For gevent's sockets, which are those of tritonclient.http."""
    return access.context(create_default_context)


@contextlib.contextmanager
def http_client(server: str, timeout_s: float, access: Access = PLAIN) -> Iterator[triton.InferenceServerClient]:
    """A tritonclient.http client for the length of the block. It belongs to the thread that made it."""
    endpoint = endpoint_of(server)
    tls: dict[str, Any] = {}
    if endpoint.tls:
        context = tls_of_gevent(access)
        tls = {"ssl": True, "ssl_context_factory": lambda cafile: context, "insecure": access.insecure}
    address = endpoint.url.partition("://")[2]
    client = triton.InferenceServerClient(address, connection_timeout=timeout_s, network_timeout=timeout_s, **tls)
    add_headers(client, access)
    with contextlib.closing(client):
        yield client


def add_headers(client: Any, access: Access) -> None:
    """To every request of a client of tritonclient's, HTTP or gRPC."""
    if values := access.header_values():
        client.register_plugin(lambda request: request.headers.update(values))


def why_refused(error: BaseException, server: str, access: Access) -> str | None:
    """Of an error of a client of that server's HTTP; None: it is Triton's own, or nothing of all that."""
    endpoint = endpoint_of(server)
    if not isinstance(error, InferenceServerException):
        if not endpoint.tls:
            return why_not_plain(endpoint)
        closed = isinstance(error, (HTTPConnectionClosed, ConnectionResetError)) and access.cert is None
        return ASKS_FOR_ONE.format("it closes the connection") if closed else why_no_tls(error)
    status = int(error.status() or 0)
    triton_said_it = error.debug_details() is None and "empty response" not in str(error.message())
    if triton_said_it and status not in (401, 403):
        return None
    if status == 400:  # also of nginx, in words: TLS that it does not get, a certificate that it does not get
        if "certificate" in str(error.debug_details()):
            return ASKS_FOR_ONE.format(status)
        return (None if endpoint.tls else why_not_plain(endpoint)) or why_status(status, access)
    return why_status(status, access)
