"""TrafficConfig -> Schedule, and what a run's manifest says of it."""

from __future__ import annotations

from loadgen.patterns import make_pattern
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.traces import read_trace
from testbed.config import TrafficConfig
from testbed.pipeline.real_run import Identity


def make_schedule(traffic: TrafficConfig, model: str) -> Schedule:
    """Arrivals of a pattern (seeded Poisson) or of a trace; PatternError or TraceError if there is something wrong."""
    if traffic.trace is not None:
        return read_trace(traffic.trace, model, speed_up=traffic.speed_up, keep=traffic.keep, seed=traffic.seed)
    assert traffic.pattern is not None  # TrafficConfig has one of the two
    pattern = make_pattern(traffic.pattern, **traffic.parameters)
    return poisson_schedule(pattern, traffic.duration_s, traffic.seed, model)


def traffic_identity(run_id: str, traffic: TrafficConfig) -> Identity:
    """The identity of a single run with that traffic."""
    if traffic.trace is not None:
        told = {"trace": traffic.trace.name, "speed_up": traffic.speed_up, "keep": traffic.keep}
        return Identity(run_id, "trace", told, traffic.seed)
    return Identity(run_id, str(traffic.pattern), dict(traffic.parameters), traffic.seed)
