"""What the bytes of a connection say: how many requests, and whether one is on its way. Pure; it changes no byte.

HTTP/1.1 is followed message by message, of HTTP/2 (gRPC) the client's streams are counted. Of anything else, also of
what is not understood, each turn from the server's bytes to the client's counts as a request.
"""

from __future__ import annotations

import re

_MOST_HEAD = 1 << 16
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHOD = re.compile(rb"[A-Z]{1,20}(?: |\Z)")
_REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n")
_FIRST_LINE = re.compile(rb"(?:([A-Z]+) \S+ HTTP/1\.1|HTTP/1\.1 (\d{3})[^\r\n]*)\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([^\r]*?)[ \t]*(?=\r\n)")
_SIZE = re.compile(rb"\d{1,18}")  # more bytes than there are; Python refuses to read thousands of digits
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?\r\n")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*\r\n")
_CLOSE = re.compile(rb"\r\nconnection:[^\r]*\bclose\b")
_NO_BODY = (204, 304)


class Http1Messages:
    """One direction of an HTTP/1.1 connection. begun, ended: messages; interim answers (1xx) are none.

    known: it was understood so far. closes: the connection ends after a message. What has no length, or several, or is
    no message, is not understood: an answer that ends with the connection, to HEAD, after CONNECT or Upgrade.
    """

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.known, self.closes = True, False
        self._text = b""  # of a head, or a line between chunks, that has not ended yet
        self._end = b"\r\n\r\n"  # of that text
        self._skip = 0  # bytes of a body that are to come
        self._chunked = self._trailer = False

    @property
    def at_rest(self) -> bool:
        """Between two messages."""
        return self.begun == self.ended

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        place, length = 0, len(data)
        while place < length and self.known:
            if self._skip:
                step = min(self._skip, length - place)
                self._skip, place = self._skip - step, place + step
                if not self._skip and not self._chunked:
                    self.ended += 1
                continue
            if self.at_rest:
                self.begun += 1
            before = len(self._text)
            text = self._text + data[place:] if before else data
            found = text.find(self._end, 0 if before else place)
            if found < 0:
                self._text = text if before else data[place:]
                self.known = len(self._text) <= _MOST_HEAD
                return
            end = found + len(self._end)
            whole, self._text = text[0 if before else place : end], b""
            place += end - (before or place)
            self._line(whole) if self._chunked else self._head(whole)

    def _head(self, head: bytes) -> None:
        first = _FIRST_LINE.match(head)
        lower = head.lower()
        if first is None or first[1] in (b"HEAD", b"CONNECT") or b"\r\nupgrade:" in lower:
            self.known = False
            return
        status = int(first[2] or 0)
        if 100 <= status < 200:  # the answer itself comes after it
            self.known, self.begun = status != 101, self.begun - 1
            return
        self.closes = self.closes or _CLOSE.search(lower) is not None
        if _CHUNKED.search(lower):
            self._chunked, self._trailer, self._end = True, False, b"\r\n"
        elif lengths := set(_LENGTH.findall(lower)):
            size = min(lengths)
            self.known = len(lengths) == 1 and _SIZE.fullmatch(size) is not None
            self._skip = int(size) if self.known and status not in _NO_BODY else 0
        elif status and status not in _NO_BODY:
            self.known = False
        if not self._skip and not self._chunked:
            self.ended += 1

    def _line(self, line: bytes) -> None:
        """Between two chunks, or after the last."""
        if self._trailer:
            if line == b"\r\n":
                self._chunked, self._end = False, b"\r\n\r\n"
                self.ended += 1
            return
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            self.known = False
            return
        size = int(found[1], 16)
        self._trailer = size == 0
        self._skip = size + 2 if size else 0  # with the line's end after the chunk


class Http2Streams:
    """The client's direction of an HTTP/2 connection. begun: streams that it opened."""

    def __init__(self) -> None:
        self.begun = 0
        self._skip = len(_PREFACE)
        self._frame = b""  # a header that has not ended yet
        self._newest = 0

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        place, length = 0, len(data)
        while place < length:
            if self._skip:
                step = min(self._skip, length - place)
                self._skip, place = self._skip - step, place + step
                continue
            more = data[place : place + 9 - len(self._frame)]
            self._frame, place = self._frame + more, place + len(more)
            if len(self._frame) < 9:
                return
            frame, self._frame = self._frame, b""
            self._skip = int.from_bytes(frame[:3], "big")
            stream = int.from_bytes(frame[5:], "big") & 0x7FFFFFFF
            if frame[3] == 1 and stream > self._newest:  # HEADERS; trailers are of a stream that is there already
                self._newest, self.begun = stream, self.begun + 1


class Exchange:
    """Both directions of a connection. requests: that the client has begun."""

    def __init__(self) -> None:
        self.requests = 0
        self.is_http = False  # plain HTTP/1: a refusal can be said in it
        self._asked: Http1Messages | Http2Streams | None = None
        self._answered: Http1Messages | None = None
        self._clients_turn = True  # the last bytes were the server's

    @property
    def at_rest(self) -> bool:
        """Nothing is on its way: the next request may go to another server. Known of HTTP/1.1 alone."""
        asked, answered = self._asked, self._answered
        return (
            isinstance(asked, Http1Messages)
            and answered is not None
            and (asked.known and answered.known)
            and (asked.at_rest and answered.at_rest and asked.begun == answered.begun)
            and not (asked.closes or answered.closes)
        )

    @property
    def speaks_http(self) -> bool:
        """Of whatever version."""
        return self.is_http or isinstance(self._asked, Http2Streams)

    @property
    def unanswered(self) -> bool:
        """A request is known to lack its answer, or a part of it."""
        asked, answered = self._asked, self._answered
        return (
            isinstance(asked, Http1Messages)
            and answered is not None
            and (asked.known and answered.known)
            and asked.begun > answered.ended
        )

    def from_client(self, data: bytes) -> int:
        """The next bytes; how many requests begin in them."""
        if not self.requests:
            self._begin(data)
        before, asked = self.requests, self._asked
        if asked is not None:
            asked.feed(data)
            self.requests = max(self.requests, asked.begun)
        if asked is None or (isinstance(asked, Http1Messages) and not asked.known):
            self._asked = None
            self.requests += self._clients_turn and self.requests == before
        self._clients_turn = False
        return self.requests - before

    def from_server(self, data: bytes) -> None:
        """The next bytes."""
        self._clients_turn = True
        if self._answered is not None:
            self._answered.feed(data)

    def _begin(self, data: bytes) -> None:
        if self._asked is not None:
            return
        if _PREFACE.startswith(data[: len(_PREFACE)]) and len(data) > 3:  # POST and PUT differ from it by then
            self._asked = Http2Streams()
        elif _METHOD.match(data):
            self._asked, self._answered = Http1Messages(), Http1Messages()
            self.is_http = _REQUEST.match(data) is not None
