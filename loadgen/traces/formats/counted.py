"""Counts and rates by interval: CSV of when an interval began, and how much came in it; what such formats share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock, joined
from loadgen.traces.format import Arrivals, IntArray, TraceFormat, TraceReading
from loadgen.traces.formats.delimited import the_column
from loadgen.traces.source import Source

FloatArray = npt.NDArray[np.float64]
MOST = 100_000_000  # requests: 0.8 GB, and three times that while they are spread
MANY = 1e18  # more than any number of requests, and a whole number of 64 bits
LONG = 1.5  # median steps: an interval that long has others missing behind it
_BEGAN = ("timestamp", "time")
_COUNTS = ("value", "count", "requests")
_RATES = ("rate", "rps", "qps", "requests_per_second", "requests/s", "req/s")
AMBIGUOUS = ("time", "value")  # as Grafana exports any query


class Counts(TraceFormat):
    """CSV of counts (timestamp,value or timestamp,count): when an interval began, and how many requests came in it.
    They are spread evenly over it; the last one is as long as the one before. `column` names one of several counts."""

    name = "counts"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        told = len(source.columns) == 2 and source.columns[0] in _BEGAN and source.columns[1] in _COUNTS
        return "its columns are a timestamp and a count" if told and source.columns != AMBIGUOUS else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        starts_ns, counts = _intervals(source, reading, "counts have two columns, timestamp,count")
        if (counts % 1).any():
            row = int(np.argmax(counts % 1 > 0))
            instead = "give a whole number of requests; format: rates (--format rates) reads requests/s"
            raise source.wrong(source.line_of(row), f"{counts[row]:g}", "is no count", instead)
        return _stepped(source, starts_ns, counts, seconds=False)


class Rates(TraceFormat):
    """CSV of rates in requests/s (timestamp,rps): when an interval began, and how many requests a second came in it.
    `column` names one of several rates."""

    name = "rates"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        told = len(source.columns) == 2 and source.columns[0] in _BEGAN and source.columns[1] in _RATES
        return "its columns are a timestamp and a rate" if told else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        starts_ns, rates = _intervals(source, reading, "rates have two columns, timestamp,rps")
        return _stepped(source, starts_ns, rates, seconds=True)


def _intervals(source: Source, reading: TraceReading, form: str) -> tuple[IntArray, FloatArray]:
    """When each interval began, and its value, in the file's order."""
    if reading.column is not None:
        began, value = the_column(source, besides=reading.column), reading.column.lower()
    elif len(source.columns) == 2:
        began, value = source.columns
    else:
        found = ", ".join(source.columns)[:80]
        raise TraceError(f"{source.path}, line 1: {form}; column (--column) names one of several (found: {found})")
    clock = Clock(source, reading.unit)
    starts, values = [], []
    for frame, rows in source.rows([began, value], reading.where):
        starts.append(clock.of_column(frame[began], rows))
        values.append(numbers_of(source, frame[value].tolist(), rows))
    starts_ns = joined(starts)
    if len(starts_ns) < 2:
        raise TraceError(f"{source.path} has {len(starts_ns)} intervals: at least two are needed")
    return starts_ns, np.concatenate(values)


def _stepped(source: Source, starts_ns: IntArray, values: FloatArray, *, seconds: bool) -> Arrivals:
    """seconds: the values are by second, else by interval. Nothing comes in intervals that are not there."""
    order = np.argsort(starts_ns, kind="stable")
    sorted_ns, values = starts_ns[order], values[order]
    lengths_ns = np.diff(sorted_ns)
    if (lengths_ns <= 0).any():
        row = int(order[int(np.argmin(lengths_ns)) + 1])
        raise TraceError(
            f"{source.path}, line {source.line_of(row)}: the second interval that begins then: add their counts up"
        )
    usual_ns = int(np.sort(lengths_ns)[(len(lengths_ns) - 1) // 2])
    longer = np.flatnonzero(lengths_ns > LONG * usual_ns)
    last_ns = usual_ns if len(longer) and longer[-1] == len(lengths_ns) - 1 else lengths_ns[-1]
    borders_ns = np.insert(np.append(sorted_ns, sorted_ns[-1] + last_ns), longer + 1, sorted_ns[longer] + usual_ns)
    values = np.insert(values, longer + 1, 0.0)
    counts = whole(values * np.diff(borders_ns) / 1e9 if seconds else values)
    notes = [] if (np.diff(order) > 0).all() else ["its intervals are not in order of time: they are sorted"]
    if seconds:
        notes.append(f"its values are rates in requests/s, of {usual_ns / 1e9:g} s each: {counts.sum():,} requests")
    if len(longer):
        notes.append(
            f"after {len(longer):,} of its intervals of {usual_ns / 1e9:g} s others are missing: nothing comes"
        )
    times_ns = evenly(source, borders_ns, counts)
    ends_ns = int(borders_ns[0]), int(borders_ns[-1])
    return Arrivals(times_ns, counted_ns=usual_ns, start_ns=ends_ns[0], end_ns=ends_ns[1], notes=tuple(notes))


def numbers_of(source: Source, texts: list[str], rows: IntArray) -> FloatArray:
    """Numbers of 0 or more; TraceError names the line of one that is none. rows: number of each in the table."""
    for place, text in enumerate(texts):
        if not _is_amount(text):
            raise source.wrong(source.line_of(int(rows[place])), text, "is no count", "give a number of requests")
    return np.array(texts, dtype=np.float64)


def whole(expected: FloatArray) -> IntArray:
    """Whole numbers of requests whose sums are those of the expected ones, to half a request."""
    return np.diff(np.rint(np.minimum(np.cumsum(expected), MANY)), prepend=0.0).astype(np.int64)


def evenly(source: Source, borders_ns: IntArray, counts: npt.NDArray[np.int64]) -> IntArray:
    """The times of so many requests in each interval: k of them in the middles of k equal parts."""
    told = counts.sum(dtype=np.float64)
    if not told <= MOST or counts.min(initial=0) < 0:
        raise TraceError(f"{source.path} counts {told:,.0f} requests, more than {MOST:,}: choose rows with `where`")
    total = int(counts.sum())
    first = np.cumsum(counts) - counts
    within = (np.arange(total) - np.repeat(first, counts) + 0.5) / np.repeat(np.maximum(counts, 1), counts)
    times_ns = np.repeat(borders_ns[:-1], counts)
    return np.asarray(times_ns + (within * np.repeat(np.diff(borders_ns), counts)).astype(np.int64))


def _is_amount(text: str) -> bool:
    try:
        return 0 <= float(text) < 1e15
    except ValueError:
        return False
