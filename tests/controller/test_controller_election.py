"""The thread that keeps the lease: it survives what it meets, tells it, and is missed at /healthz when it is gone."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from testbed.controller.election import Election
from testbed.controller.health import Pulse


class Leases:
    """The API's leases: one that `holder` has (None: there is none). broken: what a read raises."""

    def __init__(self, holder: str | None = None) -> None:
        self.holder, self.version = holder, 0
        self.broken: BaseException | None = None
        self.reads = 0
        self.read_again, self.taken = threading.Event(), threading.Event()

    def read_namespaced_lease(self, name: str, namespace: str, **more: Any) -> client.V1Lease:
        self.reads += 1
        if self.reads > 1:
            self.read_again.set()
        if self.broken is not None:
            raise self.broken
        if self.holder is None:
            raise ApiException(status=404)
        self.version += 1
        spec = client.V1LeaseSpec(holder_identity=self.holder, lease_transitions=0)
        return client.V1Lease(metadata=client.V1ObjectMeta(resource_version=str(self.version)), spec=spec)

    def create_namespaced_lease(self, namespace: str, body: client.V1Lease, **more: Any) -> None:
        self.holder = body.spec.holder_identity
        self.taken.set()

    def replace_namespaced_lease(self, name: str, namespace: str, body: client.V1Lease, **more: Any) -> None:
        self.holder = body.spec.holder_identity


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class World:
    """One candidate, `me`, with a pulse on a clock that is turned by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, holder: str | None = None) -> None:
        self.leases, self.clock, self.log = Leases(holder), Clock(), io.StringIO()
        monkeypatch.setattr(client, "CoordinationV1Api", lambda api: self.leases)
        self.pulse = Pulse(60.0, self.clock)
        self.election = Election(None, "here", "kis", "me", 6.0, pulse=self.pulse, log=self.log)  # type: ignore[arg-type]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def test_a_lease_that_is_lost_between_two_looks_at_it_is_no_error(monkeypatch):
    class Torn(Election):
        """The other thread loses the lease just after this one has looked whether there is one."""

        looks = iter([0.0])
        _renewed_s = property(lambda self: next(self.looks, None), lambda self, value: None)  # type: ignore[assignment]

    monkeypatch.setattr(client, "CoordinationV1Api", lambda api: Leases())
    assert Torn(None, "here", "kis", "me").leads() in (True, False)  # type: ignore[arg-type]


def test_whatever_a_try_raises_it_is_told_and_the_next_one_is_made(monkeypatch):
    world = World(monkeypatch)
    world.leases.broken = ValueError("half\nan answer")
    world.election.attempt()
    world.leases.broken = None
    world.election.attempt()
    assert world.leases.holder == "me"
    (line,) = world.lines()
    assert (line["lease"], line["error"]) == ("here/kis", "ValueError: half an answer")


def test_what_goes_wrong_at_every_try_is_told_once_and_again_after_it_was_well(monkeypatch):
    world = World(monkeypatch)
    error, refused = ValueError("x"), ApiException(status=403, reason="Forbidden")
    for broken in (error, error, refused, None, error):
        world.leases.broken = broken
        world.election.attempt()
    assert [line["error"] for line in world.lines()] == [
        "ValueError: x",
        "the API answers 403 Forbidden",
        "ValueError: x",
    ]


def test_the_thread_survives_too(monkeypatch):
    world = World(monkeypatch)
    world.leases.broken = ValueError("half an answer")
    election = Election(None, "here", "kis", "me", 0.06, pulse=world.pulse, log=world.log)  # type: ignore[arg-type]
    election.start()
    assert world.leases.read_again.wait(30)
    world.leases.broken = None
    assert world.leases.taken.wait(30)
    election.stop()


def test_an_election_that_fails_at_every_try_is_missed(monkeypatch):
    world = World(monkeypatch)
    world.leases.broken = ValueError("half an answer")
    world.clock.now_s += 75.0
    world.election.attempt()
    assert world.pulse.silent_s() == 75.0


@pytest.mark.parametrize("broken", [ApiException(status=500), OSError("no route")])
def test_an_api_that_is_away_is_not_the_elections_fault(monkeypatch, broken):
    world = World(monkeypatch)
    world.leases.broken = broken
    world.clock.now_s += 75.0
    world.election.attempt()
    assert world.pulse.silent_s() is None


def test_who_waits_for_anothers_lease_is_well(monkeypatch):
    world = World(monkeypatch, holder="another")
    world.clock.now_s += 75.0
    world.election.attempt()
    assert not world.election.leads()
    assert world.pulse.silent_s() is None
