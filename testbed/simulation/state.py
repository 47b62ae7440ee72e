"""What the event loop reads and writes: the records of a replica, its queues and instances, and the outcome."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

NEVER = np.iinfo(np.int64).max
NONE = -1
POLL_NS = 500_000_000  # a batcher that sleeps or waits for a free instance looks again after this long
MICROSECOND_NS = 1000

OK, TIMED_OUT, QUEUE_FULL = 0, 1, 2
ROUND_ROBIN, LEAST_REQUESTS, ASSIGNED = 0, 1, 2

RULES = np.dtype(
    [
        (name, np.int64)
        for name in (
            "max_batch_size",
            "instances",
            "dynamic",
            "prefetches",
            "max_preferred",
            "delay_ns",
            "timeout_ns",
            "rejects",  # a timed-out request is refused (1) or moved behind the others (0)
            "max_queue_size",
            "turnaround_ns",
            "timer_slack_ns",
            "balancer",
            "slow_step_ns",
        )
    ]
)
# Requests in a row: number of the first and the last one (Sim.link leads from one to the next), how many, and the
# earliest arrival of all that ever joined.
CHAIN = np.dtype([(name, np.int64) for name in ("front", "back", "length", "oldest_ns")])
REPLICA = np.dtype(
    [("queue", CHAIN), ("late", CHAIN)]  # the request queue; under DELAY, timed-out requests behind all others
    + [
        (name, np.int64)
        for name in (
            "closed",  # the current payload takes no more: saturated, or an instance took it
            "current_size",  # of the current payload; 0: not queued yet
            "next_preferred",  # queue length worth waking the batcher for
            "timer_ns",  # when the batcher wakes by itself
            "slept_ns",  # since when it sleeps on an empty queue
            "for_slot",  # it waits for a free place in the payload queue
            "first_payload",  # the payload queue is a ring: place of its first, and how many
            "payloads",
            "idle",  # instances without a batch
            "next_free_ns",  # when the first busy instance becomes free
            "in_flight",  # requests not answered, or answered by an instance that is not free yet
        )
    ]
)
INSTANCE = np.dtype([("free_ns", np.int64), ("end_ns", np.int64), ("size", np.int64)])  # free_ns NEVER: idle
OUTCOME = np.dtype(
    [("start_ns", np.int64), ("end_ns", np.int64)]
    + [(name, np.int32) for name in ("batch_size", "position", "replica", "instance", "status")],
    align=True,
)


class Sim(NamedTuple):
    """Everything the loop reads and writes."""

    rules: Any  # RULES[1]
    preferred_upto: Any  # int64[B + 1]: largest preferred size <= s, else 0
    preferred_above: Any  # int64[B + 1]: smallest preferred size > s, else the smallest
    arrival_ns: Any  # int64[n]
    service_ns: Any  # float64[B + 1]
    noise: Any  # float64[n] or [1]
    slow: Any  # float64[m]
    extra_ns: Any  # float64[n] or [1]
    pause_ns: Any  # float64[n] or [1]
    link: Any  # int64[n]: the next request in the chain
    replicas: Any  # REPLICA[r]
    payloads: Any  # CHAIN[r, 2 n]
    instances: Any  # INSTANCE[r, n]
    outcome: Any  # OUTCOME[n]
