"""Any CSV with a column of times."""

from __future__ import annotations

from collections.abc import Sequence

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock, is_time, joined, unit_of
from loadgen.traces.format import Arrivals, IntArray, TraceFormat, TraceReading
from loadgen.traces.source import Source

# What a column of arrival times is called, in lower case.
NAMES = (
    "timestamp",
    "time",
    "ts",
    "@timestamp",
    "datetime",
    "date_time",
    "arrival",
    "arrival_time",
    "arrived_at",
    "start",
    "start_time",
    "started_at",
    "request_time",
    "requested_at",
    "created_at",
    "time_iso8601",
    "epoch",
    "t",
)


class Csv(TraceFormat):
    """CSV with headings, its columns apart by a comma, semicolon or tab: a row a request. `column` names its time."""

    name = "csv"
    detected_last = True

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        headings = len(source.head) > 1 and source.head[0][:1] not in "{[" and not any(map(_is_value, source.columns))
        return "its first line has headings" if headings and (len(source.columns) > 1 or _times_in(source)) else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        column = (reading.column or the_column(source)).lower()
        clock = Clock(source, reading.unit)
        times_ns = column_of(source, column, clock, reading)
        said = reading.column is not None and reading.unit is not None
        return Arrivals(times_ns, notes=() if said else (read_as(f"column {column}", clock, times_ns),))


def column_of(source: Source, column: str, clock: Clock, reading: TraceReading) -> IntArray:
    """The times in a column."""
    return joined([clock.of_column(frame[column], rows) for frame, rows in source.rows([column], reading.where)])


def read_as(what: str, clock: Clock, times_ns: IntArray) -> str:
    """What was made of times whose place or unit nobody has named."""
    span_s = int(times_ns.max() - times_ns.min()) / 1e9 if len(times_ns) else 0.0
    return f"the times are of {what}, in {clock.words}: {len(times_ns):,} requests in {span_s:,.1f} s"


def the_column(source: Source) -> str:
    """The one that can only be the time; TraceError if several can, or none."""
    found = _times_in(source)
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found or source.columns)[:80]
    what = "columns may each be the time" if found else "no column is known as the time"
    raise TraceError(f"{source.path}, line 1: {what}: {listed}: name one with column (--column)")


def _is_value(text: str) -> bool:
    return is_time(text) or unit_of(text) != "iso"


def _times_in(source: Source) -> Sequence[str]:
    """Columns with a usual name, else columns of dates."""
    named = [name for name in source.columns if name in NAMES]
    if named or not source.columns:
        return named
    rows = [row for row in source.samples() if row]
    return [name for place, name in enumerate(source.columns) if rows and all(is_time(row[place]) for row in rows)]
