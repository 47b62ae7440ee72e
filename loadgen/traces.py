"""Traces: arrival times that somebody recorded, read into a Schedule, faster or thinner if asked.

A format is one class here, or one of yours: `format: my_module:MyFormat`. Blank lines and lines that begin with # are
skipped where a line is a number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from loadgen.patterns import Trace
from loadgen.schedule import FloatArray, Schedule, TraceError, from_seconds
from workloads.registry import Registry


class TraceFormat(ABC):
    """How a trace is written."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        FORMATS.add(cls.name, cls)

    @classmethod
    def is_of(cls, lines: Sequence[str]) -> bool:
        """Do the lines look like it beyond doubt? Then nobody needs to name it."""
        return False

    @classmethod
    @abstractmethod
    def times_s(cls, path: Path, lines: Sequence[str]) -> FloatArray:
        """Ascending seconds since the trace's start; TraceError names the line that is wrong."""


FORMATS: Registry[type[TraceFormat]] = Registry.of_subclasses(TraceFormat, "trace format", TraceError, "kis.traces")


def read_trace(
    path: Path,
    model: str,
    *,
    format: str | None = None,
    speed_up: float = 1.0,
    keep: float = 1.0,
    seed: int = 0,
) -> Schedule:
    """A trace as a Schedule for `model`.

    format: a name of FORMATS; None: what the lines look like, else timestamps. speed_up 2 replays in half the time.
    keep .5 keeps each request with probability one half (drawn from `seed`); a thinned Poisson trace stays Poisson.
    The first arrival is time 0 (perf_analyzer and counts: the start of the file is). The schedule covers one mean gap
    more than the last arrival. Raises TraceError naming the line that is wrong.
    """
    if not speed_up > 0:
        raise TraceError(f"speed_up is {speed_up}: it must be > 0")
    if not 0 < keep <= 1:
        raise TraceError(f"keep is {keep}: the share of requests to keep must be above 0 and at most 1")
    times_s = _read_times(Path(path), format)
    duration_s = times_s[-1] * len(times_s) / max(len(times_s) - 1, 1)
    if duration_s <= 0:
        raise TraceError(f"{path} spans no time: a trace needs at least two different times")
    kept = times_s[np.random.default_rng(seed).random(len(times_s)) < keep]
    provenance = {"trace": Path(path).name, "speed_up": speed_up, "keep": keep, "seed": seed}
    return from_seconds(kept / speed_up, duration_s / speed_up, model, provenance)


def trace_pattern(schedule: Schedule, interval_s: float) -> Trace:
    """The rate of a schedule in whole intervals: Poisson arrivals that follow a trace only in the large."""
    intervals = max(int(np.ceil(schedule.duration_s / interval_s)), 1)
    counts, _ = np.histogram(schedule.scheduled_s, bins=intervals, range=(0.0, intervals * interval_s))
    return Trace(rates=tuple(counts / interval_s), interval_s=interval_s)


def _read_times(path: Path, format: str | None) -> FloatArray:
    """Ascending seconds since the trace's start."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}: give a trace file that exists and can be read") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path} is not a text file: give a CSV or a list of times") from None
    if format is None:
        format = next(
            (name for name, trace_format in FORMATS.known().items() if trace_format.is_of(lines)), Timestamps.name
        )
    times_s = FORMATS.find(format).times_s(path, lines)
    if not len(times_s):
        raise TraceError(f"{path} holds no times: a trace needs at least two requests")
    return times_s


class Azure(TraceFormat):
    """CSV with a TIMESTAMP column, as in the Azure Public Dataset's LLM inference traces."""

    name = "azure"

    @classmethod
    def is_of(cls, lines: Sequence[str]) -> bool:
        """See TraceFormat."""
        return bool(lines) and "TIMESTAMP" in _columns(lines[0])

    @classmethod
    def times_s(cls, path: Path, lines: Sequence[str]) -> FloatArray:
        """See TraceFormat."""
        columns = _columns(lines[0]) if lines else []
        if "TIMESTAMP" not in columns:
            raise TraceError(
                f"{path}, line 1: no TIMESTAMP column (found: {', '.join(columns)[:60]}): give an Azure CSV"
            )
        place = columns.index("TIMESTAMP")
        numbers = [number for number, line in enumerate(lines[1:], 2) if line.strip()]
        texts = [(_columns(lines[number - 1]) + [""] * place)[place] for number in numbers]
        return _from_the_first(path, numbers, _seconds(path, numbers, texts))


