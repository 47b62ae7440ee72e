"""The issue loop against a fake server, and against a transport that does what the test says; no Locust here."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import time

import gevent
import gevent.event
import numpy as np
import pytest
from fake_http_server import FakeServer, Reply

from loadgen.endpoints import Endpoints, write_endpoints
from loadgen.issuer import DROPPED, Issuer, IssuerLimits, Share
from loadgen.request_log import RequestLog
from loadgen.row_stream import RowStream, collect_rows
from loadgen.schedule import Schedule
from loadgen.transport import HttpTransport, NullTransport, RequestKind, RequestTimeout, request_tensors
from loadgen.validity import ClientFigures
from workloads.catalog import TensorSpec

INPUTS = (TensorSpec(name="x", datatype="FP32", shape=(4,)),)


@pytest.fixture(autouse=True)
def little_garbage():
    """A run first collects garbage. In a process that ran many tests that takes longer than these short schedules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class StuckTransport(NullTransport):
    """Answers when it is let go, which may be never."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.let_go = gevent.event.Event()

    def send(self, endpoint: str, kind: RequestKind, request_id: int) -> int:
        self.asked += 1
        self.let_go.wait()
        return 0


def once(happened, act, *arguments) -> gevent.Greenlet:
    """Do something as soon as something has happened."""

    def wait_and_act() -> None:
        while not happened():
            gevent.sleep(0.005)
        act(*arguments)

    return gevent.spawn(wait_and_act)


class Replay:
    """One issuer in this process, and the log that it leaves."""

    def __init__(self, raw, rate_rps: float = 200, n: int = 100) -> None:
        self.raw = raw
        times = (np.arange(n) * 1e9 / rate_rps).astype(np.int64)
        self.schedule = Schedule(times, np.full(n, "toy", dtype=object), n / rate_rps)
        self.reports: list[tuple[str, float | None, int, str | None]] = []
        self.max_in_flight, self.timeout_s, self.drain_s = 1000, 2.0, 0.3

    def issuer(self, transport, endpoints) -> Issuer:
        n = len(self.schedule)
        share = Share(np.arange(n), self.schedule.scheduled_ns, (RequestKind("toy"),), np.zeros(n, dtype=np.int64))
        source = Endpoints(endpoints) if not isinstance(endpoints, Endpoints) else endpoints
        rows = RowStream(self.raw / "rows-0.arrows", n, 1)
        limits = IssuerLimits(self.max_in_flight, self.timeout_s, self.drain_s, 1e-4)
        return Issuer(share, transport, source, rows, report=lambda *r: self.reports.append(r), limits=limits)

    def http(self, *servers: FakeServer) -> HttpTransport:
        transport = HttpTransport(
            {RequestKind("toy"): request_tensors(INPUTS, True, 0)}, self.timeout_s, self.max_in_flight
        )
        for server in servers:
            transport.connect(server.address)
        return transport

    def log(self, issuer: Issuer) -> RequestLog:
        client = ClientFigures(
            worker=0, workers=1, pid=1, start_unix_ns=0, start_monotonic_ns=0, finished=True, stopped=issuer.stopped
        )
        return collect_rows(self.raw, self.schedule, (client,))

    def run(self, transport, endpoints) -> RequestLog:
        issuer = self.issuer(transport, endpoints)
        issuer.run(time.monotonic_ns() + 20_000_000)
        return self.log(issuer)


@pytest.fixture
def replay(tmp_path):
    return Replay(tmp_path)


@pytest.fixture
def long_replay(tmp_path):
    """Of five seconds: it is stopped long before its end, however slow the machine."""
    return Replay(tmp_path, n=1000)


def test_every_request_is_sent_once_under_its_own_id_and_answered(replay):
    with FakeServer() as server:
        log = replay.run(replay.http(server), [server.address])
    assert log.counts()["ok"] == 100
    assert sorted(server.seen) == list(range(100))
    assert set(log.frame["endpoint"]) == {server.address}
    assert (log.seconds("sent_ns") >= log.seconds("scheduled_ns")).all()  # never early
    assert (log.seconds("completed_ns") > log.seconds("sent_ns")).all()
    assert len(replay.reports) == 100  # Locust's charts hear of each
    assert all(latency_s > 0 for _, latency_s, _, _ in replay.reports)


def test_error_answers_are_errors_with_the_servers_own_words(replay):
    refusal = Reply(400, b'{"error": "exceeded maximum queue size"}')
    with FakeServer(lambda i: refusal if i % 4 == 0 else Reply()) as server:
        log = replay.run(replay.http(server), [server.address])
    errors = log.frame[log.frame["status"] == "error"]
    assert errors["request_id"].tolist() == list(range(0, 100, 4))
    assert set(errors["detail"]) == {"HTTP 400: exceeded maximum queue size"}
    assert errors["completed_ns"].notna().all()  # they were answered
    assert log.counts()["ok"] == 75


def test_a_connection_that_breaks_is_an_error_without_an_answer_and_the_next_request_has_a_new_one(replay):
    with FakeServer(lambda i: Reply(reset=i in (10, 50))) as server:
        log = replay.run(replay.http(server), [server.address])
    errors = log.frame[log.frame["status"] == "error"]
    assert errors["request_id"].tolist() == [10, 50]
    assert errors["completed_ns"].isna().all()
    assert log.counts()["ok"] == 98


def test_a_server_that_goes_away_refuses_connections_and_the_schedule_goes_on(replay):
    with FakeServer() as server:
        address = server.address
    log = replay.run(replay.http(), [address])
    assert log.counts()["error"] == 100
    assert log.frame["detail"].str.contains("refused").all()
    assert (log.lag_s < 1).all()  # open loop: nobody waited for anybody


def test_an_answer_that_takes_too_long_is_a_timeout(replay):
    with FakeServer(lambda i: Reply(delay_s=30 if i == 7 else 0)) as server:
        log = replay.run(replay.http(server), [server.address])
    assert log.frame["status"].iloc[7] == "timeout"
    assert log.frame["detail"].iloc[7] == "no answer within 2 s"
    assert log.counts()["ok"] == 99


def test_a_stall_delays_answers_and_not_requests(replay):
    replay.timeout_s = 20.0
    with FakeServer() as server:
        # Nobody is answered before everybody has asked: whoever waits for an answer would never ask.
        server.behave = lambda i: Reply(hold=lambda: len(server.seen) < 100)
        log = replay.run(replay.http(server), [server.address])
    assert log.counts()["ok"] == 100
    assert log.latency_s[0] > 0.4  # the first waited for the last, half a second later


def test_the_in_flight_limit_drops_and_counts(replay):
    replay.max_in_flight = 10
    issuer = replay.issuer(StuckTransport(), ["a:1"])
    once(lambda: issuer.counts[DROPPED] == 90, issuer.stop, "enough")
    issuer.run(time.monotonic_ns())
    log = replay.log(issuer)
    assert log.frame["status"].tolist() == ["timeout"] * 10 + ["dropped"] * 90
    assert log.frame["sent_ns"].notna().sum() == 10
    assert set(log.frame["detail"][10:]) == {"10 requests were in flight already"}
    # Locust hears of all and of no answer: it took a dropped request for one of 0 ms, and its P50 was 0.
    assert len(replay.reports) == 100
    assert all(latency_s is None and detail is not None for _, latency_s, _, detail in replay.reports)


def test_stopping_leaves_every_request_with_its_end(long_replay):
    stuck = StuckTransport()
    issuer = long_replay.issuer(stuck, ["a:1"])
    once(lambda: stuck.asked >= 20, issuer.stop, "interrupted")
    issuer.run(time.monotonic_ns())
    log = long_replay.log(issuer)
    counts = log.counts()
    assert counts["timeout"] + counts["unsent"] == 1000
    assert 20 <= counts["timeout"] == stuck.asked < 1000
    assert log.frame["status"].tolist() == ["timeout"] * counts["timeout"] + ["unsent"] * counts["unsent"]
    assert set(log.frame["detail"][counts["timeout"] :]) == {"interrupted"}


def test_answers_that_come_while_stopping_still_count(long_replay):
    long_replay.drain_s = long_replay.timeout_s = 20.0
    with FakeServer() as server:
        issuer = long_replay.issuer(long_replay.http(server), [server.address])
        server.behave = lambda i: Reply(hold=lambda: issuer.stopped is None)  # nobody is answered before
        once(lambda: len(server.seen) >= 20, issuer.stop, "interrupted")
        issuer.run(time.monotonic_ns())
    counts = long_replay.log(issuer).counts()
    assert counts["ok"] == len(server.seen) >= 20
    assert counts["ok"] + counts["unsent"] == 1000


def test_in_a_hurry_nobody_waits_for_answers(replay):
    replay.drain_s = replay.timeout_s = 3600.0
    stuck = StuckTransport()
    issuer = replay.issuer(stuck, ["a:1"])

    def stop_twice_and_hurry() -> None:
        issuer.stop("interrupted")
        gevent.sleep(0.1)
        issuer.stop("interrupted again, which changes nothing")
        gevent.sleep(0.1)
        issuer.hurry()

    once(lambda: stuck.asked > 0, stop_twice_and_hurry)
    issuer.run(time.monotonic_ns())
    log = replay.log(issuer)
    assert log.counts()["timeout"] > 0
    assert issuer.stopped == "interrupted"


def test_an_answer_that_comes_after_its_request_was_written_off_changes_nothing(long_replay):
    long_replay.drain_s = 0.05
    stuck = StuckTransport()
    issuer = long_replay.issuer(stuck, ["a:1"])
    once(lambda: stuck.asked >= 20, issuer.stop, "interrupted")
    issuer.run(time.monotonic_ns())
    written_off = long_replay.log(issuer).counts()["timeout"]
    stuck.let_go.set()
    gevent.sleep(0.1)  # one turn is enough for all of them
    assert sum(issuer.counts) == written_off == stuck.asked
    assert len(long_replay.reports) == written_off  # each was told once, as a failure
    assert all(latency_s is None for _, latency_s, _, _ in long_replay.reports)


def test_a_disk_that_fills_up_stops_the_issuing_and_keeps_the_answers(long_replay, monkeypatch):
    issuer = long_replay.issuer(NullTransport(), ["a:1"])
    pwrite = os.pwrite
    full = True

    def write(fd: int, data: bytes, offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data, offset)

    def free_some() -> None:
        nonlocal full
        full = False

    monkeypatch.setattr(os, "pwrite", write)
    monkeypatch.setattr(issuer, "_drain", free_some)
    issuer.run(time.monotonic_ns())
    log = long_replay.log(issuer)
    assert issuer.stopped == "rows-0.arrows: No space left on device"
    assert log.counts()["ok"] == issuer.counts[0] > 0
    assert log.counts()["unsent"] == 1000 - log.counts()["ok"] > 0
    assert log.frame["detail"].iloc[-1] == issuer.stopped


def test_replicas_that_come_and_go_during_the_run(long_replay, tmp_path):
    file = tmp_path / "endpoints.json"
    long_replay.drain_s = long_replay.timeout_s = 20.0
    with FakeServer() as first, FakeServer() as second:
        write_endpoints(file, [first.address])
        endpoints = Endpoints(file)
        issuer = long_replay.issuer(long_replay.http(first), endpoints)
        second.behave = lambda i: Reply(hold=lambda: second.address in endpoints.current)  # answers when it is to go
        gone_ns = []

        def come_and_go() -> None:
            write_endpoints(file, [first.address, second.address])
            while len(second.seen) <= 5:
                gevent.sleep(0.01)
            write_endpoints(file, [first.address])
            while second.address in endpoints.current:
                gevent.sleep(0.01)
            gone_ns.append(time.monotonic_ns() - start_ns)
            seen = len(first.seen)
            once(lambda: len(first.seen) >= seen + 20, issuer.stop, "enough")

        once(lambda: len(first.seen) >= 10, come_and_go)
        start_ns = time.monotonic_ns()
        issuer.run(start_ns)
    log = long_replay.log(issuer)
    counts = log.counts()
    assert counts["ok"] + counts["unsent"] == 1000  # also those in flight to the second one when it was taken away
    assert len(second.seen) > 5
    assert sorted(first.seen + second.seen) == list(range(counts["ok"]))
    used = log.frame[log.ok]
    after = used["sent_ns"] > gone_ns[0]
    assert set(used["endpoint"][after]) == {used["endpoint"].iloc[0]} == {first.address}


def test_a_replica_that_died_costs_what_it_was_answering_and_nothing_else(replay):
    """It answers the first few only. It is still listed: a request that finds it closed goes to another."""
    with FakeServer() as lives, contextlib.ExitStack() as until_it_dies:
        dies = until_it_dies.enter_context(
            FakeServer(lambda i: Reply(hold=lambda: i >= 10))
        )  # the others are in flight
        dead_ns = []

        def die() -> None:
            until_it_dies.close()
            dead_ns.append(time.monotonic_ns() - start_ns)

        death = once(lambda: len(dies.seen) >= 20, die)
        endpoints = Endpoints([dies.address, lives.address])
        issuer = replay.issuer(replay.http(dies, lives), endpoints)
        start_ns = time.monotonic_ns()
        issuer.run(start_ns)
        gevent.joinall([death])
    log = replay.log(issuer)
    lost = log.frame[log.frame["status"] != "ok"]
    assert set(lost["request_id"]) >= {i for i in dies.seen if i >= 10}
    assert set(lost["endpoint"]) == {dies.address}
    assert (lost["sent_ns"] < dead_ns[0]).all()
    assert set(log.frame["endpoint"]) == {dies.address, lives.address}
    assert endpoints.in_flight(dies.address) == endpoints.in_flight(lives.address) == 0


def test_without_any_endpoint_requests_are_errors_that_were_never_sent(replay, tmp_path):
    file = tmp_path / "endpoints.json"
    write_endpoints(file, [])
    log = replay.run(NullTransport(), Endpoints(file))
    assert set(log.frame["detail"]) == {"no endpoint was ready"}
    assert log.frame["endpoint"].isna().all()
    assert log.frame["sent_ns"].isna().all()


def test_a_fault_in_the_transport_is_an_error_row(replay):
    class Faulty(NullTransport):
        def send(self, endpoint: str, kind: RequestKind, request_id: int) -> int:
            return 1 // (request_id % 2)

    log = replay.run(Faulty(), ["a:1"])
    assert log.frame["status"].tolist() == ["error", "ok"] * 50
    assert "ZeroDivisionError" in log.frame["detail"].iloc[0]


def test_a_server_that_does_not_read_is_a_timeout_and_costs_no_connection_for_ever():
    big = (TensorSpec(name="image", datatype="FP32", shape=(64, 224, 224)),)
    transport = HttpTransport({RequestKind("toy"): request_tensors(big, True, 0)}, 0.3, connections=1)
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as deaf:
        port = deaf.getsockname()[1]
        with pytest.raises(RequestTimeout):
            transport.send(f"127.0.0.1:{port}", RequestKind("toy"), 1)
    transport._timeout_s = 20
    with FakeServer(port=port) as server:
        assert transport.send(server.address, RequestKind("toy"), 2) == 2


def test_a_large_body_arrives_whole_under_its_id(replay):
    big = (TensorSpec(name="image", datatype="FP32", shape=(3, 224, 224)),)
    with FakeServer() as server:
        transport = HttpTransport({RequestKind("toy"): request_tensors(big, True, 0)}, 2.0, 4)
        for i in (0, 999_999_999_999):
            assert transport.send(server.address, RequestKind("toy"), i) == 2
    assert server.seen == [0, 999_999_999_999]
