"""JSON objects, one a line or in one list; those of nginx, vegeta and Mooncake, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from loadgen.schedule import TraceError
from loadgen.traces.clock import Clock, unit_in
from loadgen.traces.format import Arrivals, IntArray, TraceFormat, TraceReading
from loadgen.traces.formats.delimited import is_named_time, read_as
from loadgen.traces.source import LONGEST, Source


class JsonLines(TraceFormat):
    """JSON objects, one a line or in one list, a request each. `column` names the field of its time (a.b: b inside
    a)."""

    name = "json_lines"
    detected_last = True

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        return "it has JSON objects" if first_object(source) is not None else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        field = reading.column or _the_field(source)
        clock = Clock(source, reading.unit or unit_in(field)[1])
        times_ns = field_of(source, field, clock, reading)
        said = reading.column is not None and reading.unit is not None
        return Arrivals(times_ns, notes=() if said else (read_as(f"field {field}", clock, times_ns),))


class Nginx(TraceFormat):
    """nginx's access log as JSON lines: a request came request_time (seconds) before msec, time_iso8601 or `column`."""

    name = "nginx_json"
    in_order = False

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        return "its lines have request_time" if "request_time" in (first_object(source) or {}) else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        ended = next((name for name in ("msec", "time_iso8601") if name in (first_object(source) or {})), None)
        field = reading.column or ended or _the_field(source)
        times_ns = field_of(source, field, Clock(source, reading.unit), reading)
        note = f"requests came request_time (seconds) before {field}, when their lines were written"
        return Arrivals(times_ns, field_of(source, "request_time", Clock(source, "s"), reading), notes=(note,))


class Vegeta(TraceFormat):
    """JSON lines of `vegeta encode --to json`: timestamp is when a request was sent; failed ones were, too."""

    name = "vegeta"
    in_order = False  # a line is written when its answer has come

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat."""
        has = {"timestamp", "latency", "code"} <= {*(first_object(source) or {})}
        return "its lines have timestamp, latency and code" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        return Arrivals(field_of(source, "timestamp", Clock(source, reading.unit), reading))


class Mooncake(TraceFormat):
    """JSON lines of Mooncake's traces: timestamp counts milliseconds from 0."""

    name = "mooncake"

    @classmethod
    def sign(cls, source: Source) -> str | None:
        """See TraceFormat. Qwen-Bailian's traces have chat_id beside these, and seconds."""
        fields = {*(first_object(source) or {})}
        has = {"timestamp", "input_length", "hash_ids"} <= fields and "chat_id" not in fields
        return "its lines have timestamp, input_length and hash_ids: milliseconds" if has else None

    @classmethod
    def arrivals(cls, source: Source, reading: TraceReading) -> Arrivals:
        """See TraceFormat."""
        return Arrivals(field_of(source, "timestamp", Clock(source, reading.unit or "ms"), reading))


def documents(source: Source) -> Iterator[tuple[int, Any]]:
    """JSON values with their lines: one a line, or one in the whole file."""
    number = 0
    for number, line in source.lines():
        try:
            value = json.loads(line)
        except RecursionError:
            raise source.wrong(number, line, "is nested too deeply", "one object a line is expected") from None
        except ValueError as error:
            if number != 1:
                raise source.wrong(number, line, "is not JSON", "one object a line is expected") from error
            break
        yield number, value
    else:
        return
    with source.open() as text:
        try:
            whole = text.read(LONGEST + 1)
            if len(whole) > LONGEST:
                raise ValueError(f"one value of more than {LONGEST >> 20} MiB")
            yield 1, json.loads(whole)
        except (ValueError, RecursionError) as error:
            raise TraceError(
                f"{source.path} is not JSON ({error}): one object a line, or a list, is expected"
            ) from None


def field_of(source: Source, field: str, clock: Clock, reading: TraceReading) -> IntArray:
    """The times in a field."""
    return clock.of_lines(_texts(source, field, reading))


def first_object(source: Source) -> dict[str, Any] | None:
    """The first one of the file, or of the list that the file is."""
    try:
        first, _ = json.JSONDecoder().raw_decode("\n".join(source.head).lstrip("[ \n"))
    except (ValueError, RecursionError):
        return None
    return first if isinstance(first, dict) else None


def _texts(source: Source, field: str, reading: TraceReading) -> Iterator[tuple[int, str]]:
    for number, value in documents(source):
        for one in value if isinstance(value, list) else [value]:
            if all(str(_inside(one, name)) == text for name, text in reading.where.items()):
                time = _inside(one, field)
                if time is None:
                    raise source.wrong(
                        number, json.dumps(one), f"has no field {field}", "name one with column (--column)"
                    )
                yield number, str(time)


def _inside(value: Any, field: str) -> Any:
    if isinstance(value, dict) and field in value:
        return value[field]
    for name in field.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _the_field(source: Source) -> str:
    first = first_object(source) or {}
    found = [name for name in first if is_named_time(name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found or first)[:80]
    what = "fields may each be the time" if found else "no field is known as the time"
    raise TraceError(f"{source.path}, line 1: {what}: {listed}: name one with column (--column)")
