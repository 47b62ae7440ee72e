"""Counts by interval: CSV of when an interval began and how many requests it had; what counting formats share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock, joined
from loadgen.traces.format import Arrivals, IntArray, TraceFormat, TraceReading
from loadgen.traces.source import Source

MOST = 500_000_000  # requests: 4 GB


class Counts(TraceFormat):
    """CSV of counts (timestamp,value or timestamp,count): when an interval began, and how many requests came in it.
    They are spread evenly over it; the last one is as long as the one before."""

    name = "counts"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        return "its columns are a timestamp and a count" if source.columns in _HEADINGS else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        if len(source.columns) != 2:
            found = ", ".join(source.columns)[:80]
            raise TraceError(f"{source.path}, line 1: counts have two columns, timestamp,count (found: {found})")
        began, value = source.columns
        clock = Clock(source, reading.unit)
        starts, counts = [], []
        for frame, numbers in source.rows([began, value], {}):
            starts.append(clock.of_column(frame[began], numbers))
            counts.append(counts_of(source, frame[value].tolist(), numbers))
        starts_ns = joined(starts)
        if len(starts_ns) < 2:
            raise TraceError(f"{source.path} has {len(starts_ns)} intervals: counts need at least two")
        order = np.argsort(starts_ns, kind="stable")
        starts_ns, number = starts_ns[order], joined(counts)[order]
        borders_ns = np.append(starts_ns, 2 * starts_ns[-1] - starts_ns[-2])
        if (np.diff(borders_ns) <= 0).any():
            row = int(order[int(np.argmin(np.diff(starts_ns))) + 1])
            raise TraceError(
                f"{source.path}, line {source.line_of(row)}: the second interval that begins then: add their counts up"
            )
        notes = () if (np.diff(order) > 0).all() else ("its intervals are not in order of time: they are sorted",)
        return Arrivals(
            evenly(source, borders_ns, number), start_ns=int(borders_ns[0]), end_ns=int(borders_ns[-1]), notes=notes
        )


_HEADINGS = {("timestamp", "value"), ("timestamp", "count"), ("time", "count"), ("timestamp", "requests")}


def counts_of(source: Source, texts: list[str], rows: IntArray) -> IntArray:
    """Whole numbers; TraceError names the line of one that is none. rows: number of each in the table."""
    for place, text in enumerate(texts):
        if not _is_count(text):
            number = source.line_of(int(rows[place]))
            raise source.wrong(number, text, "is no count", "give a whole number of requests")
    return np.array([int(float(text)) for text in texts], dtype=np.int64)


def evenly(source: Source, borders_ns: IntArray, counts: npt.NDArray[np.int64]) -> IntArray:
    """The times of so many requests in each interval: k of them in the middles of k equal parts."""
    total = int(counts.sum())
    if total > MOST:
        raise TraceError(f"{source.path} counts {total:,} requests, more than {MOST:,}: choose rows with `where`")
    first = np.cumsum(counts) - counts
    within = (np.arange(total) - np.repeat(first, counts) + 0.5) / np.repeat(np.maximum(counts, 1), counts)
    times_ns = np.repeat(borders_ns[:-1], counts)
    return np.asarray(times_ns + (within * np.repeat(np.diff(borders_ns), counts)).astype(np.int64))


def _is_count(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return value >= 0 and value.is_integer()
