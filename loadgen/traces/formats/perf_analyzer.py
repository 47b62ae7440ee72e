"""Triton perf_analyzer's --request-intervals."""

from __future__ import annotations

import numpy as np

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.source import Source

LONGEST_NS = 100 * 365 * 86400 * 10**9


class PerfAnalyzer(TraceFormat):
    """Triton perf_analyzer's --request-intervals file: one interval a line, in microseconds; to be named.

    The first request comes after the first interval (docs/inference_load_modes.md, "Custom Interval Mode").
    """

    name = "perf_analyzer"

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        intervals_ns = Clock(source, "us").of_lines(source.lines())
        if (intervals_ns < 0).any():
            row = int(np.argmax(intervals_ns < 0))
            number, text = next(line for place, line in enumerate(source.lines()) if place == row)
            raise source.wrong(number, text, "is an interval below 0", "give microseconds between requests")
        if intervals_ns.sum(dtype=np.float64) > LONGEST_NS:
            raise TraceError(f"{source.path}: its intervals add up to more than a hundred years: give microseconds")
        return Arrivals(np.cumsum(intervals_ns), start_ns=0)
