"""HTTPS for the API server's aggregator, and for nobody else: it has asked who the user is, and what he may read.

A client must show a certificate of the front proxy's authority, with one of the allowed names on it. A handshake that
fails is its own affair; whatever else goes wrong is a line in the log, and a 500 to who asked.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from testbed.adapter.api import Answer, MetricSource, answer, refusal
from testbed.errors import ConfigError
from testbed.log_line import of_error, print_line

_PATIENCE_S = 30.0  # of a connection that says nothing


class Trust(NamedTuple):
    """Who may call: certificates of this authority (PEM) with one of these common names; no names: any."""

    client_ca: str
    names: frozenset[str]


class AdapterServer:
    """Answers from a source until it is closed. port 0: any that is free. log: of what went wrong; None: stderr."""

    def __init__(
        self,
        source: MetricSource,
        address: tuple[str, int],
        certificate: Path,
        key: Path,
        trust: Trust,
        log: TextIO | None = None,
    ) -> None:
        context = _context(certificate, key, trust)

        class Handler(_Handler):
            pass

        Handler.source, Handler.names, Handler.log = source, trust.names, log
        try:
            self._server = _Server(address, Handler, context, log)
        except OSError as error:
            raise ConfigError(f"port {address[1]} of {address[0]} cannot be had ({error.strerror})") from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="adapter", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


def _context(certificate: Path, key: Path, trust: Trust) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{certificate} with {key} is no certificate to serve with: {error}") from None
    try:
        context.load_verify_locations(cadata=trust.client_ca)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"the authority of the front proxy's certificates cannot be read: {error}") from None
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class _HandshakeError(Exception):
    """There is no certificate, or one of another authority, or no TLS at all."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handler: type[_Handler], context: ssl.SSLContext, log: TextIO | None
    ) -> None:
        self._context, self._log = context, log
        super().__init__(address, handler)

    def get_request(self) -> tuple[Any, Any]:
        # The handshake is left to the connection's own thread: a client that never begins one holds nobody up.
        connection, address = super().get_request()
        connection.settimeout(_PATIENCE_S)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line, but for a handshake that fails."""
        error = sys.exception()
        if error is not None and not isinstance(error, _HandshakeError):
            print_line(self._log, client=str(client_address[0]), error=of_error(error))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    source: MetricSource
    names: frozenset[str]
    log: TextIO | None
    connection: ssl.SSLSocket

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.connection.do_handshake()
        except OSError as error:
            raise _HandshakeError from error

    def do_GET(self) -> None:
        try:
            status, body = self._answer()
        except Exception as error:  # whatever a source does: the client is told, and the next one is answered
            self._tell(error)
            status, body = _as_bytes(
                refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "see the adapter's log")
            )
        try:
            self._send(status, body)
        except OSError as error:  # it did not wait for the answer
            self._tell(error)
            self.close_connection = True

    def _answer(self) -> tuple[int, bytes]:
        shown = _common_names(self.connection.getpeercert() or {})
        if self.names and not shown & self.names:
            message = f"this client is {', '.join(shown) or 'nobody'}: only the API server's front proxy may call"
            return _as_bytes(refusal(HTTPStatus.FORBIDDEN, "Forbidden", message))
        return _as_bytes(answer(self.source, self.path))

    def _tell(self, error: Exception) -> None:
        print_line(self.log, request=f"{self.command} {self.path}", error=of_error(error))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The API server's own log tells who asked."""


def _as_bytes(what: Answer) -> tuple[int, bytes]:
    return what.status, json.dumps(what.body).encode()


def _common_names(certificate: Any) -> set[str]:
    return {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
