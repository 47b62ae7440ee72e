"""Whether the control loop still turns, and the page that says so beside the metrics.

A loop that hangs would otherwise keep its lease: the election has a thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from testbed.errors import ConfigError

HEALTH_PATH = "/healthz"


class Pulse:
    """When the loop last came round. limit_s: it counts as alive so long after it."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._beat_s = clock()

    def beat(self) -> None:
        """The loop came round."""
        self._beat_s = self._clock()

    def silent_s(self) -> float | None:
        """Seconds since the last beat if they are too many; None: alive."""
        silent_s = self._clock() - self._beat_s
        return silent_s if silent_s > self._limit_s else None


def serve(port: int, registry: CollectorRegistry, pulse: Pulse) -> int:
    """Answer at the port, in a thread that ends with the process; returns the port (0 chooses a free one).

    /healthz: 200, or 503 when the loop is silent. Anything else: the metrics. ConfigError if the port is taken.
    """
    metrics: Any = make_wsgi_app(registry)

    def page(environ: dict[str, Any], start: Any) -> Any:
        if environ["PATH_INFO"] != HEALTH_PATH:
            return metrics(environ, start)
        silent_s = pulse.silent_s()
        said = "ok" if silent_s is None else f"the control loop has been silent for {silent_s:.0f} s"
        start("200 OK" if silent_s is None else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [said.encode() + b"\n"]

    try:
        server = make_server("", port, page, _Server, _Quiet)
    except OSError as error:
        raise ConfigError(f"metrics_port {port}: {error.strerror}: choose another, or 0 for none") from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


class _Server(ThreadingMixIn, WSGIServer):
    """A client that is slow to read keeps nobody else waiting, the kubelet least of all."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Its log is the controller's: one JSON line a decision, and no line a request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
