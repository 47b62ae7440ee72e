"""Traces: arrival times that somebody recorded, read into a Schedule as the file is.

A format is one file in formats/, or a class of yours: `format: my_module:MyFormat`. A file is read in pieces, gzipped
or not, and each arrival takes 8 bytes.
"""

from __future__ import annotations

from loadgen.schedule import TraceError
from loadgen.traces import formats  # noqa: F401 - a format adds itself when it is imported
from loadgen.traces.format import FORMATS, Arrivals, TraceFormat, TraceReading
from loadgen.traces.reading import Recorded, read_recorded, read_trace, trace_pattern
from loadgen.traces.source import Source

__all__ = [
    "FORMATS",
    "Arrivals",
    "Recorded",
    "Source",
    "TraceError",
    "TraceFormat",
    "TraceReading",
    "read_recorded",
    "read_trace",
    "trace_pattern",
]
