"""Keeps a Lease, or waits for it, in a thread of its own."""

from __future__ import annotations

import datetime as dt
import threading
import time
from contextlib import suppress
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from testbed.controller.lease import LeaseRecord, Watcher, move


class Election:
    """One candidate for a Lease. leads() turns false by itself when the lease could not be renewed in time.

    duration_s: others wait so long for a renewal. A leader gives up two thirds into it, so that there are never two.
    """

    def __init__(self, api: client.ApiClient, namespace: str, name: str, me: str, duration_s: float = 6.0) -> None:
        self._api: Any = client.CoordinationV1Api(api)
        self._namespace, self._name, self._me, self._duration_s = namespace, name, me, duration_s
        self._watcher = Watcher(None, time.monotonic())
        self._renewed_s: float | None = None
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
        return self._renewed_s is not None and time.monotonic() - self._renewed_s < self._duration_s * 2 / 3

    def _run(self) -> None:
        while not self._stop.is_set():
            self.stand()
            self._stop.wait(self._duration_s / 6)

    def stand(self) -> None:
        """One try: renew, take, or wait."""
        asked_s = time.monotonic()
        try:
            lease = self._read()
        except (ApiException, HTTPError, OSError):
            return
        holder = (
            None if lease is None else LeaseRecord(lease.spec.holder_identity or "", lease.metadata.resource_version)
        )
        step, self._watcher = move(self._watcher, holder, self._me, asked_s, self._duration_s)
        if step == "wait":
            self._renewed_s = None
        elif self._write(self._me, lease):
            self._renewed_s = asked_s  # from before the request: the others count from when it was written

    def _write(self, holder: str, lease: Any) -> bool:
        """Only over the version that was read: of two that take it at once, one is refused."""
        now = dt.datetime.now(dt.UTC)
        try:
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
                return True
            if lease.spec.holder_identity != holder:
                lease.spec.acquire_time, lease.spec.lease_transitions = now, (lease.spec.lease_transitions or 0) + 1
            lease.spec.holder_identity, lease.spec.renew_time = holder, now
            lease.spec.lease_duration_seconds = round(self._duration_s)
            self._api.replace_namespaced_lease(
                self._name, self._namespace, lease, _request_timeout=self._duration_s / 3
            )
        except (ApiException, HTTPError, OSError):
            return False
        return True

    def _read(self) -> Any:
        try:
            return self._api.read_namespaced_lease(self._name, self._namespace, _request_timeout=self._duration_s / 3)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
