"""BurstGPT."""

from __future__ import annotations

from loadgen.traces.clock import Clock
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.delimited import column_of
from loadgen.traces.source import Source


class BurstGPT(TraceFormat):
    """CSV of BurstGPT: Timestamp in whole seconds, Model, tokens. Failed requests came, too. `where: {Model: GPT-4}`
    takes one model's."""

    name = "burstgpt"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        has = {"timestamp", "model", "request tokens"} <= set(source.columns)
        return "its headings are Timestamp, Model, Request tokens" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        return Arrivals(column_of(source, "timestamp", Clock(source, reading.unit or "s"), reading))
