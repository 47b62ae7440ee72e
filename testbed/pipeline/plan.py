"""Which runs a study makes. Pure: from a first look at service times to patterns and schedules."""

from __future__ import annotations

import math
import zlib

import numpy as np
import numpy.typing as npt

from loadgen.schedule import Schedule
from testbed.calibration.evidence import CAPACITY
from workloads.catalog import ServiceConfig

EVERY_SIZE = 16  # up to it all batch sizes are made; beyond, those in between follow from their neighbours
LONE_SHARE = 0.4  # of a run's requests
LARGEST_BURST = 512  # requests: well below what a client has in flight at most


def profiled_sizes(max_batch_size: int) -> list[int]:
    """Batch sizes that bursts make: all up to 16; beyond, multiples of 8 and the sizes after them, where steps are."""
    beyond = range(EVERY_SIZE + 1, max_batch_size + 1)
    return [*range(1, min(EVERY_SIZE, max_batch_size) + 1), *(b for b in beyond if b % 8 < 2 or b == max_batch_size)]


def burst_schedule(
    model: str, service: ServiceConfig, lone_s: float, repeats: int, largest_s: float = math.inf
) -> Schedule:
    """Arrivals that make the profiled batch sizes run `repeats` times on one replica, with few requests.

    A burst first occupies each of the n instances with a request of its own; the b requests that follow within the
    first batch's time then form a batch of b. The queue is empty again before the next burst: lone_s is the seconds of
    a batch of one; a batch of b is taken to need at most b of them, and none more than largest_s. Sizes are
    interleaved, so that a slow phase of the machine does not fall on one size alone.
    """
    follow_s = min(1e-3, 0.2 * lone_s)
    times: list[float] = []
    now = 0.0
    for _ in range(repeats):
        for size in profiled_sizes(service.max_batch_size):
            blockers = [now + follow_s * k for k in range(service.instances)]
            queued_at = blockers[-1] + follow_s
            times += blockers + [queued_at + 1e-6 * k for k in range(size)]
            now = queued_at + 1.8 * lone_s + min(lone_s * size, largest_s)
    scheduled_ns = np.rint(np.array(times) * 1e9).astype(np.int64)
    return Schedule(scheduled_ns, _names(model, len(times)), now, {"pattern": "bursts", "repeats": repeats})


def largest_schedule(model: str, service: ServiceConfig, lone_s: float, repeats: int) -> Schedule:
    """Bursts of the largest batch alone, behind a request each: what a batch takes at most."""
    gap_s = lone_s * (service.max_batch_size + 2)
    burst = np.concatenate([[0.0], np.full(service.max_batch_size, min(1e-3, 0.2 * lone_s))])
    times = np.concatenate([number * gap_s + burst for number in range(repeats)])
    scheduled_ns = np.rint(times * 1e9).astype(np.int64)
    return Schedule(scheduled_ns, _names(model, len(times)), repeats * gap_s, {"pattern": "largest"})


def capacity_schedule(model: str, service: ServiceConfig, size: int, batch_s: float, batches: int) -> Schedule:
    """Arrivals that make about `batches` batches of that size on one replica, one after the other; batch_s: of each.

    Bursts of up to ten full batches an instance, and a request each before them that makes the rest wait. Requests of
    one burst come together, and the queue is empty before the next one: no request waits for more than eleven batches.
    """
    follow_s = min(1e-3, 0.2 * batch_s)
    deep = max(1, min(10, LARGEST_BURST // (size * service.instances)))
    times: list[float] = []
    now = 0.0
    for _ in range(max(1, round(batches / (deep * service.instances)))):
        blockers = [now + follow_s * k for k in range(service.instances)]
        queued_at = blockers[-1] + follow_s
        times += blockers + [queued_at + 1e-6 * k for k in range(size * deep * service.instances)]
        now = queued_at + batch_s * (deep + 1.8)
    scheduled_ns = np.rint(np.array(times) * 1e9).astype(np.int64)
    return Schedule(scheduled_ns, _names(model, len(times)), now, {"pattern": CAPACITY, "batch_size": size})


def lone_schedule(model: str, requests: int, gap_s: float) -> Schedule:
    """Requests far apart: each meets an idle server."""
    scheduled_ns = np.rint(np.arange(requests) * gap_s * 1e9).astype(np.int64)
    return Schedule(scheduled_ns, _names(model, requests), requests * gap_s, {"pattern": "lone", "gap_s": gap_s})


def lone_rate_rps(service: ServiceConfig, lone_s: float) -> float:
    """The largest rate at which two requests of five are alone in the service, which the overhead is taken from where
    nothing else tells it: no other one while it waits for its batch and is served, and none that would join it."""
    delay_s = 0.0 if service.dynamic_batching is None else service.dynamic_batching.max_queue_delay_s
    return -math.log(LONE_SHARE) / (2 * delay_s + lone_s)


def _names(model: str, n: int) -> npt.NDArray[np.object_]:
    return np.full(n, model, dtype=object)


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
