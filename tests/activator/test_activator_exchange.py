"""What the bytes of a connection say, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.activator.exchange import Exchange
from testbed.activator.http1 import Http1Messages
from testbed.activator.http2 import GO_AWAY, PREFACE, Frame, Http2Frames, Http2Streams

LONG = b"POST /v2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\r\n\r"
CHUNKS = b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n0a\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STREAMED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


def frame(kind: int, stream: int, payload: bytes, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def parts(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % len(whole) for cut in cuts}), len(whole)]
    return [whole[a:b] for a, b in pairwise(places) if a < b]


cut_somewhere = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(st.sampled_from([LONG, CHUNKS, GET]), min_size=1, max_size=5), cut_somewhere)
def test_requests_are_counted_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    one = Http1Messages()
    for part in parts(b"".join(messages), cuts):
        one.feed(part)
    assert (one.begun, one.ended, one.known) == (len(messages), len(messages), True)
    one.feed(messages[0][:-1])
    assert (one.begun, one.ended) == (len(messages) + 1, len(messages))


@given(st.lists(st.sampled_from([OK, EMPTY, STREAMED, CONTINUE + OK]), min_size=1, max_size=5), cut_somewhere)
def test_answers_are_counted_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    one = Http1Messages()
    for part in parts(b"".join(messages), cuts):
        one.feed(part)
    assert (one.begun, one.ended, one.known) == (len(messages), len(messages), True)


@given(st.integers(1, 6), cut_somewhere)
def test_streams_of_grpc_are_counted_however_they_are_cut(calls: int, cuts: list[int]) -> None:
    whole = PREFACE + frame(4, 0, b"\0" * 12) + frame(6, 0, b"\0" * 8)  # SETTINGS, PING
    for call in range(calls):
        whole += frame(1, 2 * call + 1, b"head") + frame(0, 2 * call + 1, b"\1" * 30)
    whole += frame(1, 1, b"trailer")
    one = Http2Streams()
    for part in parts(whole, cuts):
        one.from_client(part)
    assert one.begun == calls


def test_a_connection_is_at_rest_between_two_requests_only() -> None:
    one = Exchange()
    assert not one.at_rest  # nothing is known yet
    for _ in range(2):
        assert one.from_client(LONG[:-1]) == 1
        assert not one.at_rest
        assert one.from_client(LONG[-1:]) == 0
        one.from_server(OK[:-1])
        assert not one.at_rest
        assert one.unanswered
        one.from_server(OK[-1:])
        assert one.at_rest
        assert not one.unanswered
    assert one.from_client(GET + GET) == 2
    one.from_server(OK)
    assert not one.at_rest
    one.from_server(OK)
    assert one.at_rest
    assert one.requests == 4


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (GET, b"HTTP/1.1 200 OK\r\n\r\n"),  # as long as the connection lasts
        (GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nConnection: keep-alive, close\r\n\r\n", OK),
        (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"),
        (b"\x16\x03\x01\x02\x00", b"\x16\x03\x03"),
    ],
)
def test_what_is_not_sure_is_never_at_rest(asked: bytes, answered: bytes) -> None:
    one = Exchange()
    assert one.from_client(asked) == 1
    one.from_server(answered)
    assert not one.at_rest


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked\r\n\r\n-6",  # it would lead back to itself, for ever
        b"Transfer-Encoding: chunked\r\n\r\n-7",
        b"Transfer-Encoding: chunked\r\n\r\n1_0",  # Python reads these as numbers, HTTP does not
        b"Transfer-Encoding: chunked\r\n\r\n0x5",
        b"Content-Length: " + b"9" * 5000,  # Python refuses to read it
        b"Content-Length: -1",
        b"Content-Length: 1\r\nContent-Length: 2",  # the pod may take either
    ],
)
@pytest.mark.timeout(10)
def test_a_size_that_is_none_is_not_understood_and_harms_nobody(head: bytes) -> None:
    one = Http1Messages()
    one.feed(b"POST /v2 HTTP/1.1\r\n" + head + b"\r\n\r\n")
    assert not one.known
    one.feed(b"ab\r\n" + GET)
    assert one.begun == 1


@pytest.mark.parametrize(
    "field", [b"content-length:5", b"Content-Length: \t5 ", b"Content-Length: 5\r\nContent-Length: 5"]
)
def test_a_size_may_be_said_in_several_ways(field: bytes) -> None:
    one = Http1Messages()
    one.feed(b"POST /v2 HTTP/1.1\r\n" + field + b"\r\n\r\n01234" + GET)
    assert (one.begun, one.ended, one.known) == (2, 2, True)


def test_of_what_is_not_understood_turns_are_counted() -> None:
    one = Exchange()
    assert one.from_client(b"\x16hello") == 1
    assert one.from_client(b"more") == 0
    one.from_server(b"\x16")
    assert one.from_client(b"again") == 1
    assert one.requests == 2


def test_calls_of_grpc_are_requests_and_the_rest_of_it_is_none() -> None:
    one = Exchange()
    assert one.from_client(PREFACE + frame(4, 0, b"")) == 0
    one.from_server(frame(4, 0, b""))
    assert one.from_client(frame(4, 0, b"")) == 0
    assert one.from_client(frame(1, 1, b"head", 4) + frame(1, 3, b"head", 4)) == 2
    assert not one.at_rest
    assert (one.is_http, one.speaks_http) == (False, True)


CALL = frame(1, 1, b"head", 4) + frame(0, 1, b"\1" * 30, 1)
SAID = frame(4, 0, b"") + frame(1, 1, b"head", 4) + frame(0, 1, b"\1" * 30)
TRAILERS = frame(1, 1, b"grpc-", 1) + frame(9, 1, b"status", 4)


@given(cut_somewhere)
def test_http2_is_at_rest_when_each_call_has_its_whole_answer(cuts: list[int]) -> None:
    one = Exchange()
    for part in parts(PREFACE + frame(4, 0, b"") + CALL, cuts):
        one.from_client(part)
    for part in parts(SAID + TRAILERS, cuts):
        assert not one.at_rest
        assert one.unanswered
        one.from_server(part)
    assert one.at_rest
    assert not one.unanswered
    one.from_client(frame(8, 0, b"\0\0\0\1")[:5])  # a frame that has not ended
    assert not one.at_rest


@pytest.mark.parametrize("by_client", [True, False])
def test_a_call_that_is_cancelled_is_over(by_client: bool) -> None:
    one = Exchange()
    one.from_client(PREFACE + CALL)
    one.from_server(SAID)
    assert not one.at_rest
    (one.from_client if by_client else one.from_server)(frame(3, 1, b"\0\0\0\x08"))
    assert one.at_rest


def test_go_away_fits_wherever_it_may_be_told() -> None:
    one, sent = Exchange(), b""
    one.from_client(PREFACE)
    assert not one.may_be_told  # the server's first frame is its own
    for byte in SAID + TRAILERS:
        one.from_server(bytes([byte]))
        sent += bytes([byte]) + (GO_AWAY if one.may_be_told else b"")
    assert one.may_be_told
    frames = Http2Frames().feed(sent)
    own = [each for each in frames if each != Frame(7, 0, 0)]
    assert own == Http2Frames().feed(SAID + TRAILERS)
    assert len(own) < len(frames)
    inside = [k for k, each in enumerate(frames) if each.kind == 9]
    assert all(frames[k - 1].kind == 1 for k in inside)  # nothing may be between a head and its rest


@pytest.mark.parametrize("cut", range(1, 8))
@pytest.mark.parametrize("message", [LONG, b"PUT" + LONG[4:], PREFACE + CALL])
def test_what_is_spoken_is_known_however_the_first_bytes_are_cut(message: bytes, cut: int) -> None:
    one = Exchange()
    assert one.from_client(message[:cut]) + one.from_client(message[cut:]) == 1
    assert one.is_bound == message.startswith(PREFACE)
    one.from_server(SAID + TRAILERS if one.is_bound else OK)
    assert one.at_rest
