"""Which runs a study makes. Pure: from a first look at service times to patterns and schedules."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from loadgen.schedule import Schedule
from workloads.catalog import ServiceConfig


def burst_schedule(model: str, service: ServiceConfig, lone_s: float, repeats: int) -> Schedule:
    """Arrivals that make every batch size run `repeats` times on one replica, with few requests.

    A burst first occupies each of the n instances with a request of its own; the b requests that follow within the
    first batch's time then form a batch of b. The queue is empty again before the next burst: lone_s is the seconds
    of a batch of one, and a batch of b is taken to need at most b of them. Sizes are interleaved, so that a slow
    phase of the machine does not fall on one size alone.
    """
    follow_s = min(1e-3, 0.2 * lone_s)
    times: list[float] = []
    now = 0.0
    for _ in range(repeats):
        for size in range(1, service.max_batch_size + 1):
            blockers = [now + follow_s * k for k in range(service.instances)]
            queued_at = blockers[-1] + follow_s
            times += blockers + [queued_at + 1e-6 * k for k in range(size)]
            now = queued_at + lone_s * (size + 1.8)
    scheduled_ns = np.rint(np.array(times) * 1e9).astype(np.int64)
    return Schedule(scheduled_ns, _names(model, len(times)), now, {"pattern": "bursts", "repeats": repeats})


def lone_schedule(model: str, requests: int, gap_s: float) -> Schedule:
    """Requests far apart: each meets an idle server."""
    scheduled_ns = np.rint(np.arange(requests) * gap_s * 1e9).astype(np.int64)
    return Schedule(scheduled_ns, _names(model, requests), requests * gap_s, {"pattern": "lone", "gap_s": gap_s})


def _names(model: str, n: int) -> npt.NDArray[np.object_]:
    return np.full(n, model, dtype=object)


def capacity_rps(service: ServiceConfig, mean_s: npt.NDArray[np.float64]) -> float:
    """Requests per second that all instances complete when no one ever waits for work: replicas * n * max b / S(b)."""
    sizes = np.arange(1, service.max_batch_size + 1)
    if service.dynamic_batching is None:
        sizes = sizes[:1]
    best = float(np.max(sizes / mean_s[: len(sizes)]))
    return service.replicas * service.instances * best


def held_out_pattern(name: str, peak_rps: float, duration_s: float, seed: int = 0) -> dict[str, Any]:
    """Parameters of one of KIS-S's four patterns, with that peak and its features fitted into the duration.

    ramp: from a fifth of the peak, over 60 % of the run, then hold. periodic: between a fifth of the peak and the
    peak, four periods. fluctuating: redrawn (from `seed`) between a fifth of the peak and the peak, twenty times.
    bursty: KIS-S's 1:10 spikes, four of them, two fifths of the time.
    """
    low = 0.2 * peak_rps
    shapes: dict[str, dict[str, Any]] = {
        "constant": {"rate": peak_rps},
        "ramp": {"low": low, "peak": peak_rps, "rise_s": 0.6 * duration_s},
        "periodic": {"mean": 0.6 * peak_rps, "amplitude": 0.4 * peak_rps, "period_s": duration_s / 4},
        "fluctuating": {"low": low, "high": peak_rps, "interval_s": duration_s / 20, "rate_seed": seed},
        "bursty": {"base": low / 2, "spike": peak_rps, "spike_s": duration_s / 10, "every_s": duration_s / 4},
    }
    return shapes[name]


def fit_run_id(model: str, service: ServiceConfig, load: float) -> str:
    """Name of a run that is fitted on; load: a share of the capacity."""
    return f"{model}-fit-{service.label}-{load:g}"


def held_out_run_id(model: str, service: ServiceConfig, pattern: str, repeat: int) -> str:
    """Name of a run that is judged on; repeat from 0."""
    base = f"{model}-{pattern}-{service.label}"
    return base if repeat == 0 else f"{base}-repeat{repeat}"


def seed_of(base: int, *parts: object) -> int:
    """A seed of its own for every run, the same every time: a checksum of the run's name and the base seed."""
    return zlib.crc32("/".join(map(str, (base, *parts))).encode())
