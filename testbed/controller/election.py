"""Who acts: a coordination.k8s.io Lease, kept or waited for as client-go's leader election does it.

Instants in a lease come from other machines' clocks, so they are not compared with ours: a lease has run out when it
has not changed for its whole duration on our own clock.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TextIO

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from testbed.controller.health import Pulse
from testbed.log_line import of_error, print_line
from testbed.serving.kubernetes_api import in_words

Move = Literal["renew", "take", "wait"]


class LeaseRecord(NamedTuple):
    """What the API holds. version changes with every renewal."""

    holder: str
    version: str


class Watcher(NamedTuple):
    """What one candidate has seen: the record, and when it first saw it like this, on its own clock."""

    record: LeaseRecord | None
    changed_s: float


def move(
    watcher: Watcher, record: LeaseRecord | None, me: str, now_s: float, duration_s: float
) -> tuple[Move, Watcher]:
    """What to do with the lease as it is now; None: there is no lease yet.

    renew: it is ours. take: nobody holds it, or its holder has not renewed it for duration_s. wait: another's.
    """
    watcher = watcher if record == watcher.record else Watcher(record, now_s)
    if record is None or record.holder == "":
        return "take", watcher
    if record.holder == me:
        return "renew", watcher
    return ("take" if now_s - watcher.changed_s >= duration_s else "wait"), watcher


class Election:
    """One candidate for a Lease, with a thread. leads() turns false by itself when it could not be renewed in time.

    duration_s: others wait so long for a renewal. A leader gives up two thirds into it, so that there are never two.
    pulse: beats with every try that ended as it should, whoever leads. log: of what went wrong; None: stderr.
    """

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        name: str,
        me: str,
        duration_s: float = 6.0,
        *,
        pulse: Pulse | None = None,
        log: TextIO | None = None,
    ) -> None:
        self._api: Any = client.CoordinationV1Api(api)
        self._namespace, self._name, self._me, self._duration_s = namespace, name, me, duration_s
        self._watcher = Watcher(None, time.monotonic())
        self._renewed_s: float | None = None
        self._pulse, self._log, self._last_error = pulse, log, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    def start(self) -> None:
        """Begin to stand for it."""
        self._thread.start()

    def stop(self) -> None:
        """Stand no more, and give the lease back if it is ours: the next one need not wait."""
        self._stop.set()
        self._thread.join(self._duration_s)
        if self.leads():
            self._renewed_s = None
            with suppress(ApiException, HTTPError, OSError):
                self._write("", self._read())

    def leads(self) -> bool:
        """May this process act now?"""
        renewed_s = self._renewed_s  # once: the election's thread may lose it in between
        return renewed_s is not None and time.monotonic() - renewed_s < self._duration_s * 2 / 3

    def _run(self) -> None:
        while not self._stop.is_set():
            self.attempt()
            self._stop.wait(self._duration_s / 6)

    def attempt(self) -> None:
        """One try; what it raises is told, when it begins.

        An API that is away, or refuses, is not mended by another process: only what nobody reckoned with is missed
        by the pulse.
        """
        error = ""
        try:
            self._stand()
        except (ApiException, HTTPError, OSError) as away:
            error = in_words(away)
        except Exception as unknown:  # also what the client makes of half an answer
            self._tell(of_error(unknown))
            return
        self._tell(error)
        if self._pulse is not None:
            self._pulse.beat()

    def _tell(self, error: str) -> None:
        """A line when what goes wrong begins, or becomes something else."""
        if error and error != self._last_error:
            print_line(self._log, lease=f"{self._namespace}/{self._name}", error=error)
        self._last_error = error

    def _stand(self) -> None:
        """Renew, take, or wait."""
        asked_s = time.monotonic()
        lease = self._read()
        holder = (
            None if lease is None else LeaseRecord(lease.spec.holder_identity or "", lease.metadata.resource_version)
        )
        step, self._watcher = move(self._watcher, holder, self._me, asked_s, self._duration_s)
        if step == "wait":
            self._renewed_s = None
        else:
            self._write(self._me, lease)
            self._renewed_s = asked_s  # from before the request: the others count from when it was written

    def _write(self, holder: str, lease: Any) -> None:
        """Only over the version that was read: of two that take it at once, one is refused (ApiException, 409)."""
        now = dt.datetime.now(dt.UTC)
        if lease is None:
            spec = client.V1LeaseSpec(
                holder_identity=holder,
                lease_duration_seconds=round(self._duration_s),
                acquire_time=now,
                renew_time=now,
                lease_transitions=0,
            )
            body = client.V1Lease(metadata=client.V1ObjectMeta(name=self._name), spec=spec)
            self._api.create_namespaced_lease(self._namespace, body, _request_timeout=self._duration_s / 3)
            return
        if lease.spec.holder_identity != holder:
            lease.spec.acquire_time, lease.spec.lease_transitions = now, (lease.spec.lease_transitions or 0) + 1
        lease.spec.holder_identity, lease.spec.renew_time = holder, now
        lease.spec.lease_duration_seconds = round(self._duration_s)
        self._api.replace_namespaced_lease(self._name, self._namespace, lease, _request_timeout=self._duration_s / 3)

    def _read(self) -> Any:
        try:
            return self._api.read_namespaced_lease(self._name, self._namespace, _request_timeout=self._duration_s / 3)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
