"""HTTPS for the API server's aggregator, and for nobody else: it has asked who the user is, and what he may read.

A client must show a certificate of the front proxy's authority, with one of the allowed names on it.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from testbed.adapter.api import Answer, answer, refusal
from testbed.adapter.source import Source
from testbed.errors import ConfigError

_PATIENCE_S = 30.0  # of a connection that says nothing


class Trust(NamedTuple):
    """Who may call: certificates of this authority (PEM) with one of these common names; no names: any."""

    client_ca: str
    names: frozenset[str]


class AdapterServer:
    """Answers from a source until it is closed. port 0: any that is free."""

    def __init__(self, source: Source, address: tuple[str, int], certificate: Path, key: Path, trust: Trust) -> None:
        context = _context(certificate, key, trust)

        class Handler(_Handler):
            pass

        Handler.source, Handler.names = source, trust.names
        try:
            self._server = _Server(address, Handler, context)
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[_Handler], context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(address, handler)

    def get_request(self) -> tuple[Any, Any]:
        # The handshake is left to the connection's own thread: a client that never begins one holds nobody up.
        connection, address = super().get_request()
        connection.settimeout(_PATIENCE_S)
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handshake that fails is the client's affair."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    source: Source
    names: frozenset[str]
    connection: ssl.SSLSocket

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.do_handshake()  # raises if there is no certificate, or of another authority

    def do_GET(self) -> None:
        shown = _common_names(self.connection.getpeercert() or {})
        if self.names and not shown & self.names:
            told = f"this client is {', '.join(shown) or 'nobody'}: only the API server's front proxy may call"
            self._send(refusal(HTTPStatus.FORBIDDEN, "Forbidden", told))
        else:
            self._send(answer(self.source, self.path))

    def _send(self, what: Answer) -> None:
        body = json.dumps(what.body).encode()
        self.send_response(what.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The API server's own log tells who asked."""


def _common_names(certificate: Any) -> set[str]:
    return {value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"}
