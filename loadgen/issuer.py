"""Open-loop issue of one client process's share of a schedule: every request at its absolute time, whatever happens.

Nothing here waits for an answer before it sends the next request. At the in-flight limit a request is counted as
dropped, never delayed; so a slow server shows in the log and not in the schedule.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic_ns

import gevent
import gevent.event
import numpy as np
import numpy.typing as npt

from loadgen.endpoints import POLL_S, EndpointError, Endpoints
from loadgen.request_log import STATUSES
from loadgen.row_stream import FLUSH_S, Row, RowStream
from loadgen.timerfd import TimerFd
from loadgen.transport import NotSent, RequestFailed, RequestKind, RequestTimeout, Transport

OK, ERROR, TIMEOUT, DROPPED = (STATUSES.index(status) for status in ("ok", "error", "timeout", "dropped"))
_YIELD_EVERY = 32  # requests issued without looking at sockets when the client is behind
# Model, latency in seconds (None: not answered in time, or not at all), bytes, why it failed.
Report = Callable[[str, float | None, int, str | None], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """What one process issues: request ids and scheduled times (ns on the run clock), ascending, and their kinds."""

    request_ids: npt.NDArray[np.int64]
    scheduled_ns: npt.NDArray[np.int64]
    kinds: tuple[RequestKind, ...]
    kind_index: npt.NDArray[np.int64]


@dataclass(frozen=True)
class IssuerLimits:
    """Of one process. drain_s: how long answers are waited for if the run is cut short (timeout_s if shorter)."""

    max_in_flight: int
    timeout_s: float
    drain_s: float
    spin_s: float


class Alarm:
    """Puts the calling greenlet to sleep until an instant of CLOCK_MONOTONIC. One greenlet at a time may wait.

    To some tens of microseconds: a timerfd watched by gevent's loop. gevent.sleep is good to a millisecond only.
    """

    def __init__(self, spin_ns: int) -> None:
        """spin_ns: the last part of each wait is spent spinning, which is exact but holds up everybody else."""
        self._spin_ns = spin_ns
        self._timer = TimerFd()
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(self._timer.fd, 1)

    def wait_until(self, instant_ns: int) -> None:
        """Return at `instant_ns` or a little later. Always lets the loop serve sockets once, even if it is past."""
        self._timer.set(instant_ns - self._spin_ns)
        self._hub.wait(self._watcher)
        self._timer.consume()
        while monotonic_ns() < instant_ns:
            pass

    def close(self) -> None:
        """Give the timer back."""
        self._watcher.stop()
        self._watcher.close()
        self._timer.close()


class Issuer:
    """Issues a share, keeps its rows, and stops when told, when the disk is full, or when all is answered."""

    def __init__(
        self,
        share: Share,
        transport: Transport,
        endpoints: Endpoints,
        rows: RowStream,
        *,
        report: Report,
        limits: IssuerLimits,
    ) -> None:
        self.counts = [0] * len(STATUSES)
        self.stopped: str | None = None
        self.cpu_s = self.wall_s = 0.0
        self._share, self._transport, self._endpoints, self._rows = share, transport, endpoints, rows
        self._report, self._limits = report, limits
        self._alarm = Alarm(round(limits.spin_s * 1e9))
        self._start_ns = 0
        self._in_flight: dict[int, tuple[str, int, str]] = {}  # request id -> endpoint, sent_ns, model
        self._idle = gevent.event.Event()
        self._halt = gevent.event.Event()
        self._abandon = gevent.event.Event()

    def stop(self, reason: str) -> None:
        """Issue nothing more; what is in flight is still waited for."""
        if self.stopped is None:
            self.stopped = reason
            self._halt.set()

    def hurry(self) -> None:
        """Do not even wait for what is in flight."""
        self._abandon.set()

    def run(self, start_monotonic_ns: int) -> None:
        """Issue the whole share; row time 0 is `start_monotonic_ns`. Returns when every request has its end."""
        self._start_ns = start_monotonic_ns
        gc.collect()
        gc.freeze()  # what lives now need not be looked at again,
        gc.disable()  # and a collection in the run would make requests late
        helpers = [gevent.spawn(self._flush_rows), gevent.spawn(self._follow_endpoints)]
        issuing = gevent.spawn(self._issue_all)
        cpu_s, wall_s = time.process_time(), time.monotonic()
        try:
            gevent.wait([issuing, self._halt], count=1)
            issuing.kill()
            if issuing.exception is not None:
                self.stopped = f"client fault: {issuing.exception!r}"
            self._drain()
        finally:
            gevent.killall(helpers)
            self.cpu_s, self.wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
            self._rows.close(self._now())
            self._alarm.close()
            gc.enable()
            gc.unfreeze()
        if self._rows.failure is not None and self.stopped is None:
            self.stopped = self._rows.failure

    def _now(self) -> int:
        return monotonic_ns() - self._start_ns

    def _issue_all(self) -> None:
        start_ns, wait_until = self._start_ns, self._alarm.wait_until
        ids, kinds = self._share.request_ids.tolist(), self._share.kind_index.tolist()
        behind = 0
        for i, scheduled_ns in enumerate(self._share.scheduled_ns.tolist()):
            instant_ns = start_ns + scheduled_ns
            behind = behind + 1 if instant_ns <= monotonic_ns() else 0
            if behind % _YIELD_EVERY == 0:
                wait_until(instant_ns)
            if self._halt.is_set():
                return
            self._issue(ids[i], scheduled_ns, self._share.kinds[kinds[i]])

    def _issue(self, request_id: int, scheduled_ns: int, kind: RequestKind) -> None:
        limit = self._limits.max_in_flight
        if len(self._in_flight) >= limit:
            row = Row(request_id, None, None, None, DROPPED, f"{limit} requests were in flight already")
            self._end(row, kind.model, scheduled_ns)
            return
        endpoint = self._endpoints.acquire()
        if endpoint is None:
            self._end(Row(request_id, None, None, None, ERROR, "no endpoint was ready"), kind.model, scheduled_ns)
            return
        self._in_flight[request_id] = (endpoint, self._now(), kind.model)
        gevent.spawn(self._exchange, request_id, scheduled_ns, kind, endpoint)

    def _exchange(self, request_id: int, scheduled_ns: int, kind: RequestKind, endpoint: str) -> None:
        sent_ns = self._now()
        self._in_flight[request_id] = (endpoint, sent_ns, kind.model)
        status, detail, size = OK, None, 0
        asked = [endpoint]
        completed_ns: int | None = None
        try:
            size = self._send(asked, kind, request_id)
            completed_ns = self._now()
        except RequestFailed as failure:
            status = TIMEOUT if isinstance(failure, RequestTimeout) else ERROR
            detail = str(failure)
            completed_ns = self._now() if failure.answered else None
        except Exception as fault:  # a fault of ours must not leave the request without its row
            logger.exception("request %d", request_id)
            status, detail = ERROR, f"client fault: {fault!r}"
        self._endpoints.release(asked[-1])
        if self._in_flight.pop(request_id, None) is None:
            return  # written off when the drain ended
        self._end(Row(request_id, asked[-1], sent_ns, completed_ns, status, detail), kind.model, scheduled_ns, size)

    def _send(self, asked: list[str], kind: RequestKind, request_id: int) -> int:
        """Ask the endpoint, and the others in turn while nobody is there to take the request.

        A server that died is still in the list until the serving side has noticed; balancers ask another one too.
        asked: grows, and ends with the endpoint that the request was sent to, or that refused it last.
        """
        while True:
            try:
                return self._transport.send(asked[-1], kind, request_id)
            except NotSent:
                other = self._endpoints.acquire(asked)
                if other is None:
                    raise
                self._endpoints.release(asked[-1])
                asked.append(other)

    def _end(self, row: Row, model: str, scheduled_ns: int = 0, size: int = 0) -> None:
        self._rows.append(row)
        self.counts[row.status] += 1
        if not self._in_flight:
            self._idle.set()
        ended_ns = row.completed_ns if row.status == OK else None
        self._report(model, None if ended_ns is None else (ended_ns - scheduled_ns) / 1e9, size, row.detail)

    def _drain(self) -> None:
        """Wait for what is in flight; whatever has no answer in the end is a timeout."""
        limits = self._limits
        deadline = time.monotonic() + (limits.timeout_s + 1.0 if self.stopped is None else limits.drain_s)
        while self._in_flight and not self._abandon.is_set() and time.monotonic() < deadline:
            if self.stopped is not None:  # stopped while draining: the shorter limit from now on
                deadline = min(deadline, time.monotonic() + limits.drain_s)
            self._idle.clear()
            gevent.wait([self._idle, self._abandon], timeout=0.1, count=1)
        for request_id, (endpoint, sent_ns, model) in sorted(self._in_flight.items()):
            self._end(
                Row(request_id, endpoint, sent_ns, None, TIMEOUT, "no answer before the run was cut short"), model
            )
        self._in_flight.clear()

    def _flush_rows(self) -> None:
        while True:
            gevent.sleep(FLUSH_S)
            self._rows.flush(self._now())
            if self._rows.failure is not None and self.stopped is None:
                self.stop(self._rows.failure)

    def _follow_endpoints(self) -> None:
        while True:
            gevent.sleep(POLL_S)
            before = set(self._endpoints.current)
            try:
                self._endpoints.refresh()
            except EndpointError as error:
                logger.warning("%s", error)
                continue
            for endpoint in set(self._endpoints.current) - before:
                try:
                    self._transport.connect(endpoint)
                except OSError as error:
                    logger.warning("%s cannot be reached: %s", endpoint, error)
