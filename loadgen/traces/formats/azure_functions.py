"""The traces of Azure Functions: invocations by their end (2021), and counts by minute (2019)."""

from __future__ import annotations

import numpy as np

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock, joined
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.counted import evenly, numbers_of, whole
from loadgen.traces.source import Source

MINUTE_NS = 60 * 10**9


class AzureFunctions2021(TraceFormat):
    """CSV of app, func, end_timestamp, duration (seconds): a request came at its end less its duration."""

    name = "azure_functions_2021"
    in_order = False

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        return "its headings have end_timestamp and duration" if {*_ENDED} <= {*source.columns} else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        clock, stopwatch = Clock(source, reading.unit or "s"), Clock(source, reading.unit or "s")
        end, duration = _ENDED
        ends, durations = [], []
        for frame, rows in source.rows(_ENDED, reading.where):
            ends.append(clock.of_column(frame[end], rows))
            took_ns = stopwatch.of_column(frame[duration], rows)
            if (took_ns < 0).any():
                row = int(np.argmax(took_ns < 0))
                number, text = source.line_of(int(rows[row])), str(frame[duration].iloc[row])
                raise source.wrong(number, text, "is a duration below 0", "mend or remove the line")
            durations.append(took_ns)
        return Arrivals(joined(ends), joined(durations))


_ENDED = ("end_timestamp", "duration")


class AzureFunctions2019(TraceFormat):
    """CSV with a column for each minute of a day (1 .. 1440) and a row for each function: the sum of the rows, or of
    those that `where: {HashFunction: ...}` names. Invocations are spread evenly over their minute."""

    name = "azure_functions_2019"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        has = "hashfunction" in source.columns and "1" in source.columns
        return "its headings are HashFunction and minutes" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        minutes = [column for column in source.columns if column.isdigit()]
        if minutes != [str(number) for number in range(1, len(minutes) + 1)]:
            raise TraceError(f"{source.path}, line 1: no columns 1, 2, 3, ... of minutes: give a file of one day")
        counts = np.zeros(len(minutes))
        for frame, rows in source.rows(minutes, reading.where):
            for place, minute in enumerate(minutes):
                counts[place] += numbers_of(source, frame[minute].tolist(), rows).sum()
        borders_ns = np.arange(len(minutes) + 1) * MINUTE_NS
        times_ns = evenly(source, borders_ns, whole(counts))
        return Arrivals(times_ns, counted_ns=MINUTE_NS, start_ns=0, end_ns=int(borders_ns[-1]))
