"""TrafficConfig -> the rate of its Poisson arrivals, a Schedule, and what a run's manifest says of it.

Real and simulated; the rate is a pattern's, or one that a trace had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from loadgen.lengths import with_lengths
from loadgen.patterns import Pattern, Trace, make_pattern
from loadgen.request_rows import with_rows
from loadgen.schedule import Schedule, TraceError, poisson_schedule
from loadgen.traces import Recorded, read_recorded, read_trace, trace_pattern
from loadgen.validity import ValidityLimits
from testbed.config import RequestTraffic, TrafficConfig


def pattern_of(traffic: TrafficConfig) -> Pattern | None:
    """The rate to draw arrivals from; None: a trace whose own arrivals are replayed. PatternError or TraceError."""
    if traffic.trace is None:
        return make_pattern(str(traffic.pattern), **traffic.parameters)
    if traffic.rate_interval_s is None or traffic.rate_factor is None:
        return None
    return _trace_rate(traffic.model_dump_json())


def whole_s(pattern: Pattern) -> float:
    """Seconds of traffic that names no duration."""
    if isinstance(pattern, Trace):
        return (len(pattern.rates) - 1) * pattern.interval_s
    return pattern.default_duration_s


def own_length_s(traffic: TrafficConfig) -> float | None:
    """Seconds that the traffic lasts by itself: its duration_s, or its trace; None: a pattern goes on for ever."""
    if traffic.duration_s is not None:
        return traffic.duration_s
    if traffic.trace is None:
        return None
    pattern = pattern_of(traffic)
    if pattern is not None:
        return whole_s(pattern)
    lasts_s = _read(traffic).duration_s / traffic.speed_up
    _refuse_beyond(lasts_s, traffic.from_s, traffic.trace)
    return lasts_s - traffic.from_s


def length_note(what: str, traffic: TrafficConfig, duration_s: float, of: str = "duration_s") -> str | None:
    """What becomes of a trace that is not as long as is asked for; None: it is, or the traffic is no trace."""
    length_s = None if traffic.trace is None else own_length_s(traffic.model_copy(update={"duration_s": None}))
    if length_s is None or abs(length_s - duration_s) < 1e-3 * duration_s:
        return None
    lasts = f"the trace{what and f' of {what}'} lasts {length_s:,.0f} s, {of} {duration_s:,.0f} s"
    return f"{lasts}: it is cut" if length_s > duration_s else f"{lasts}: nothing comes after it"


def length_notes(traffic: Mapping[str, TrafficConfig], duration_s: float | None = None) -> Iterator[str]:
    """The same of several, by name, and what is to be said of each trace. duration_s: of patterns that have none, if
    somebody has said it."""
    for name, one in traffic.items():
        yield from trace_notes(one)
        note = None
        if one.duration_s is not None:
            note = length_note(name, one, one.duration_s)
        elif duration_s is not None and length_note(name, one, duration_s) is not None:
            note = (
                f"the trace of {name} lasts {own_length_s(one):,.0f} s, and so do its runs; duration_s "
                f"{duration_s:,.0f} s is of patterns"
            )
        if note is not None:
            yield note


def trace_notes(traffic: TrafficConfig) -> tuple[str, ...]:
    """What was found in a trace's file, or changed, that nobody has said; none of a pattern."""
    return () if traffic.trace is None else _read(traffic).notes


def _read(traffic: TrafficConfig) -> Recorded:
    """What the trace's file has."""
    assert traffic.trace is not None
    return read_recorded(traffic.trace, seed=traffic.seed, **traffic.reading())


def least_s(traffic: TrafficConfig) -> float:
    """Seconds that a run of it takes at least."""
    return own_length_s(traffic) or Pattern.default_duration_s


