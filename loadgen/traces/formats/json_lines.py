"""A JSON object a line; vegeta's are such, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock
from loadgen.traces.format import Arrivals, IntArray, TraceFormat, TraceReading
from loadgen.traces.formats.delimited import NAMES, read_as
from loadgen.traces.source import Source


class JsonLines(TraceFormat):
    """A JSON object a line, a request each. `column` names the field of its time (a.b: b inside a)."""

    name = "json_lines"
    detected_last = True

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        return "its lines are JSON objects" if _first_object(source) is not None else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        field = reading.column or _the_field(source)
        clock = Clock(source, reading.unit)
        times_ns = field_of(source, field, clock, reading)
        said = reading.column is not None and reading.unit is not None
        return Arrivals(times_ns, notes=() if said else (read_as(f"field {field}", clock, times_ns),))


class Vegeta(TraceFormat):
    """JSON lines of `vegeta encode --to json`: timestamp is when a request was sent; failed ones were, too."""

    name = "vegeta"
    in_order = False  # a line is written when its answer has come

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        first = _first_object(source)
        has = first is not None and {"timestamp", "latency", "code"} <= {*first}
        return "its lines have timestamp, latency and code" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        return Arrivals(field_of(source, "timestamp", Clock(source, reading.unit), reading))


def field_of(source: Source, field: str, clock: Clock, reading: TraceReading) -> IntArray:
    """The times in a field."""
    return clock.of_lines(_texts(source, field, reading))


def _texts(source: Source, field: str, reading: TraceReading) -> Iterator[tuple[int, str]]:
    for number, line in source.lines():
        try:
            one = json.loads(line)
        except ValueError:
            raise source.wrong(number, line, "is not JSON", "one object a line is expected") from None
        if all(str(_inside(one, name)) == value for name, value in reading.where.items()):
            value = _inside(one, field)
            if value is None:
                raise source.wrong(number, line, f"has no field {field}", "name one with column (--column)")
            yield number, str(value)


def _inside(value: Any, field: str) -> Any:
    if isinstance(value, dict) and field in value:
        return value[field]
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _first_object(source: Source) -> dict[str, Any] | None:
    try:
        first = json.loads(source.head[0]) if source.head else None
    except ValueError:
        return None
    return first if isinstance(first, dict) else None


def _the_field(source: Source) -> str:
    first = _first_object(source) or {}
    found = [name for name in first if name.lower() in NAMES]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found or first)[:80]
    what = "fields may each be the time" if found else "no field is known as the time"
    raise TraceError(f"{source.path}, line 1: {what}: {listed}: name one with column (--column)")
