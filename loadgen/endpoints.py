"""Replica addresses that may change while a run goes on, and the balancer that chooses among them.

The serving side writes a small JSON file, {"endpoints": ["127.0.0.1:8000", ...]}, always in one step; the client reads
it again when it changed. A request that is already in flight to a removed endpoint finishes there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from loadgen.access import EXAMPLE
from workloads.catalog import Balancer
from workloads.errors import KisError
from workloads.files import parse_json, read_text, write_json

POLL_S = 0.05
PORTS = {"http": 8000, "grpc": 8001, "https": 443, "grpcs": 443}  # where none is given


class EndpointError(KisError):
    """An address, or a file of addresses, that cannot be used."""


class Endpoint(NamedTuple):
    """An address in its parts. host: an IPv6 address has no brackets, as a socket takes it. prefix: empty, or /path."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @property
    def tls(self) -> bool:
        """https, grpcs."""
        return self.scheme.endswith("s")

    @property
    def url(self) -> str:
        """What comes before /v2."""
        return f"{self.scheme}://{at(self.host, self.port)}{self.prefix}"

    @property
    def name(self) -> str:
        """In logs: host:port, or the whole where it is more than that."""
        return self.url if self.tls or self.prefix else at(self.host, self.port)

    @property
    def authority(self) -> str:
        """For the header Host: without the port that its scheme has anyway."""
        usual = (self.scheme, self.port) in (("http", 80), ("https", 443))
        return at(self.host, self.port).rpartition(":")[0] if usual else at(self.host, self.port)


def endpoint_of(text: str) -> Endpoint:
    """`host:port`, or a URL of http, https, grpc or grpcs, with a path if there is one before /v2; EndpointError.

    Without a port: 8000 and 8001, Triton's, and 443 with TLS. An IPv6 address is in brackets, as in a URL:
    [::1]:8000; one without has no port.
    """
    scheme, there_is, rest = without_password(text).strip().rpartition("://")
    scheme = scheme.lower() if there_is else "http"
    place, _, path = rest.partition("/")
    prefix = f"/{path}".rstrip("/").removesuffix("/v2")
    if _is_ipv6(place.strip("[]")):
        host, port = place.strip("[]"), ""
    else:
        host, colon, port = place.rpartition(":")
        if not colon:
            host, port = place, ""
        in_brackets = host.startswith("[") and host.endswith("]") and _is_ipv6(host[1:-1])
        if not host or (colon and not _is_port(port)) or (not in_brackets and set(host) & set("[]:")):
            scheme = ""
        host = host.strip("[]")
    if scheme not in PORTS or not (host + prefix).isprintable() or " " in host + prefix:
        raise EndpointError(
            f"'{text}' is not an address: give host:port or http://host:port, https:// or grpcs:// with TLS, and the "
            "path before /v2 if there is one"
        )
    return Endpoint(scheme, host, int(port or PORTS[scheme]), prefix)


def without_password(text: str) -> str:
    """The same; EndpointError, which does not repeat it, if it may have one: addresses are written into run folders."""
    if set("@?#") & set(text):
        raise EndpointError(f"an address has no user, ? or #: give a password or token as {EXAMPLE}")
    return text


def address(text: str) -> str:
    """The name of `endpoint_of`; EndpointError."""
    return endpoint_of(text).name


def grpc_beside(server: str) -> str:
    """Where Triton has gRPC: port 8001 of the same host, with TLS if HTTP has it."""
    there = endpoint_of(server)
    return Endpoint("grpcs" if there.tls else "grpc", there.host, PORTS["grpc"]).name


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= 5 and int(text) < 1 << 16


def at(host: str, port: int) -> str:
    """host:port, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if _is_ipv6(host) else f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False


def write_endpoints(path: Path, endpoints: Sequence[str]) -> None:
    """Replace the file in one step: a reader sees the old list or the new one."""
    write_json(path, {"endpoints": list(endpoints)})


def read_endpoints(path: Path) -> tuple[str, ...]:
    """The addresses in the file; EndpointError if it is not such a file."""
    try:
        return tuple(address(text) for text in parse_json(read_text(path))["endpoints"])
    except OSError as error:
        raise EndpointError(f"{path}: {error.strerror}: the serving side writes this file before a replay") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EndpointError(f'{path} lists no endpoints: it should hold {{"endpoints": ["host:port"]}}') from None


class Endpoints:
    """The endpoints of one client process: a fixed list, or a file that is followed.

    round_robin: in turn. With several client processes, process `first` of `step` takes every step-th turn, so that
    together they go round as one would. least_requests: the one with the fewest requests in flight from this process,
    the next in turn among equals.
    """

    def __init__(
        self, source: Path | Sequence[str], balancer: Balancer = "round_robin", first: int = 0, step: int = 1
    ) -> None:
        """Raises EndpointError if a file cannot be read."""
        self._file = source if isinstance(source, Path) else None
        self._balancer = balancer
        self._turn, self._step = first, step
        self._in_flight: Counter[str] = Counter()
        self._stamp: tuple[int, int] | None = None
        self.current: tuple[str, ...] = () if isinstance(source, Path) else tuple(address(text) for text in source)
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if it was replaced; True if the list changed. Call it every POLL_S."""
        if self._file is None:
            return False
        try:
            status = self._file.stat()
        except OSError as error:
            raise EndpointError(f"{self._file}: {error.strerror}: the serving side writes this file") from None
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp == self._stamp:
            return False
        before, self.current, self._stamp = self.current, read_endpoints(self._file), stamp
        return before != self.current

    def acquire(self, refused: Collection[str] = ()) -> str | None:
        """The endpoint for the next request, which counts as in flight until `release`; None if there is none now.

        refused: endpoints that this request found closed, and that are not to be asked again.
        """
        open_ones = tuple(endpoint for endpoint in self.current if endpoint not in refused) if refused else self.current
        if not open_ones:
            return None
        turn = self._turn
        self._turn += self._step
        if self._balancer == "round_robin":
            chosen = open_ones[turn % len(open_ones)]
        else:
            in_turn = (open_ones[(turn + i) % len(open_ones)] for i in range(len(open_ones)))
            chosen = min(in_turn, key=self._in_flight.__getitem__)  # the first of equals
        self._in_flight[chosen] += 1
        return chosen

    def release(self, endpoint: str) -> None:
        """The request to `endpoint` is over."""
        self._in_flight[endpoint] -= 1

    def in_flight(self, endpoint: str) -> int:
        """Requests now in flight to `endpoint` from this process, removed endpoints included."""
        return self._in_flight[endpoint]