@lru_cache(maxsize=32)  # many runs of one trace
def _trace_rate(given: str) -> Trace:
    """The counted rate in whole intervals, times the factor; after its end nothing arrives."""
    traffic = TrafficConfig.model_validate_json(given)
    path, interval_s, factor, speed_up = traffic.trace, traffic.rate_interval_s, traffic.rate_factor, traffic.speed_up
    assert path is not None
    assert interval_s is not None
    assert factor is not None
    schedule = recorded(traffic, "")
    whole = int(schedule.duration_s / interval_s + 1e-9)
    if not whole:
        raise TraceError(
            f"{path} lasts {schedule.duration_s:.1f} s at speed_up {speed_up:g}, rate_interval_s is {interval_s:g}: "
            "give a shorter interval"
        )
    counted = trace_pattern(schedule, interval_s).rates[:whole]
    return Trace(rates=(*(factor * rate for rate in counted), 0.0), interval_s=interval_s)


def make_schedule(traffic: TrafficConfig, model: str) -> Schedule:
    """Arrivals of a pattern or a trace's rate (seeded Poisson), or of a trace; PatternError or TraceError if wrong."""
    schedule = _arrivals(traffic, model)
    if isinstance(traffic, RequestTraffic) and traffic.batch is not None:
        schedule = with_rows(schedule, traffic.batch, traffic.seed)
    return schedule if traffic.lengths is None else with_lengths(schedule, traffic.lengths, traffic.seed)


def recorded(traffic: TrafficConfig, model: str) -> Schedule:
    """Arrivals of a trace, all of them; TraceError names the line that is wrong."""
    assert traffic.trace is not None
    whole = read_trace(
        traffic.trace,
        model,
        speed_up=traffic.speed_up,
        keep=traffic.keep,
        seed=traffic.seed,
        **traffic.reading(),
    )
    _refuse_beyond(whole.duration_s, traffic.from_s, traffic.trace)
    return whole.since(traffic.from_s) if traffic.from_s else whole


def _refuse_beyond(whole_s: float, from_s: float, path: Path) -> None:
    """TraceError if the trace ends before that."""
    if from_s >= whole_s:
        raise TraceError(f"{path} lasts {whole_s:.1f} s as it is replayed, from_s is {from_s:g}: begin earlier")


def _arrivals(traffic: TrafficConfig, model: str) -> Schedule:
    pattern = pattern_of(traffic)
    if pattern is not None:
        drawn = poisson_schedule(pattern, traffic.duration_s or whole_s(pattern), traffic.seed, model)
        if traffic.trace is None:
            return drawn
        return replace(drawn, provenance={**_of_trace(traffic), "seed": traffic.seed})
    return recorded(traffic, model).until(traffic.duration_s)


@dataclass(frozen=True)
class Identity:
    """What names a run beside its target: where its arrivals came from, and its part in a study."""

    run_id: str
    pattern: str
    parameters: dict[str, Any]
    seed: int
    repeat: int = 0
    held_out: bool = False
    notes: tuple[str, ...] = ()
    percentile: float | None = 95  # of the latency, that the run must have samples enough for; None: none
    limits: ValidityLimits | None = None  # what this run must keep to; None: what all runs must


def traffic_identity(run_id: str, traffic: TrafficConfig) -> Identity:
    """The identity of a single run with that traffic."""
    shares = traffic.batch if isinstance(traffic, RequestTraffic) else None
    batch = {} if shares is None else {"batch": {str(rows): weight for rows, weight in shares.items()}}
    if traffic.trace is not None:
        return Identity(run_id, "trace", {**_of_trace(traffic), **batch}, traffic.seed)
    return Identity(run_id, str(traffic.pattern), {**traffic.parameters, **batch}, traffic.seed)


def _of_trace(traffic: TrafficConfig) -> dict[str, Any]:
    """What was made of a trace."""
    assert traffic.trace is not None
    provenance = {"trace": traffic.trace.name, "speed_up": traffic.speed_up, **traffic.told()}
    provenance |= {"from_s": traffic.from_s} if traffic.from_s else {}
    if traffic.rate_factor is None:
        return {**provenance, "keep": traffic.keep}
    return {**provenance, "rate_interval_s": traffic.rate_interval_s, "rate_factor": traffic.rate_factor}
