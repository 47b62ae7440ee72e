"""The messages of HTTP/1.1 in the bytes of a connection, followed without keeping them. Pure."""

from __future__ import annotations

import re

_MOST_HEAD = 1 << 16
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
