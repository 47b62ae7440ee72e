"""Whether the control loop and the election still turn, and the page that says so beside the metrics.

Each has a thread of its own: a loop that hangs would otherwise keep its lease, and a process whose election has ended
would wait for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from testbed.errors import ConfigError

HEALTH_PATH, DECISION_PATH = "/healthz", "/decision"


class Pulse:
    """When what it is of last came round. limit_s: it counts as alive so long after it."""

    def __init__(
        self, limit_s: float, clock: Callable[[], float] = time.monotonic, of: str = "the control loop"
    ) -> None:
        self._limit_s, self._clock, self.of = limit_s, clock, of
        self._beat_s = clock()

    def beat(self) -> None:
        """It came round."""
        self._beat_s = self._clock()

    def silent_s(self) -> float | None:
        """Seconds since the last beat if they are too many; None: alive."""
        silent_s = self._clock() - self._beat_s
        return silent_s if silent_s > self._limit_s else None


def serve(
    port: int, registry: CollectorRegistry, pulses: Sequence[Pulse], last: Callable[[], str | None] = lambda: None
) -> int:
    """Answer at the port, in a thread that ends with the process; returns the port (0 chooses a free one).

    /healthz: 200, or 503 when a pulse is silent. /decision: the last line of the controller's log, 404 before the
    first: why it decided so is no metric. Anything else: the metrics. ConfigError if the port is taken.
    """
    metrics: Any = make_wsgi_app(registry)

    def page(environ: dict[str, Any], start: Any) -> Any:
        if environ["PATH_INFO"] == DECISION_PATH:
            line = last()
            start("404 Not Found" if line is None else "200 OK", [("Content-Type", "application/json")])
            return [b"" if line is None else line.encode() + b"\n"]
        if environ["PATH_INFO"] != HEALTH_PATH:
            return metrics(environ, start)
        silent = [(pulse.of, seconds) for pulse in pulses if (seconds := pulse.silent_s()) is not None]
        said = "; ".join(f"{of} has been silent for {seconds:.0f} s" for of, seconds in silent) or "ok"
        start("503 Service Unavailable" if silent else "200 OK", [("Content-Type", "text/plain")])
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
