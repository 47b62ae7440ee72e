"""A trace's file -> when its requests came, what is to be said of it, and a Schedule of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from loadgen.patterns import Trace
from loadgen.schedule import Schedule, TraceError
from loadgen.traces.format import FORMATS, Arrivals, IntArray, TraceFormat, TraceReading
from loadgen.traces.source import Source

ORDINARY = 1000  # median gaps: a longer gap is none of the traffic's own
LONG_GAP_S = 3600.0  # from which on such a gap is told
GIVE = "give a CSV with headings, JSON lines, or one time a line"
LONGEST_NS = 2**62  # of a trace: 146 years
COARSE_S = 1e-3  # a clock's resolution from which on requests at the same time are told
SHARED = 0.01  # of the requests, that come at the time of another, before it is told
RESOLUTIONS_NS = (3600 * 10**9, 60 * 10**9, *(10**k for k in range(9, 2, -1)))


@dataclass(frozen=True)
class Gaps:
    """Between one request and the next. median_s: of those that are above 0; ordinary_s: the mean of those up to
    ORDINARY medians; same: share of requests whose time is another's too, by the file's clock."""

    longest_s: float
    median_s: float
    ordinary_s: float
    same: float


@dataclass(frozen=True)
class Recorded:
    """What was read. times_ns: int64[n], ascending from the recording's start, whole microseconds.

    why: how its format is known. resolution_s: of the clock, or of counts; None: less than a microsecond. spread_s:
    within what its times were spread. notes: what a user may not have meant, or has not said.
    """

    times_ns: IntArray
    duration_s: float
    format: str
    why: str
    resolution_s: float | None
    spread_s: float | None
    gaps: Gaps
    notes: tuple[str, ...]


def read_trace(
    path: Path, model: str, *, speed_up: float = 1.0, keep: float = 1.0, seed: int = 0, **reading: Any
) -> Schedule:
    """A trace as a Schedule for `model`.

    reading: fields of TraceReading, such as format="azure". speed_up 2 replays in half the time. keep .5 keeps each
    request with probability one half (drawn from `seed`); a thinned Poisson trace stays Poisson. The first arrival is
    time 0, unless the file says when its recording began. The schedule ends with the recording, else one ordinary gap
    after the last arrival: the mean of those up to 1000 median gaps. Raises TraceError naming the line that is wrong.
    """
    if not speed_up > 0:
        raise TraceError(f"speed_up is {speed_up}: it must be > 0")
    if not 0 < keep <= 1:
        raise TraceError(f"keep is {keep}: the share of requests to keep must be above 0 and at most 1")
    recorded = read_recorded(path, seed=seed, **reading)
    times_ns = recorded.times_ns
    if keep < 1:
        times_ns = times_ns[np.random.default_rng(seed).random(len(times_ns)) < keep]
    if speed_up != 1:
        times_ns = (times_ns / (1000 * speed_up)).astype(np.int64) * 1000
    provenance = {"trace": Path(path).name, "speed_up": speed_up, "keep": keep, "seed": seed}
    provenance |= TraceReading(**reading).told()
    provenance |= {} if recorded.spread_s is None else {"spread_s": recorded.spread_s}
    return Schedule(times_ns, np.full(len(times_ns), model, dtype=object), recorded.duration_s / speed_up, provenance)


def trace_pattern(schedule: Schedule, interval_s: float) -> Trace:
    """The rate of a schedule in whole intervals: Poisson arrivals that follow a trace only in the large."""
    intervals = max(int(np.ceil(schedule.duration_s / interval_s)), 1)
    borders_ns = np.rint(np.arange(intervals + 1) * (interval_s * 1e9)).astype(np.int64)
    counts = np.diff(np.searchsorted(schedule.scheduled_ns, borders_ns))
    return Trace(rates=tuple(counts / interval_s), interval_s=interval_s)


def read_recorded(path: Path, *, seed: int = 0, **reading: Any) -> Recorded:
    """The file's requests. seed: of `spread`. Kept in memory, so that what is asked of a file again costs nothing."""
    path = Path(path)
    try:
        how = TraceReading(**reading)
        state = path.stat()
        key = (how.model_dump_json(), state.st_size, state.st_mtime_ns)
        return _read(path, *key, seed if how.spread else 0)
    except ValidationError as error:
        first = error.errors()[0]
        told = first["msg"].removeprefix("Value error, ")
        raise TraceError(told if first["loc"] == ("format",) else f"{first['loc'][0]}: {told}") from None
    except (EOFError, zlib.error):
        raise TraceError(f"{path} is a gzip file that is cut off or damaged: fetch it again") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}: give a trace file that exists and can be read") from None


