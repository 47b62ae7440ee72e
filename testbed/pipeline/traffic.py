"""TrafficConfig -> Schedule, and what a run's manifest says of it."""

from __future__ import annotations

import numpy as np

from loadgen.patterns import make_pattern
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.traces import read_trace
from testbed.config import TrafficConfig
from testbed.pipeline.real_run import Identity

PATTERN_S = 30.0  # of a pattern, if no duration is given


def make_schedule(traffic: TrafficConfig, model: str) -> Schedule:
    """Arrivals of a pattern (seeded Poisson) or of a trace; PatternError or TraceError if there is something wrong."""
    if traffic.trace is None:
        assert traffic.pattern is not None  # TrafficConfig has one of the two
        pattern = make_pattern(traffic.pattern, **traffic.parameters)
        return poisson_schedule(pattern, traffic.duration_s or PATTERN_S, traffic.seed, model)
    whole = read_trace(
        traffic.trace, model, format=traffic.format, speed_up=traffic.speed_up, keep=traffic.keep, seed=traffic.seed
    )
    if traffic.duration_s is None or traffic.duration_s >= whole.duration_s:
        return whole
    count = int(np.searchsorted(whole.scheduled_s, traffic.duration_s))
    return Schedule(whole.scheduled_ns[:count], whole.model[:count], traffic.duration_s, whole.provenance)


def traffic_identity(run_id: str, traffic: TrafficConfig) -> Identity:
    """The identity of a single run with that traffic."""
    if traffic.trace is not None:
        told = {"trace": traffic.trace.name, "speed_up": traffic.speed_up, "keep": traffic.keep}
        return Identity(run_id, "trace", told, traffic.seed)
    return Identity(run_id, str(traffic.pattern), dict(traffic.parameters), traffic.seed)
