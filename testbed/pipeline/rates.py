"""TrafficConfig -> the rate of its Poisson arrivals, real and simulated: a pattern's, or one that a trace had."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from loadgen.patterns import Pattern, Trace, make_pattern
from loadgen.schedule import TraceError
from loadgen.traces import read_trace, trace_pattern
from testbed.config import TrafficConfig

PATTERN_S = 30.0  # of a pattern, if no duration is given


def pattern_of(traffic: TrafficConfig) -> Pattern | None:
    """The rate to draw arrivals from; None: a trace whose own arrivals are replayed. PatternError or TraceError."""
    if traffic.trace is None:
        return make_pattern(str(traffic.pattern), **traffic.parameters)
    if traffic.rate_interval_s is None or traffic.rate_factor is None:
        return None
    return _trace_rate(traffic.trace, traffic.format, traffic.speed_up, traffic.rate_interval_s, traffic.rate_factor)


def whole_s(pattern: Pattern) -> float:
    """Seconds of traffic that names no duration."""
    return (len(pattern.rates) - 1) * pattern.interval_s if isinstance(pattern, Trace) else PATTERN_S


def own_length_s(traffic: TrafficConfig) -> float | None:
    """Seconds that the traffic lasts by itself: its duration_s, or its trace; None: a pattern goes on for ever."""
    if traffic.duration_s is not None:
        return traffic.duration_s
    if traffic.trace is None:
        return None
    pattern = pattern_of(traffic)
    if pattern is not None:
        return whole_s(pattern)
    return read_trace(traffic.trace, "", format=traffic.format, speed_up=traffic.speed_up).duration_s


@lru_cache(maxsize=32)  # many runs of one trace
def _trace_rate(path: Path, format: str | None, speed_up: float, interval_s: float, factor: float) -> Trace:
    """The counted rate in whole intervals, times the factor; after its end nothing arrives."""
    schedule = read_trace(path, "", format=format, speed_up=speed_up)
    whole = int(schedule.duration_s / interval_s + 1e-9)
    if not whole:
        raise TraceError(
            f"{path} lasts {schedule.duration_s:.1f} s at speed_up {speed_up:g}, rate_interval_s is {interval_s:g}: "
            "give a shorter interval"
        )
    counted = trace_pattern(schedule, interval_s).rates[:whole]
    return Trace(rates=(*(factor * rate for rate in counted), 0.0), interval_s=interval_s)