@lru_cache(maxsize=2)  # of a week of requests a quarter of a GB
def _read(path: Path, reading: str, size: int, changed_ns: int, seed: int) -> Recorded:
    how = TraceReading.model_validate_json(reading)
    source = Source(path)
    kind, why = _format_of(source, how.format)
    found = kind.arrivals(source, how)
    if not len(found.times_ns):
        raise TraceError(f"{path} holds no times: a trace needs at least two requests")
    earlier = int((found.times_ns[1:] < found.times_ns[:-1]).sum())
    notes = [*found.notes]
    if earlier and kind.in_order:
        notes.append(
            f"{earlier:,} of {len(found.times_ns):,} requests stand after a later one: they are sorted by time"
        )
    spread = how.spread and found.counted_ns is None
    times_ns, gaps, resolution_ns = _came(found, seed if spread else None)
    if int(times_ns[-1]) - int(times_ns[0]) > LONGEST_NS:
        raise TraceError(
            f"{path} spans {int(times_ns[-1] - times_ns[0]) / 1e9 / 86400 / 365:.0f} years: mend its times"
        )
    start_ns = int(times_ns[0]) if found.start_ns is None else found.start_ns
    if spread and found.start_ns is None and resolution_ns is not None and found.before_ns is None:
        start_ns -= start_ns % resolution_ns  # the first step of the clock as a whole
    if found.end_ns is None and not gaps.median_s and start_ns == times_ns[-1]:
        raise TraceError(f"{path} spans no time: a trace needs at least two different times")
    notes += _notes(how.model_copy(update={"spread": spread}), gaps, resolution_ns, times_ns)
    if found.counted_ns is not None:
        resolution_ns = found.counted_ns
    end_ns = int(times_ns[-1]) + round(gaps.ordinary_s * 1e9) if found.end_ns is None else found.end_ns
    times_ns -= start_ns
    duration_ns = int(end_ns) - start_ns
    if how.max_gap_s is not None:
        times_ns, duration_ns = _cut(times_ns, duration_ns, round(how.max_gap_s * 1e9), notes)
        gaps, _ = _gaps_of(times_ns)
        if found.end_ns is None:
            duration_ns = int(times_ns[-1]) + round(gaps.ordinary_s * 1e9)
    times_ns //= 1000
    times_ns *= 1000
    times_ns.flags.writeable = False
    return Recorded(
        times_ns=times_ns,
        duration_s=duration_ns / 1e9,
        format=kind.name,
        why=why,
        resolution_s=None if resolution_ns is None else resolution_ns / 1e9,
        spread_s=resolution_ns / 1e9 if spread and resolution_ns is not None else None,
        gaps=gaps,
        notes=tuple(f"{path.name}: {note}" for note in notes),
    )


def _came(found: Arrivals, seed: int | None) -> tuple[IntArray, Gaps, int | None]:
    """When requests came, ascending, and the resolution of the clock. seed: of spreading them; None: they are not."""
    times_ns, before_ns = found.times_ns, found.before_ns
    if before_ns is None:
        times_ns.sort()
    else:
        order = np.argsort(times_ns, kind="stable")
        times_ns, before_ns = times_ns[order], before_ns[order]
    gaps, resolution_ns = _gaps_of(times_ns)
    if seed is not None and resolution_ns is not None:
        times_ns = _spread(times_ns, resolution_ns, seed)
    if before_ns is not None:
        times_ns -= before_ns
        times_ns.sort()
    if before_ns is not None or seed is not None:
        gaps = replace(_gaps_of(times_ns)[0], same=gaps.same)
    return times_ns, gaps, resolution_ns


