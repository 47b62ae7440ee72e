"""A Sim with nothing going on: empty queues, idle instances, tables of the right shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from testbed.simulation.rules import BatchingRules
from testbed.simulation.state import (
    CHAIN,
    DEVICE,
    EVENT,
    INSTANCE,
    LONG_AGO,
    MODEL,
    NEVER,
    NODE,
    OUTCOME,
    RATE_BUCKETS,
    REPLICA,
    REQUEST,
    ROW,
    RULES,
    STREAM,
    Sim,
)


def empty_sim(rules: Sequence[BatchingRules], replicas: int, instances: int, places: int) -> Sim:
    """One row of rules a service; `instances` is the most that a replica has. Everything else has one row of zeros.

    places: for requests that are under way at the same time; a closed run replaces these arrays by its own.
    """
    largest = max(rule.max_batch_size for rule in rules)
    upto, above = (np.zeros((len(rules), largest + 1), dtype=np.int64) for _ in range(2))
    for m, rule in enumerate(rules):
        preferred = np.array((0, *rule.preferred), dtype=np.int64)
        sizes = np.arange(rule.max_batch_size + 1)
        last = np.searchsorted(preferred, sizes, side="right") - 1
        upto[m, sizes] = preferred[last]
        above[m, sizes] = preferred[np.where(last + 1 < len(preferred), last + 1, 1)]
    return Sim(
        rules=np.concatenate([_record(rule) for rule in rules]),
        preferred_upto=upto,
        preferred_above=above,
        arrival_ns=np.zeros(places, dtype=np.int64),
        service_ns=np.zeros((1, 1, largest + 1)),
        request_rows=np.ones(1, dtype=np.int64),
        bucket=np.zeros(places, dtype=np.int64),
        after_idle_ns=np.zeros((1, 1)),
        noise=np.ones(places),
        slow=np.ones((1, 1)),
        extra_ns=np.zeros(places),
        pause_ns=np.zeros(places),
        missed=np.zeros(places, dtype=np.int64),
        link=np.zeros(places, dtype=np.int64),
        replicas=idle_replicas(replicas, max(rule.instances for rule in rules)),
        payloads=np.zeros((replicas, 2 * instances), dtype=CHAIN),
        instances=idle_instances((replicas, instances)),
        outcome=np.empty(1, dtype=OUTCOME),
        stream=np.zeros(1, dtype=STREAM),
        feed_ns=np.zeros(1, dtype=np.int64),
        feed_model=np.zeros(1, dtype=np.int64),
        feed_rows=np.ones(1, dtype=np.int64),
        feed_bucket=np.zeros(1, dtype=np.int64),
        bucket_upto=np.ones((1, 1)),
        requests=np.zeros(places, dtype=REQUEST),
        free=np.arange(places, dtype=np.int64),
        events=np.zeros(1, dtype=EVENT),
        models=np.zeros(1, dtype=MODEL),
        endpoints=np.zeros((1, 1), dtype=np.int64),
        nodes=np.zeros(1, dtype=NODE),
        node_rates=np.zeros((1, RATE_BUCKETS), dtype=np.int64),
        devices=np.zeros(1, dtype=DEVICE),
        network_ns=np.zeros((len(rules), largest + 1)),
        batch_j=np.zeros((len(rules), largest + 1)),
        sharing=np.ones((1, 1)),
        noise_table=np.ones((1, 2)),
        contention=np.zeros((1, 4)),
        levels=np.ones(1, dtype=np.int64),
        level_rates=np.zeros((1, 1)),
        level_tables=np.zeros((1, 1, 3, 2)),
        histogram=np.zeros((1, 1), dtype=np.int64),
        rows=np.zeros(1, dtype=ROW),
        tree=np.full(2, NEVER),
    )


def idle_replicas(count: int, instances: int) -> np.ndarray:
    """REPLICA[count] that hold nothing and belong to nobody."""
    replicas = np.zeros(count, dtype=REPLICA)
    replicas["timer_ns"] = replicas["next_free_ns"] = replicas["next_end_ns"] = NEVER
    replicas["idle"] = instances
    replicas["pod"] = -1
    return replicas


def idle_instances(shape: tuple[int, ...]) -> np.ndarray:
    """INSTANCE[shape] without a batch."""
    instances = np.zeros(shape, dtype=INSTANCE)
    instances["free_ns"] = instances["end_ns"] = NEVER
    instances["left_ns"] = LONG_AGO
    return instances


def _record(rules: BatchingRules) -> np.ndarray:
    """RULES[1]"""
    record = np.zeros(1, dtype=RULES)
    record["max_batch_size"] = rules.max_batch_size
    record["instances"] = rules.instances
    record["dynamic"] = rules.dynamic
    record["prefetches"] = rules.prefetches
    record["max_preferred"] = rules.preferred[-1]
    if rules.dynamic:
        record["delay_ns"] = rules.max_queue_delay_ns
        record["timeout_ns"] = rules.default_timeout_ns
        record["max_queue_size"] = rules.max_queue_size
    record["rejects"] = rules.timeout_action == "REJECT"
    record["inter_batch_gap_ns"] = rules.inter_batch_gap_ns
    record["timer_slack_ns"] = rules.timer_slack_ns
    record["slow_step_ns"] = 1
    return record
