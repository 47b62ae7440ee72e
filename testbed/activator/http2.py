"""The streams of HTTP/2, so gRPC's calls, in the bytes of a connection, followed without keeping them. Pure."""

from __future__ import annotations

from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _PUSH_PROMISE, _CONTINUATION = 0, 1, 3, 5, 9  # HTTP/2, RFC 9113
_END_STREAM, _END_HEADERS = 0x1, 0x4
# GOAWAY: what was begun goes on, of any number, and new streams are for another connection. gRPC's servers say it so.
GO_AWAY = b"\0\0\x08\x07\0\0\0\0\0" + b"\x7f\xff\xff\xff" + b"\0\0\0\0"


class Frame(NamedTuple):
    """The header of an HTTP/2 frame, without its length."""

    kind: int
    flags: int
    stream: int


class Http2Frames:
    """One direction of an HTTP/2 connection. between: no frame, and no group of frames, is on its way."""

    def __init__(self, preface_bytes: int = 0) -> None:
        self.any = False  # one has begun
        self._skip = preface_bytes
        self._head = b""  # that has not ended yet
        self._open_headers = False  # CONTINUATION is to follow

    @property
    def between(self) -> bool:
        """See above."""
        return not (self._skip or self._head or self._open_headers)

    def feed(self, data: bytes) -> list[Frame]:
        """The next bytes; the frames that begin in them."""
        place, length, found = 0, len(data), list[Frame]()
        while place < length:
            if self._skip:
                step = min(self._skip, length - place)
                self._skip, place = self._skip - step, place + step
                continue
            more = data[place : place + 9 - len(self._head)]
            self._head, place = self._head + more, place + len(more)
            if len(self._head) < 9:
                break
            head, self._head, self.any = self._head, b"", True
            self._skip = int.from_bytes(head[:3], "big")
            found.append(Frame(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF))
            if head[3] in (_HEADERS, _PUSH_PROMISE, _CONTINUATION):
                self._open_headers = not head[4] & _END_HEADERS
        return found


class Http2Streams:
    """Both directions of an HTTP/2 connection. begun: streams that the client opened; open: those not answered yet."""

    def __init__(self) -> None:
        self.begun = 0
        self.open = set[int]()
        self._newest = 0
        self._asked, self._answered = Http2Frames(len(PREFACE)), Http2Frames()

    @property
    def unanswered(self) -> bool:
        """An answer is not there yet, or a part of it: its last frame is known by its head."""
        return bool(self.open) or not self._answered.between

    @property
    def at_rest(self) -> bool:
        """Nothing is on its way."""
        return not self.unanswered and self._asked.between

    @property
    def may_be_told(self) -> bool:
        """A frame to the client fits in here. The server's first is its own."""
        return self._answered.any and self._answered.between

    def from_client(self, data: bytes) -> None:
        """The next bytes."""
        for frame in self._asked.feed(data):
            if frame.kind == _HEADERS and frame.stream > self._newest:  # trailers are of a stream that is there already
                self._newest, self.begun = frame.stream, self.begun + 1
                self.open.add(frame.stream)
            elif frame.kind == _RESET:
                self.open.discard(frame.stream)

    def from_server(self, data: bytes) -> None:
        """The next bytes."""
        for frame in self._answered.feed(data):
            if frame.kind == _RESET or (frame.kind in (_DATA, _HEADERS) and frame.flags & _END_STREAM):
                self.open.discard(frame.stream)
