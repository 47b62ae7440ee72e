"""Any log whose lines have a date: of load balancers, IIS, CloudFront, programs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from loadgen.traces.clock import Clock, is_time
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.delimited import notes_of_samples, read_as
from loadgen.traces.source import Source

_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)[T \t](\d\d:\d\d:\d\d(?:\.\d+|,\d{3}(?=[\s\]]))?) ?(Z|UTC|[+-]\d\d:?\d\d)?", re.ASCII
)
_ZONES = {None: "", "UTC": "Z"}


class DatedLog(TraceFormat):
    """Log of a line a request, each with a date such as 2024-01-01 00:00:00.5Z: the first in a line is its time."""

    name = "dated_log"
    in_order = False
    detected_last = True

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat. JSON has fields, and a list of times nothing else."""
        if not source.head or source.head[0].startswith(("{", "[{")) or is_time(source.head[0]):
            return None
        return "its lines have a date" if _DATE.search(source.head[0]) else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        clock = Clock(source, "iso")
        times_ns = clock.of_lines(_dates(source))
        ends = ": requests' ends, if lines are written when they are answered"
        notes: tuple[str, ...] = (read_as("the first date of each line", clock, times_ns) + ends,)
        if reading.format is None:
            notes += notes_of_samples(source, times_ns, "--format dated_log")
        return Arrivals(times_ns, notes=notes)


def _dates(source: Source) -> Iterator[tuple[int, str]]:
    for number, line in source.lines():
        found = _DATE.search(line)
        if found is None:
            raise source.wrong(number, line, "has no date", "remove lines that are no requests")
        day, time, zone = found.groups()
        yield number, f"{day}T{time.replace(',', '.')}{_ZONES.get(zone, zone)}"
