"""OpenTelemetry traces as OTLP JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.source import Source

SERVER = (2, "SPAN_KIND_SERVER")


class OpenTelemetry(TraceFormat):
    """OTLP JSON of traces (one object, or one a line as the Collector's file exporter writes): a request is a span of
    kind SERVER; `where: {service.name: api}` takes those of one resource."""

    name = "otlp"
    in_order = False

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        return "it has resourceSpans" if '"resourceSpans"' in "".join(source.head[:5])[:2000] else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        found = [*_starts(source, reading)]
        if not found:
            raise TraceError(f"{source.path} has no span of kind SERVER: export the spans of the server's side")
        return Arrivals(Clock(source, "ns").of_lines(found))


def documents(source: Source) -> Iterator[tuple[int, Any]]:
    """JSON values with their lines: one a line, or one in the whole file."""
    number = 0
    for number, line in source.lines():
        try:
            value = json.loads(line)
        except ValueError as error:
            if number != 1:
                raise source.wrong(number, line, "is not JSON", "one object a line is expected") from error
            break
        yield number, value
    else:
        return
    with source.open() as text:
        try:
            yield 1, json.load(text)
        except ValueError as error:
            raise TraceError(f"{source.path} is not JSON ({error}): fetch it again") from None


def _starts(source: Source, reading: TraceReading) -> Iterator[tuple[int, str]]:
    for number, value in documents(source):
        for resource in value.get("resourceSpans", ()) if isinstance(value, dict) else ():
            if not _has(resource.get("resource", {}).get("attributes", ()), reading.where):
                continue
            for scope in resource.get("scopeSpans", ()):
                for span in scope.get("spans", ()):
                    if span.get("kind") in SERVER:
                        yield number, str(span.get("startTimeUnixNano"))


def _has(attributes: Any, where: dict[str, str]) -> bool:
    values = {one.get("key"): [str(value) for value in one.get("value", {}).values()] for one in attributes}
    return all(value in values.get(name, ()) for name, value in where.items())
