"""What the event loops read and write: the records of a replica, its queues and instances, and the outcome.

A *closed* run (kernel.py) is given all its requests at once and has an outcome for each. A *stream* (stream_loop.py) is
given them bit by bit, forgets each when it has ended, and knows of clients, nodes and devices; its records come last.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from testbed.measurement import latency_histogram

NEVER = np.iinfo(np.int64).max
NONE = -1
DRAWN = -1  # a length bucket that nobody has given
POLL_NS = 500_000_000  # a batcher that sleeps or waits for a free instance looks again after this long
MICROSECOND_NS = 1000
LONG_AGO = -(1 << 62)
# Share of batches whose end the batcher misses where nothing is prefetched (docs/explanation/batching.md): a race of
# two threads of Triton. 0.2 to 0.3 on two cores with tritonserver 2.51, up to 1 where processors are scarce.
MISSED_ENDS = 0.25
FIRST_KNOT_NS = 250_000  # of Sim.after_idle_ns, calibration.after_idle.FIRST_KNOT_S

# Outcomes; the last six only in a stream. ABANDONED: a batch had a request that its client had given up already; that
# it did has a row of its own.
OK, TIMED_OUT, QUEUE_FULL, CLIENT_TIMEOUT, CRASHED, NO_ENDPOINT, DROPPED, ABANDONED = range(8)
ROUND_ROBIN, LEAST_REQUESTS, ASSIGNED, RANDOM = range(4)

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
            "inter_batch_gap_ns",
            "timer_slack_ns",
            "balancer",
            "slow_step_ns",
        )
    ]
)
# Requests in a row: number of the first and the last one (Sim.link leads from one to the next), how many, their rows,
# and the earliest arrival of all that ever joined.
CHAIN = np.dtype([(name, np.int64) for name in ("front", "back", "length", "rows", "oldest_ns")])
REPLICA = np.dtype(
    [("queue", CHAIN), ("late", CHAIN)]  # the request queue; under DELAY, timed-out requests behind all others
    + [
        (name, np.int64)
        for name in (
            "closed",  # the current payload takes no more: saturated, or an instance took it
            "current_size",  # rows of the current payload; 0: not queued yet
            "next_preferred",  # rows in the queue that are worth waking the batcher for
            "timer_ns",  # when the batcher wakes by itself
            "slept_ns",  # since when it sleeps on an empty queue
            "for_slot",  # it waits for a free place in the payload queue
            "first_payload",  # the payload queue is a ring: place of its first, and how many
            "payloads",
            "idle",  # instances without a batch
            "next_free_ns",  # when the first busy instance becomes free
            "in_flight",  # requests not answered, or answered by an instance that is not free yet
            # Which rows hold: of rules and service times, of slow phases, and, in a stream, of the rest.
            "service",
            "slow",
            "model",
            "node",
            "device",
            "levels",
            # In a stream only.
            "pod",  # whose life this is; -1: nobody's
            "draining",
            "outstanding",  # sent by clients and not answered
            "next_end_ns",  # when the first running batch ends
            "running",  # batches
            "done",  # requests answered, as Triton counts them; and what they spent
            "refused",
            "batches",
            "queue_ns",
            "compute_ns",
            "busy_ns",  # of all batches: their time, each once
        )
    ]
)
# free_ns NEVER: idle; end_ns NEVER (in a stream): no batch runs; left_ns: end of its last batch, LONG_AGO: it had none.
# batch_size: rows. Not `size`: run as plain Python, a NumPy record answers that with an attribute of its own.
INSTANCE = np.dtype(
    [
        (name, np.int64)
        for name in ("free_ns", "end_ns", "batch_size", "requests", "start_ns", "front", "left_ns", "missed")
    ]
)
OUTCOME = np.dtype(
    [("start_ns", np.int64), ("end_ns", np.int64)]
    + [(name, np.int32) for name in ("batch_size", "position", "replica", "instance", "status")],
    align=True,
)


# A stream's own state.
STREAM = np.dtype(
    [
        (name, np.int64)
        for name in (
            "on",  # 0: a closed run
            "causal",  # all replicas' events in order of time; 0: each replica only when it is looked at
            "now_ns",
            "seed",
            "next_arrival",  # of Sim.feed_ns
            "arrivals",
            "next_id",
            "events",  # in the heap
            "next_event",
            "free",  # places in Sim.free
            "keeps_rows",
            "rows",
            "emptied",  # a draining replica that has just answered its last request, or -1
            "slow_first",  # step of the first column of Sim.slow
        )
    ]
)
REQUEST = np.dtype(
    [
        (name, np.int64)
        for name in ("id", "scheduled_ns", "sent_ns", "model", "replica", "pod", "user", "attempt", "abandoned")
    ]
    + [("egress_delay_ns", np.float64)]
)
EVENT = np.dtype([(name, np.int64) for name in ("time_ns", "order", "kind", "place", "id")])
DELIVER, RESEND, DEADLINE, USER = range(4)  # kinds of events; place: of the request, or the user's number
MODEL = np.dtype(
    [
        (name, np.int64)
        for name in (
            "balancer",
            "endpoints",  # how many of Sim.endpoints hold
            "turn",
            "timeout_ns",  # of the client, from when it sent; 0: none
            "watched",  # each timeout is an event: something follows from it
            "retries",
            "backoff_ns",
            "max_in_flight",  # of the open-loop client, which drops what would be more; 0: none
            "target_ns",  # of latency
            "first_user",  # closed-loop users from this number on, so many as `users`, go on; the others stop
            "users",
            "think_ns",  # of closed-loop users: mean
            "think_random",  # exponential (1) or constant (0)
            "arrived",
            "ok",
            "error",
            "timeout",
            "dropped",
            "missed",  # of those that have ended: not answered, or later than the target
        )
    ]
    + [("latency_ns", np.float64), ("per_position_ns", np.float64), ("per_size_ns", np.float64)]
)
NODE = np.dtype([("bucket", np.int64), ("bucket_end_ns", np.int64), ("count", np.int64)])
DEVICE = np.dtype(  # active_ns: in which a batch ran; network_ns: in which networks did, known where `networks` is 1
    [(name, np.int64) for name in ("sharing", "busy", "active_from_ns", "active_ns", "networks", "network_ns")]
    + [("batches_j", np.float64)]  # energy that batches took, beside what an idle device takes
)
ROW = np.dtype(
    [(name, np.int64) for name in ("id", "scheduled_ns", "completed_ns", "start_ns", "end_ns", "pod")]
    + [(name, np.int32) for name in ("model", "status", "batch_size", "position", "attempt", "instance")],
    align=True,
)
RATE_BUCKETS = 16  # of the window over which a node's rate is counted
BINS_AN_OCTAVE = latency_histogram.BINS_AN_OCTAVE  # who reads the histogram knows the same
BINS = latency_histogram.BINS


class Sim(NamedTuple):
    """Everything the loops read and write. A closed run has one row of everything, and no stream."""

    rules: Any  # RULES[services]: a service is a model on one kind of device
    preferred_upto: Any  # int64[services, B + 1]: largest preferred size <= s, else 0
    preferred_above: Any  # int64[services, B + 1]: smallest preferred size > s, else the smallest
    arrival_ns: Any  # int64[n]
    service_ns: Any  # float64[services, K, B + 1]: by the length bucket of a batch's longest request, and size
    request_rows: Any  # int64[n], or [1] if all have as many: of a request, its batch size
    bucket: Any  # int64[n]: length bucket of a request; [1] in a closed run whose requests are all alike
    after_idle_ns: Any  # float64[services, k]: more of a batch by how long its instance was idle, FIRST_KNOT_NS * 2**k
    noise: Any  # float64[n] or [1]
    slow: Any  # float64[rows, m]
    extra_ns: Any  # float64[n] or [1]
    pause_ns: Any  # float64[n] or [1]
    missed: Any  # int64[n] or [1]: the batcher misses the end of the batch that this request begins
    link: Any  # int64[n]: the next request in the chain
    replicas: Any  # REPLICA[r]
    payloads: Any  # CHAIN[r, 2 n]
    instances: Any  # INSTANCE[r, n]
    outcome: Any  # OUTCOME[n]; a stream has none
    stream: Any  # STREAM[1]
    feed_ns: Any  # int64[f]: open-loop arrivals to come, ascending
    feed_model: Any  # int64[f]
    feed_rows: Any  # int64[f], or [1] if all have as many
    feed_bucket: Any  # int64[f]: their length buckets; DRAWN: from bucket_upto
    bucket_upto: Any  # float64[models, K]: share of requests in this length bucket or one before
    requests: Any  # REQUEST[n]: a stream's requests have places; those of ended ones are used again
    free: Any  # int64[n]: places that are free
    events: Any  # EVENT[e]: a heap by time, then order
    models: Any  # MODEL[models]
    endpoints: Any  # int64[models, r]: replicas that get new requests
    nodes: Any  # NODE[nodes]
    node_rates: Any  # int64[nodes, RATE_BUCKETS]: arrivals
    devices: Any  # DEVICE[devices]
    network_ns: Any  # float64[services, B + 1]: of a batch's time, what its network takes on the device; 0: not known
    batch_j: Any  # float64[services, B + 1]: energy that a batch takes of the device; 0: not known
    sharing: Any  # float64[kinds, k]: factor on a batch's time by how many other replicas of the device are busy
    noise_table: Any  # float64[services, q]: quantile functions at evenly spaced probabilities
    contention: Any  # float64[services, 4]: ns per request/s, base rate, and the range of rates that is known
    levels: Any  # int64[rows]: how many levels of overhead a row has
    level_rates: Any  # float64[rows, levels]: requests/s
    level_tables: Any  # float64[rows, levels, 3, q]: quantile functions of ingress delay, egress delay and pause, ns
    histogram: Any  # int64[models, BINS]: answered requests by latency
    rows: Any  # ROW[k]
    tree: Any  # int64[2 p]: the earliest event of each replica, in a tree of minima