def _format_of(source: Source, named: str | None) -> tuple[type[TraceFormat], str]:
    """The format, and how it is known."""
    if named is not None:
        return FORMATS.find(named), "it was named"
    known = FORMATS.known().values()
    for kind in sorted(known, key=lambda each: each.detected_last):
        sign = kind.sign(source)
        if sign is not None:
            return kind, sign
    if not source.head:
        raise TraceError(f"{source.path} holds no times: a trace needs at least two requests")
    names = ", ".join(sorted(FORMATS.known()))
    raise source.wrong(
        1, source.head[0], "is of no format that shows", f"{GIVE}, or name the format (--format): {names}"
    )


def _gaps_of(times_ns: IntArray) -> tuple[Gaps, int | None]:
    """What lies between ascending times, and the resolution of their clock in ns; None: below a microsecond."""
    gaps_ns = np.diff(times_ns)
    gaps_ns.sort()
    positive = gaps_ns[np.searchsorted(gaps_ns, 0, side="right") :]
    if not len(positive):
        return Gaps(0.0, 0.0, 0.0, 0.0), None
    median_ns = int(positive[len(positive) // 2])
    ordinary = gaps_ns[: np.searchsorted(gaps_ns, ORDINARY * median_ns, side="right")]
    divisor = int(np.gcd(np.gcd.reduce(positive), times_ns[0]))
    same = (len(gaps_ns) - len(positive)) / len(gaps_ns)
    gaps = Gaps(int(positive[-1]) / 1e9, median_ns / 1e9, float(ordinary.mean()) / 1e9, same)
    return gaps, next((unit for unit in RESOLUTIONS_NS if divisor % unit == 0), None)


def _notes(how: TraceReading, gaps: Gaps, resolution_ns: int | None, times_ns: IntArray) -> list[str]:
    """What a user may not have meant."""
    notes = []
    resolution_s = 0.0 if resolution_ns is None else resolution_ns / 1e9
    coarse = f"its clock counts in steps of {resolution_s:g} s"
    if how.spread:
        notes.append(
            f"{coarse}, and requests are spread evenly within one"
            if resolution_s
            else "its clock is finer than a microsecond: spread changes nothing"
        )
    elif resolution_s >= COARSE_S and gaps.same >= SHARED:
        notes.append(
            f"{coarse}, and {gaps.same:.0%} of the requests share one with an earlier one: all are taken for its "
            "beginning; spread: true (--spread) spreads them evenly within it"
        )
    if how.max_gap_s is None and gaps.longest_s > max(ORDINARY * gaps.median_s, LONG_GAP_S):
        span_s = int(times_ns[-1] - times_ns[0]) / 1e9
        notes.append(
            f"it spans {span_s:,.0f} s ({span_s / 86400:.1f} days), with a gap of {gaps.longest_s:,.0f} s in which "
            f"nothing comes (median gap: {gaps.median_s:g} s); max_gap_s (--max-gap-s) cuts gaps"
        )
    return notes


def _spread(times_ns: IntArray, resolution_ns: int, seed: int) -> IntArray:
    """The k requests of one step of the clock at (j + u) / k of it, j = 0 .. k - 1, with one u in [0, 1) a step."""
    first = np.flatnonzero(np.diff(times_ns, prepend=times_ns[0] - 1))
    counts = np.diff(first, append=len(times_ns))
    phases = np.repeat(np.random.default_rng(seed).random(len(first)), counts)
    places = np.arange(len(times_ns)) - np.repeat(first, counts)
    return np.asarray(times_ns + ((places + phases) / np.repeat(counts, counts) * resolution_ns).astype(np.int64))


def _cut(times_ns: IntArray, duration_ns: int, longest_ns: int, notes: list[str]) -> tuple[IntArray, int]:
    """No gap longer than that, the one before the first request and the one after the last included."""
    gaps_ns = np.diff(times_ns, prepend=0)
    longer = int((gaps_ns > longest_ns).sum())
    if longer:
        cut_s = int((gaps_ns[gaps_ns > longest_ns] - longest_ns).sum()) / 1e9
        notes.append(f"gaps are cut to {longest_ns / 1e9:g} s (max_gap_s): {longer:,}, by {cut_s:,.0f} s together")
    end_ns = min(duration_ns - int(times_ns[-1]), longest_ns)
    cut_ns = np.cumsum(np.minimum(gaps_ns, longest_ns))
    return cut_ns, int(cut_ns[-1]) + end_ns
