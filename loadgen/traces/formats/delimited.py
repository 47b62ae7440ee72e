"""Any CSV with a column of times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock, is_time, joined, unit_in, unit_of
from loadgen.traces.format import Arrivals, IntArray, TraceFormat, TraceReading
from loadgen.traces.source import ROWS, Source

MANY = 10  # rows
REGULAR = 0.9  # of the steps between rows: with as many alike and none of 0, rows are samples of a clock's
# What a column of arrival times is called, in lower case, also with a unit behind (arrival_ms).
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
    "requested_at",
    "created_at",
    "submit_time",
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
        headings = source.head and source.head[0][:1] not in "{[" and not any(map(_is_value, source.columns))
        return "its first line has headings" if headings and (len(source.columns) > 1 or _times_in(source)) else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        column = (reading.column or the_column(source)).lower()
        clock = Clock(source, reading.unit or unit_in(column)[1])
        times_ns = column_of(source, column, clock, reading)
        notes: tuple[str, ...] = ()
        if reading.column is None or reading.unit is None:
            notes = (read_as(f"column {column}", clock, times_ns),)
        if reading.column is None and len(source.columns) > 1:
            notes += notes_of_samples(source, times_ns, f"--column {column}")
        return Arrivals(times_ns, notes=notes)


def column_of(source: Source, column: str, clock: Clock, reading: TraceReading) -> IntArray:
    """The times in a column."""
    return joined([clock.of_column(frame[column], rows) for frame, rows in source.rows([column], reading.where)])


def read_as(what: str, clock: Clock, times_ns: IntArray) -> str:
    """What was made of times whose place or unit nobody has named."""
    span_s = int(times_ns.max() - times_ns.min()) / 1e9 if len(times_ns) else 0.0
    return f"the times are of {what}, in {clock.words}: {len(times_ns):,} requests in {span_s:,.1f} s"


def notes_of_samples(source: Source, times_ns: IntArray, otherwise: str) -> tuple[str, ...]:
    """What is said of rows as regular as a clock, which rates are rather than requests, as Grafana or Locust writes
    them; TraceError of many such. otherwise: the flag with which each row is a request."""
    steps, times = np.unique(np.diff(times_ns[:ROWS]), return_counts=True)
    if len(times_ns) < 3 or steps[0] <= 0 or times.max() < REGULAR * times.sum():
        return ()
    told = f"its rows are {int(steps[np.argmax(times)]) / 1e9:g} s apart, as samples are, and not requests"
    told += ": rates are read with format: rates (--format rates --column NAME), counts with counts"
    if len(times_ns) >= MANY:
        raise TraceError(f"{source.path}: {told}; {otherwise} takes each row for a request")
    return (told,)


def the_column(source: Source, besides: str = "") -> str:
    """The one that can only be the time; TraceError if several can, or none. besides: that is not meant."""
    found = [name for name in _times_in(source) if name != besides.lower()]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found or source.columns)[:80]
    what = "columns may each be the time" if found else "no column is known as the time"
    raise TraceError(f"{source.path}, line 1: {what}: {listed}: name one with column (--column)")


def is_named_time(name: str) -> bool:
    """Is it called as times are? time_ms is rather how long something took."""
    stem, unit = unit_in(name)
    return name.lower() in NAMES or (unit is not None and stem in NAMES and stem not in ("time", "t"))


def _is_value(text: str) -> bool:
    return is_time(text) or unit_of(text) != "iso"


def _times_in(source: Source) -> Sequence[str]:
    """Columns with a usual name, else columns of dates."""
    named = [name for name in source.columns if is_named_time(name)]
    if named or not source.columns:
        return named
    rows = [row for row in source.samples() if row]
    return [name for place, name in enumerate(source.columns) if rows and all(is_time(row[place]) for row in rows)]
