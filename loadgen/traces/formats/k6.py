"""k6's CSV output."""

from __future__ import annotations

from loadgen.traces.clock import Clock
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.delimited import column_of
from loadgen.traces.source import Source


class K6(TraceFormat):
    """CSV of `k6 run --out csv=...`: the rows of http_reqs, one a request."""

    name = "k6"
    in_order = False  # several virtual users write

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        has = source.columns[:3] == ("metric_name", "timestamp", "metric_value")
        return "its headings are metric_name, timestamp, metric_value" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        own = reading.model_copy(update={"where": {**reading.where, "metric_name": "http_reqs"}})
        return Arrivals(column_of(source, "timestamp", Clock(source, reading.unit), own))
