"""OpenTelemetry traces as OTLP JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock
from loadgen.traces.format import Arrivals, TraceFormat, TraceReading
from loadgen.traces.formats.json_lines import documents
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
        services: Counter[str] = Counter()
        times_ns = Clock(source, "ns").of_lines(_starts(source, reading, services))
        if not len(times_ns):
            raise TraceError(f"{source.path} has no span of kind SERVER: export the spans of the server's side")
        spans = ", ".join(f"{name}: {number:,}" for name, number in services.most_common(5))
        note = f"its spans are of {len(services)} services ({spans}), and a request may have one in each: "
        choose = f"where: {{service.name: {services.most_common(1)[0][0]}}} (--where) takes one's"
        return Arrivals(times_ns, notes=(note + choose,) if len(services) > 1 else ())


def _starts(source: Source, reading: TraceReading, services: Counter[str]) -> Iterator[tuple[int, str]]:
    """When spans of servers began; services: counts them."""
    for number, value in documents(source):
        try:
            starts = list(_starts_of(value, reading, services))
        except (AttributeError, TypeError, RecursionError):
            raise TraceError(
                f"{source.path}, line {number}: is not OTLP JSON: give what the Collector's file exporter writes"
            ) from None
        for start in starts:
            yield number, start


def _starts_of(value: Any, reading: TraceReading, services: Counter[str]) -> Iterator[str]:
    """Of one document; AttributeError or TypeError if it has another form."""
    for resource in value.get("resourceSpans", ()) if isinstance(value, dict) else ():
        attributes = _values(resource.get("resource", {}).get("attributes", ()))
        if any(value not in attributes.get(name, ()) for name, value in reading.where.items()):
            continue
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                if span.get("kind") in SERVER:
                    services[", ".join(attributes.get("service.name", ("without a name",)))] += 1
                    yield str(span.get("startTimeUnixNano"))


def _values(attributes: Any) -> dict[Any, list[str]]:
    return {one.get("key"): [str(value) for value in one.get("value", {}).values()] for one in attributes}
