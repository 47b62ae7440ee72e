"""TrafficConfig -> Schedule, and what a run's manifest says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from loadgen.lengths import with_lengths
from loadgen.patterns import Trace
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.traces import read_trace, trace_pattern
from testbed.config import TrafficConfig
from testbed.pipeline.rates import pattern_of, whole_s
from testbed.pipeline.real_run import Identity

STEP_S = 1.0  # of a rate that is made of another


def make_schedule(traffic: TrafficConfig, model: str) -> Schedule:
    """Arrivals of a pattern or a trace's rate (seeded Poisson), or of a trace; PatternError or TraceError if wrong."""
    schedule = _arrivals(traffic, model)
    return schedule if traffic.lengths is None else with_lengths(schedule, traffic.lengths, traffic.seed)


def _arrivals(traffic: TrafficConfig, model: str) -> Schedule:
    pattern = pattern_of(traffic)
    if pattern is not None:
        drawn = poisson_schedule(pattern, traffic.duration_s or whole_s(pattern), traffic.seed, model)
        if traffic.trace is None:
            return drawn
        return replace(drawn, provenance={**_of_trace(traffic), "seed": traffic.seed})
    assert traffic.trace is not None  # what has no rate is a trace
    whole = read_trace(
        traffic.trace, model, format=traffic.format, speed_up=traffic.speed_up, keep=traffic.keep, seed=traffic.seed
    )
    if traffic.duration_s is None or traffic.duration_s >= whole.duration_s:
        return whole
    count = int(np.searchsorted(whole.scheduled_s, traffic.duration_s))
    return Schedule(whole.scheduled_ns[:count], whole.model[:count], traffic.duration_s, whole.provenance)


def louder_schedule(traffic: TrafficConfig, factor: float, duration_s: float, seed: int, model: str) -> Schedule:
    """Poisson arrivals at `factor` times the traffic's rate; of a trace, at its rate in steps of STEP_S."""
    pattern = pattern_of(traffic) or trace_pattern(make_schedule(traffic, model), STEP_S)
    times_s = np.arange(0.0, duration_s + STEP_S, STEP_S)
    rates = factor * pattern.rate_rps(times_s)
    return poisson_schedule(Trace(rates=tuple(rates.tolist()), interval_s=STEP_S), duration_s, seed, model)


def traffic_identity(run_id: str, traffic: TrafficConfig) -> Identity:
    """The identity of a single run with that traffic."""
    if traffic.trace is not None:
        return Identity(run_id, "trace", _of_trace(traffic), traffic.seed)
    return Identity(run_id, str(traffic.pattern), dict(traffic.parameters), traffic.seed)


def _of_trace(traffic: TrafficConfig) -> dict[str, Any]:
    """What was made of a trace."""
    assert traffic.trace is not None
    provenance = {"trace": traffic.trace.name, "speed_up": traffic.speed_up}
    if traffic.rate_factor is None:
        return {**provenance, "keep": traffic.keep}
    return {**provenance, "rate_interval_s": traffic.rate_interval_s, "rate_factor": traffic.rate_factor}
