"""What the bytes of a connection say: how many requests, and whether one is on its way. Pure; it changes no byte.

HTTP/1.1 is followed message by message, HTTP/2 (gRPC) stream by stream. Of anything else, also of what is not
understood, each turn from the server's bytes to the client's counts as a request.
"""

from __future__ import annotations

import re

from testbed.activator.http1 import Http1Messages
from testbed.activator.http2 import PREFACE, Http2Streams

_METHOD = re.compile(rb"[A-Z]{1,20}(?: |\Z)")
_REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n")


class Exchange:
    """Both directions of a connection. requests: that the client has begun."""

    def __init__(self) -> None:
        self.requests = 0
        self.is_http = False  # plain HTTP/1: a refusal can be said in it
        self._asked: Http1Messages | Http2Streams | None = None
        self._answered: Http1Messages | None = None
        self._start = b""  # of the client's, as long as it may be of HTTP/1.1 and HTTP/2
        self._clients_turn = True  # the last bytes were the server's

    @property
    def at_rest(self) -> bool:
        """Nothing is on its way. Known of HTTP alone."""
        asked, answered = self._asked, self._answered
        if isinstance(asked, Http2Streams):
            return asked.at_rest
        return (
            asked is not None
            and answered is not None
            and (asked.known and answered.known)
            and (asked.at_rest and answered.at_rest and asked.begun == answered.begun)
            and not (asked.closes or answered.closes)
        )

    @property
    def is_bound(self) -> bool:
        """It cannot go to another server, also at rest: of HTTP/2, each end remembers what the other has said."""
        return isinstance(self._asked, Http2Streams)

    @property
    def may_be_told(self) -> bool:
        """GO_AWAY may be put in between the server's bytes, here."""
        return isinstance(self._asked, Http2Streams) and self._asked.may_be_told

    @property
    def speaks_http(self) -> bool:
        """Of whatever version."""
        return self.is_http or self.is_bound

    @property
    def unanswered(self) -> bool:
        """A request is known to lack its answer, or a part of it."""
        asked, answered = self._asked, self._answered
        if isinstance(asked, Http2Streams):
            return asked.unanswered
        return (
            asked is not None
            and answered is not None
            and (asked.known and answered.known)
            and asked.begun > answered.ended
        )

    def from_client(self, data: bytes) -> int:
        """The next bytes; how many requests begin in them."""
        if self._asked is None and not self.requests:
            data = self._start + data
            if len(data) < 4 and PREFACE.startswith(data):  # POST and PUT differ from it by then
                self._start = data
                return 0
            self._begin(data)
        before, asked = self.requests, self._asked
        if asked is not None:
            asked.from_client(data) if isinstance(asked, Http2Streams) else asked.feed(data)
            self.requests = max(self.requests, asked.begun)
        if asked is None or (isinstance(asked, Http1Messages) and not asked.known):
            self._asked = None
            self.requests += self._clients_turn and self.requests == before
        self._clients_turn = False
        return self.requests - before

    def from_server(self, data: bytes) -> None:
        """The next bytes."""
        self._clients_turn = True
        if isinstance(self._asked, Http2Streams):
            self._asked.from_server(data)
        elif self._answered is not None:
            self._answered.feed(data)

    def _begin(self, data: bytes) -> None:
        if PREFACE.startswith(data[: len(PREFACE)]):
            self._asked = Http2Streams()
        elif _METHOD.match(data):
            self._asked, self._answered = Http1Messages(), Http1Messages()
            self.is_http = _REQUEST.match(data) is not None