class Counts(TraceFormat):
    """CSV of counts: when an interval began, and how many requests came in it. They are spread evenly over it; the
    last one is as long as the one before."""

    name = "counts"
    headings: ClassVar[tuple[tuple[str, ...], ...]] = (("timestamp", "value"), ("timestamp", "count"))

    @classmethod
    def is_of(cls, lines: Sequence[str]) -> bool:
        """See TraceFormat."""
        return bool(lines) and tuple(column.lower() for column in _columns(lines[0])) in cls.headings

    @classmethod
    def times_s(cls, path: Path, lines: Sequence[str]) -> FloatArray:
        """See TraceFormat."""
        rows = [(number, _columns(line)) for number, line in enumerate(lines[1:], 2) if line.strip()]
        if len(rows) < 2:
            raise TraceError(f"{path} has {len(rows)} intervals: counts need at least two")
        numbers = [number for number, _ in rows]
        starts_s = _from_the_first(path, numbers, _seconds(path, numbers, [row[0] for _, row in rows]))
        counts = np.array([_count(path, number, row) for number, row in rows])
        lengths_s = np.append(np.diff(starts_s), starts_s[-1] - starts_s[-2])
        first = np.cumsum(counts) - counts
        within = (np.arange(counts.sum()) - np.repeat(first, counts) + 0.5) / np.repeat(np.maximum(counts, 1), counts)
        return np.asarray(np.repeat(starts_s, counts) + within * np.repeat(lengths_s, counts))


def _count(path: Path, number: int, row: Sequence[str]) -> int:
    text = row[1] if len(row) > 1 else ""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0 or not value.is_integer():
        raise TraceError(f"{path}, line {number}: '{text[:40]}' is no count: give a whole number of requests")
    return int(value)


class Timestamps(TraceFormat):
    """One number a line, seconds of any origin."""

    name = "timestamps"

    @classmethod
    def times_s(cls, path: Path, lines: Sequence[str]) -> FloatArray:
        """See TraceFormat."""
        return _from_the_first(path, *_numbers(path, lines))


class PerfAnalyzer(TraceFormat):
    """Triton perf_analyzer's --request-intervals file: one interval a line, in microseconds.

    The first request comes after the first interval (docs/inference_load_modes.md, "Custom Interval Mode").
    """

    name = "perf_analyzer"

    @classmethod
    def times_s(cls, path: Path, lines: Sequence[str]) -> FloatArray:
        """See TraceFormat."""
        numbers, values = _numbers(path, lines)
        if (values < 0).any():
            line = numbers[int(np.argmax(values < 0))]
            raise TraceError(f"{path}, line {line}: an interval below 0: give microseconds between requests")
        return np.cumsum(values) / 1e6


def _seconds(path: Path, numbers: Sequence[int], texts: Sequence[str]) -> FloatArray:
    """Seconds since the first of some times in ISO 8601; TraceError names the line of one that is none."""
    import pandas as pd  # noqa: PLC0415 - half a second, and configurations import this module

    given = pd.Series(texts, dtype="str")
    times = pd.to_datetime(given, errors="coerce", format="ISO8601", utc=True)
    if times.isna().any():
        bad = int(times.isna().to_numpy().argmax())
        raise TraceError(f"{path}, line {numbers[bad]}: '{texts[bad][:40]}' is not a time: mend or remove the line")
    origin = times.iloc[0] if len(times) else pd.Timestamp(0, tz="UTC")
    return np.asarray((times - origin).dt.total_seconds(), dtype=np.float64)


def _from_the_first(path: Path, numbers: Sequence[int], times_s: FloatArray) -> FloatArray:
    """Seconds since the first one; TraceError names the line that goes back in time."""
    backwards = np.diff(times_s) < 0
    if backwards.any():
        line = numbers[int(np.argmax(backwards)) + 1]
        raise TraceError(f"{path}, line {line}: earlier than the line before: sort the trace by time")
    return np.asarray(times_s - times_s[:1])


def _columns(line: str) -> list[str]:
    return [column.strip().strip('"') for column in line.split(",")]


def _numbers(path: Path, lines: Sequence[str]) -> tuple[list[int], FloatArray]:
    """Line numbers and values of a file with one number a line."""
    numbers: list[int] = []
    values: list[float] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise TraceError(f"{path}, line {number}: '{text[:40]}' is not a number: one time a line is expected")
        numbers.append(number)
        values.append(value)
    return numbers, np.array(values, dtype=np.float64)
