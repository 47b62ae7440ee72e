"""A list of times."""

from __future__ import annotations

from loadgen.traces.clock import Clock, is_time, unit_of
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.source import Source


class Timestamps(TraceFormat):
    """One time a line: a number of any origin (seconds, or epoch ms, us, ns by their size), or ISO 8601."""

    name = "timestamps"
    detected_last = True

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        if source.head and (unit_of(source.head[0]) != "iso" or is_time(source.head[0])):
            return "its first line is a time"
        return None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        clock = Clock(source, reading.unit)
        times_ns = clock.of_lines(source.lines())
        found = reading.unit is None and clock.unit not in ("s", "iso", None)
        return Arrivals(times_ns, notes=(f"its numbers are as large as {clock.words} since 1970",) if found else ())
