"""The simulation kernel on plain arrays: arrival times in, start, end and batch of each request out.

    rules = BatchingRules(max_batch_size=8, max_queue_delay_ns=2_000_000)
    result = simulate_batches(arrival_ns, service_ns, np.ones(1), rules)

docs/explanation/batching.md states the rules that it follows, and the order of simultaneous events.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.simulation import event_loop
from testbed.simulation.rules import BatchingRules
from testbed.simulation.state import ASSIGNED, LEAST_REQUESTS, OUTCOME, ROUND_ROBIN, Sim
from testbed.simulation.tables import empty_sim
from workloads.catalog import Balancer

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
SmallIntArray = npt.NDArray[np.int32]


class KernelResult(NamedTuple):
    """One entry a request, in the order of arrival. Columns are views into one table.

    status 0: served; 1: timed out in the queue; 2: refused, the queue was full. A refused request has start = end =
    the time of its refusal, batch size 0, position 0 and instance -1.
    """

    start_ns: IntArray
    end_ns: IntArray
    batch_size: SmallIntArray
    position: SmallIntArray
    replica: SmallIntArray
    instance: SmallIntArray
    status: SmallIntArray


def simulate_batches(
    arrival_ns: npt.ArrayLike,
    service_ns: npt.ArrayLike,
    noise: npt.ArrayLike,
    rules: BatchingRules,
    *,
    replicas: int = 1,
    balancer: Balancer = "round_robin",
    assigned: npt.ArrayLike | None = None,
    slow: npt.ArrayLike | None = None,
    slow_step_ns: int = 1,
    extra_ns: npt.ArrayLike | None = None,
    pause_ns: npt.ArrayLike | None = None,
    missed: npt.ArrayLike = 0,
    after_idle_ns: npt.ArrayLike = 0.0,
    bucket: npt.ArrayLike = 0,
    rows: npt.ArrayLike = 1,
) -> KernelResult:
    """Serve requests by `rules` on `replicas` replicas behind a balancer.

    arrival_ns: int[n], ascending, not negative.
    service_ns: float[B + 1], time of a batch by its size (entry 0 is not used); or float[K, B + 1], a row for each
        length bucket: a batch has the row of the highest bucket of its requests.
    noise: float[n] or [1], factor on a batch's time; a batch has the factor of its first request.
    assigned: int[n], the replica of each request; None leaves it to the balancer.
    slow: float[m], factor of the machine at time t: slow[t // slow_step_ns], the last entry for ever after.
    extra_ns: float[n] or [1], added to a batch's time; a batch has that of its first request.
    pause_ns: float[n] or [1], >= 0, added to the inter-batch gap after a batch; a batch has that of its first request.
    missed: int[n] or [1], 1: Triton's batcher misses the end of a batch with this first request. Without prefetching
        alone: it then sends the next batch when a request joins the queue, or when it looks again by itself.
    after_idle_ns: float[k], more of a batch whose instance was idle for FIRST_KNOT_NS * 2**k; linear in the logarithm
        between, the first value below and the last one beyond, and for an instance's first batch.
    bucket: int[n] or [1], length bucket of each request.
    rows: int[n] or [1], rows of each request, its own batch size: they add up to the size of a batch.

    A batch of size b with first request i, started at t on an instance that was idle for g, ends after
    service_ns[b] * noise[i] * slow(t) + extra_ns[i] + after_idle(g)  rounded to nanoseconds; its instance is free again
    rules.inter_batch_gap_ns + pause_ns[i] later.

    ValueError names the argument that does not fit.
    """
    arrival = np.ascontiguousarray(arrival_ns, dtype=np.int64)
    if arrival.ndim != 1 or (len(arrival) > 0 and (arrival[0] < 0 or np.any(arrival[1:] < arrival[:-1]))):
        raise ValueError("arrival_ns must be one ascending row of times from 0 on: sort it")
    if replicas < 1:
        raise ValueError(f"replicas must be 1 or more, not {replicas}")
    if slow_step_ns < 1:
        raise ValueError(f"slow_step_ns must be 1 or more, not {slow_step_ns}")
    fits = (1, len(arrival))
    tables = [_floats("service_ns", row, (rules.max_batch_size + 1,)) for row in np.atleast_2d(np.asarray(service_ns))]
    of_rows = _floats("rows", rows, fits).astype(np.int64)
    if np.any((of_rows < 1) | (of_rows > rules.max_batch_size)):
        raise ValueError(f"rows must be 1..max_batch_size ({rules.max_batch_size}) of each request")
    of_bucket = np.ascontiguousarray(np.broadcast_to(np.asarray(bucket, dtype=np.int64), arrival.shape))
    if len(of_bucket) and not 0 <= of_bucket.min() <= of_bucket.max() < len(tables):
        raise ValueError(f"bucket must name a row 0..{len(tables) - 1} of service_ns")
    sim = _empty_service(rules, replicas, len(arrival))._replace(
        arrival_ns=arrival,
        service_ns=np.stack(tables)[np.newaxis],
        request_rows=of_rows,
        bucket=of_bucket,
        after_idle_ns=_floats("after_idle_ns", after_idle_ns, None)[np.newaxis],
        noise=_floats("noise", noise, fits),
        slow=_floats("slow", 1.0 if slow is None else slow, None)[np.newaxis],
        extra_ns=_floats("extra_ns", 0.0 if extra_ns is None else extra_ns, fits),
        pause_ns=_floats("pause_ns", 0.0 if pause_ns is None else pause_ns, fits),
        missed=_floats("missed", missed, fits).astype(np.int64),
    )
    sim.rules["slow_step_ns"] = slow_step_ns
    sim.rules["balancer"] = LEAST_REQUESTS if balancer == "least_requests" else ROUND_ROBIN
    target = np.zeros(1, dtype=np.int64)
    if assigned is not None:
        target = np.ascontiguousarray(assigned, dtype=np.int64)
        if target.shape != arrival.shape or np.any((target < 0) | (target >= replicas)):
            raise ValueError(f"assigned must name a replica 0..{replicas - 1} for each of {len(arrival)} requests")
        sim.rules["balancer"] = ASSIGNED
    event_loop.run(sim, target)
    return KernelResult(*(sim.outcome[column] for column in KernelResult._fields))


def _floats(name: str, values: npt.ArrayLike, lengths: tuple[int, ...] | None) -> FloatArray:
    array = np.ascontiguousarray(np.atleast_1d(np.asarray(values, dtype=np.float64)))
    if array.ndim != 1 or len(array) == 0 or (lengths is not None and len(array) not in lengths):
        wanted = "at least one value" if lengths is None else " or ".join(map(str, lengths)) + " values in a row"
        raise ValueError(f"{name} must have {wanted}, not shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} has a value that is not finite")
    return array


def _empty_service(rules: BatchingRules, replicas: int, requests: int) -> Sim:
    """Empty queues, idle instances; the inputs are still to come."""
    return empty_sim([rules], replicas, rules.instances, places=1)._replace(
        link=np.zeros(requests, dtype=np.int64), outcome=np.empty(requests, dtype=OUTCOME)
    )
