"""k6's CSV and JSON output."""

from __future__ import annotations

from typing import Any

from loadgen.traces.clock import Clock
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.delimited import column_of
from loadgen.traces.formats.json_lines import field_of, first_object
from loadgen.traces.source import Source


class K6(TraceFormat):
    """CSV or JSON lines of `k6 run --out csv=...` or `json=...`: the rows of http_reqs, one a request."""

    name = "k6"
    in_order = False  # several virtual users write

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        if source.columns[:3] == _HEADINGS:
            return f"its headings are {', '.join(_HEADINGS)}"
        return "its lines have metric, type and data" if {"metric", "type", "data"} <= {*_fields(source)} else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        table, clock = source.columns[:3] == _HEADINGS, Clock(source, reading.unit)
        requests = {"metric_name": "http_reqs"} if table else {"type": "Point", "metric": "http_reqs"}
        own = reading.model_copy(update={"where": {**reading.where, **requests}})
        read = column_of(source, "timestamp", clock, own) if table else field_of(source, "data.time", clock, own)
        return Arrivals(read)


_HEADINGS = ("metric_name", "timestamp", "metric_value")


def _fields(source: Source) -> dict[str, Any]:
    return first_object(source) or {}
