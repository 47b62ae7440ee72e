"""The LLM inference traces of the Azure Public Dataset."""

from __future__ import annotations

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.counted import Counts, Rates
from loadgen.traces.formats.delimited import column_of
from loadgen.traces.source import Source


class Azure(TraceFormat):
    """CSV with a TIMESTAMP column, as in the Azure Public Dataset's LLM inference traces of 2023, 2024 and 2025."""

    name = "azure"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        if "timestamp" not in source.columns or Counts.sign(source) or Rates.sign(source):
            return None
        has = "contexttokens" in source.columns or "TIMESTAMP" in source.head[0]
        return "its headings have TIMESTAMP" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        if "timestamp" not in source.columns:
            found = ", ".join(source.columns)[:60]
            raise TraceError(f"{source.path}, line 1: no TIMESTAMP column (found: {found}): give an Azure CSV")
        return Arrivals(column_of(source, "timestamp", Clock(source, reading.unit), reading))
