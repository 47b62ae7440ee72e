"""Access logs: of nginx and Apache, and of Envoy."""

from __future__ import annotations

import re
from array import array
from datetime import datetime
from functools import lru_cache

import numpy as np

from loadgen.traces.clock import EARLIEST, LATEST, Clock
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.source import Source

LONGEST_S = 1e9  # that a request took
_COMBINED = re.compile(r"\[(\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\]")
# Seconds, with a decimal point, as whole numbers at a line's end are bytes: in the last field, after rt= or
# request_time=, or where Kubernetes' ingress-nginx has it.
_TOOK = re.compile(
    r'\s(?:rt|request_time)="?(\d+\.\d+)|" \d+ (\d+\.\d+) \[|[\s=](?:"(\d+\.\d+)"|(\d+\.\d+))$', re.ASCII
)
_ENVOY = re.compile(r"\[(\d{4}-\d{2}-\d{2}T[\d:.]+Z?)\] \"")


class AccessLog(TraceFormat):
    """Access log of nginx or Apache (common or combined, more fields may follow). A line is of a request's
    end: if it has a duration in seconds with a decimal point ($request_time) as its last field, as rt= or where
    ingress-nginx has it, it came that much earlier."""

    name = "access_log"
    in_order = False

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        has = bool(source.head) and _COMBINED.search(source.head[0])
        return "its lines have a time such as [27/Oct/2024:02:59:59 +0200]" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        times_ns, before_ns, took = array("q"), array("q"), 0
        for number, line in source.lines():
            match = _COMBINED.search(line)
            if match is None:
                raise source.wrong(number, line, "has no time such as [27/Oct/2024:02:59:59 +0200]", "remove the line")
            duration = _TOOK.search(line, match.end())
            took += duration is not None
            ns = _instant_ns(match[1])
            if ns is None:
                raise source.wrong(number, match[1], "is not a time", "mend or remove the line")
            times_ns.append(ns)
            before_ns.append(
                0 if duration is None else round(min(float(duration[duration.lastindex or 0]), LONGEST_S) * 1e6) * 1000
            )
        ended = len(times_ns) - took
        note = f"{ended:,} of {len(times_ns):,} lines have no duration: their requests' ends are taken for arrivals"
        times, before = (np.array(each, np.int64) for each in (times_ns, before_ns))
        return Arrivals(times, before, notes=(note,) if ended else ())


class Envoy(TraceFormat):
    """Envoy's default access log: lines begin with START_TIME in brackets."""

    name = "envoy"
    in_order = False

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        has = bool(source.head) and _ENVOY.match(source.head[0])
        return "its lines begin with a time such as [2024-10-27T02:59:59.000Z]" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        return Arrivals(Clock(source, "iso").of_lines((n, line[1:].partition("]")[0]) for n, line in source.lines()))


@lru_cache(maxsize=1024)  # many requests end in one second
def _instant_ns(text: str) -> int | None:
    try:
        instant = datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z")
        return round(instant.timestamp()) * 10**9 if EARLIEST <= instant.year <= LATEST else None
    except (ValueError, OverflowError):
        return None
