"""The compiled loop of a stream: arrivals, balancing, clients; the replicas' own rules are event_loop.py's.

While nothing that a client does depends on answers, replicas are independent of each other between two arrivals, and
each is only advanced when a request reaches it: the cost of a run grows with its requests, not with its replicas. With
closed-loop users, retries, balancing by load, shared devices or draining replicas the order between replicas matters:
then the run is `causal`, and the next event of all is found in a tree of minima.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from testbed.simulation import answers, chains, event_loop, state
from testbed.simulation.answers import (
    close,
    drop_first_event,
    fail,
    goes_on,
    keep_row,
    push_event,
    release,
    vacate,
)
from testbed.simulation.chains import compiled, inlined, uniform
from testbed.simulation.event_loop import advance, on_arrival
from testbed.simulation.state import (
    CLIENT_TIMEOUT,
    CRASHED,
    DEADLINE,
    DELIVER,
    DRAWN,
    DROPPED,
    LEAST_REQUESTS,
    MISSED_ENDS,
    NEVER,
    NO_ENDPOINT,
    NONE,
    RANDOM,
    RATE_BUCKETS,
    RESEND,
    USER,
    Sim,
)

DONE, EMPTIED, MORE_PLACES, MORE_ROWS = range(4)  # why the loop returns
INGRESS, EGRESS, PAUSE = range(3)  # tables of an overhead level; also the numbers of their draws
DRAW_NOISE, DRAW_ENDPOINT, DRAW_MISSED, DRAWS_AN_ATTEMPT = 3, 4, 5, 64
DRAW_LENGTH = 17  # of a request, whatever its attempt; answers.DRAW_THINK is 16


@inlined
def rate_of(sim: Sim, node: int, window_ns: int, now: int) -> float:
    """Arrivals per second at a node in the last window, this one (counted here) included.

    Counted in buckets, of which the last is not over: what they cover, not the window, is what the count is of.
    """
    state, counts = sim.nodes[node], sim.node_rates
    if now >= state.bucket_end_ns:
        width = max(window_ns // RATE_BUCKETS, 1)
        passed = (now - state.bucket_end_ns) // width + 1
        for _ in range(min(passed, RATE_BUCKETS)):
            state.bucket = state.bucket + 1 if state.bucket + 1 < RATE_BUCKETS else 0
            state.count -= counts[node, state.bucket]
            counts[node, state.bucket] = 0
        state.bucket_end_ns += passed * width
    counts[node, state.bucket] += 1
    state.count += 1
    width = max(window_ns // RATE_BUCKETS, 1)
    covered = RATE_BUCKETS * width - (state.bucket_end_ns - now)
    return float(state.count) * 1e9 / float(min(max(now, window_ns // 10), covered))


@inlined
def looked_up(table: Any, row: int, u: float) -> float:
    """Quantile function in a row of a table, linear between evenly spaced probabilities."""
    x = u * (table.shape[1] - 1)
    k = min(int(x), table.shape[1] - 2)
    return float(table[row, k] + (x - k) * (table[row, k + 1] - table[row, k]))


@inlined
def overhead(sim: Sim, row: int, below: int, weight: float, kind: int, u: float) -> float:
    """Nanoseconds of ingress delay, egress delay or pause: interpolated between two levels of load."""
    tables = sim.level_tables
    x = u * (tables.shape[3] - 1)
    k = min(int(x), tables.shape[3] - 2)
    x -= k
    value = tables[row, below, kind, k] * (1 - x) + tables[row, below, kind, k + 1] * x
    if weight > 0:
        above = tables[row, below + 1, kind, k] * (1 - x) + tables[row, below + 1, kind, k + 1] * x
        value = value * (1 - weight) + above * weight
    return float(value)


@inlined
def chosen(sim: Sim, m: int, number: int, attempt: int) -> int:
    """The endpoint of model m that a request goes to."""
    model = sim.models[m]
    if model.balancer == RANDOM:
        u = uniform(sim, number, DRAW_ENDPOINT + DRAWS_AN_ATTEMPT * attempt)
        return int(sim.endpoints[m, min(int(u * model.endpoints), model.endpoints - 1)])
    first = model.turn if model.turn < model.endpoints else 0
    best = first
    if model.balancer == LEAST_REQUESTS:
        fewest = NEVER
        for step in range(model.endpoints):
            k = first + step if first + step < model.endpoints else first + step - model.endpoints
            outstanding = sim.replicas[sim.endpoints[m, k]].outstanding
            if outstanding < fewest:
                best, fewest = k, outstanding
    model.turn = best + 1
    return int(sim.endpoints[m, best])


@inlined
def new_request(sim: Sim, m: int, scheduled_ns: int, user: int, bucket: int, rows: int) -> int:
    """A place for a request that a client sends for the first time."""
    stream = sim.stream[0]
    stream.free -= 1
    i = sim.free[stream.free]
    request = sim.requests[i]
    request.id, request.scheduled_ns, request.model, request.user = stream.next_id, scheduled_ns, m, user
    request.attempt, request.abandoned, request.replica, request.pod = 0, 0, NONE, NONE
    stream.next_id += 1
    sim.models[m].arrived += 1
    if bucket == DRAWN:
        bucket = 0
        if sim.bucket_upto.shape[1] > 1:
            u = uniform(sim, request.id, DRAW_LENGTH)
            while bucket + 1 < sim.bucket_upto.shape[1] and sim.bucket_upto[m, bucket] <= u:
                bucket += 1
    sim.bucket[i] = bucket
    if len(sim.request_rows) > 1:
        sim.request_rows[i] = rows
    return int(i)


@inlined
def send(sim: Sim, i: int, now: int, window_ns: int) -> None:
    """The client sends request i: an endpoint is chosen, and all that is random about the request is drawn."""
    request = sim.requests[i]
    request.sent_ns = now
    model = sim.models[request.model]
    if model.endpoints == 0:
        fail(sim, i, now, NO_ENDPOINT)
        return
    r = chosen(sim, request.model, request.id, request.attempt)
    replica = sim.replicas[r]
    request.replica, request.pod = r, replica.pod
    replica.outstanding += replica.pod != NONE  # a crashed one, whose endpoint is still known, answers nobody
    draw = DRAWS_AN_ATTEMPT * request.attempt
    rate = rate_of(sim, replica.node, window_ns, now)
    row, below, weight = replica.levels, 0, 0.0
    last = sim.levels[row] - 1
    while below < last and sim.level_rates[row, below + 1] <= rate:
        below += 1
    if below < last and rate > sim.level_rates[row, below]:
        low = sim.level_rates[row, below]
        weight = (rate - low) / (sim.level_rates[row, below + 1] - low)
    known = min(max(rate, sim.contention[replica.service, 2]), sim.contention[replica.service, 3])
    sim.noise[i] = looked_up(sim.noise_table, replica.service, uniform(sim, request.id, draw + DRAW_NOISE))
    if not sim.rules[replica.service].prefetches:
        sim.missed[i] = uniform(sim, request.id, draw + DRAW_MISSED) < MISSED_ENDS
    sim.extra_ns[i] = sim.contention[replica.service, 0] * (known - sim.contention[replica.service, 1])
    sim.pause_ns[i] = overhead(sim, row, below, weight, PAUSE, uniform(sim, request.id, draw + PAUSE))
    request.egress_delay_ns = overhead(sim, row, below, weight, EGRESS, uniform(sim, request.id, draw + EGRESS))
    ingress_delay_ns = overhead(sim, row, below, weight, INGRESS, uniform(sim, request.id, draw + INGRESS))
    if model.watched:
        push_event(sim, now + model.timeout_ns, DEADLINE, i, request.id)
    push_event(sim, now + max(0, int(np.floor(ingress_delay_ns + 0.5))), DELIVER, i, request.id)


@inlined
def deliver(sim: Sim, i: int, now: int) -> None:
    """Request i reaches its replica, if that is still there."""
    request = sim.requests[i]
    r = request.replica
    if request.pod == NONE or sim.replicas[r].pod != request.pod:  # it crashed, or clients had not heard of its end
        fail(sim, i, now, CRASHED)
        return
    sim.arrival_ns[i] = now
    advance(sim, r, now)
    on_arrival(sim, r, i, now)
    note_event(sim, r)


@inlined
def give_up(sim: Sim, i: int, number: int, now: int) -> None:
    """The deadline of a request: if it is still on its way, its client stops to wait; the server does not know."""
    request = sim.requests[i]
    model = sim.models[request.model]
    if request.id != number or request.abandoned or request.sent_ns != now - model.timeout_ns:
        return  # it has ended, or is another attempt of the same
    stream = sim.stream[0]
    if request.attempt < model.retries:
        stream.free -= 1
        again = sim.free[stream.free]
        copy = sim.requests[again]
        sim.bucket[again] = sim.bucket[i]
        if len(sim.request_rows) > 1:
            sim.request_rows[again] = sim.request_rows[i]
        copy.id, copy.scheduled_ns, copy.model, copy.user = (
            request.id,
            request.scheduled_ns,
            request.model,
            request.user,
        )
        copy.attempt, copy.abandoned, copy.replica, copy.pod = request.attempt + 1, 0, NONE, NONE
        push_event(sim, now + model.backoff_ns, RESEND, again, copy.id)
    else:
        close(sim, i, now, CLIENT_TIMEOUT)
        keep_row(sim, i, now, CLIENT_TIMEOUT, now, now, 0, 0, NONE)
    request.abandoned = 1


@inlined
def note_event(sim: Sim, r: int) -> None:
    """The tree learns the next event of replica r."""
    if sim.stream[0].causal:
        state = sim.replicas[r]
        k = len(sim.tree) // 2 + r
        sim.tree[k] = min(state.next_free_ns, state.timer_ns, state.next_end_ns)
        while k > 1:
            k //= 2
            sim.tree[k] = min(sim.tree[2 * k], sim.tree[2 * k + 1])


@inlined
def first_replica(sim: Sim) -> int:
    """The replica with the earliest event; the lowest of several."""
    k, half = 1, len(sim.tree) // 2
    while k < half:
        k = 2 * k if sim.tree[2 * k] == sim.tree[k] else 2 * k + 1
    return k - half


@inlined
def client_turn(sim: Sim, now: int, has_event: bool, window_ns: int) -> None:
    """The first event of the heap, or else the next open-loop arrival."""
    stream = sim.stream[0]
    kind, number, i = RESEND, 0, 0
    if has_event:
        kind, number, i = sim.events[0].kind, sim.events[0].id, sim.events[0].place
        drop_first_event(sim)
    else:
        arrival = stream.next_arrival
        rows = sim.feed_rows[arrival] if len(sim.feed_rows) > 1 else sim.feed_rows[0]
        i = new_request(sim, sim.feed_model[arrival], now, NONE, sim.feed_bucket[arrival], rows)
        stream.next_arrival += 1
        model = sim.models[sim.requests[i].model]
        if model.max_in_flight > 0:
            ended = model.ok + model.error + model.timeout + model.dropped
            if model.arrived - 1 - ended >= model.max_in_flight:
                close(sim, i, now, DROPPED)
                keep_row(sim, i, now, DROPPED, now, now, 0, 0, NONE)
                release(sim, i)
                return
    if kind == USER:
        if not goes_on(sim.models[number], i):  # of a user, the number is the model's
            return
        i = new_request(sim, number, now, i, DRAWN, 1)
        kind = RESEND
    if kind == DELIVER:
        deliver(sim, i, now)
    elif kind == DEADLINE:
        give_up(sim, i, number, now)
    else:
        send(sim, i, now, window_ns)


@inlined
def step(sim: Sim, until: int, window_ns: int) -> int:
    """Everything up to and including `until`, or to the point where the caller must do something."""
    stream = sim.stream[0]
    if stream.causal:
        for r in range(len(sim.replicas)):
            note_event(sim, r)
    while True:
        if stream.free < 2 or len(sim.events) - stream.events < len(sim.requests) + 4:  # a place has one in a step
            return MORE_PLACES
        if stream.keeps_rows and stream.rows > len(sim.rows) - len(sim.requests) - 1:
            return MORE_ROWS
        feed_ns = sim.feed_ns[stream.next_arrival] if stream.next_arrival < stream.arrivals else NEVER
        event_ns = sim.events[0].time_ns if stream.events > 0 else NEVER
        soonest = min(feed_ns, event_ns)
        if stream.causal and sim.tree[1] <= min(soonest, until):
            r = first_replica(sim)
            stream.now_ns = sim.tree[1]
            advance(sim, r, stream.now_ns)
            note_event(sim, r)
            if sim.replicas[r].draining > 0 and sim.replicas[r].outstanding == 0:
                stream.emptied = r
                return EMPTIED
            continue
        if soonest > until:
            break
        stream.now_ns = soonest
        client_turn(sim, soonest, event_ns <= feed_ns, window_ns)
    if not stream.causal:
        for r in range(len(sim.replicas)):
            advance(sim, r, until)
    stream.now_ns = until
    return DONE


@inlined
def lose(sim: Sim, r: int, now: int) -> None:
    """Replica r is gone at `now`, with all that it held: those requests get an error."""
    state = sim.replicas[r]
    for queue in (0, 1):
        i = state.queue.front if queue == 0 else state.late.front
        length = state.queue.length if queue == 0 else state.late.length
        for _ in range(length):
            following = sim.link[i]
            fail(sim, i, now, CRASHED)
            i = following
    for place in range(state.payloads):
        at = state.first_payload + place
        payload = sim.payloads[r, at if at < sim.payloads.shape[1] else at - sim.payloads.shape[1]]
        i = payload.front
        for _ in range(payload.length):
            following = sim.link[i]
            fail(sim, i, now, CRASHED)
            i = following
    for k in range(sim.instances.shape[1]):
        instance = sim.instances[r, k]
        if instance.end_ns != NEVER:
            i = instance.front
            for _ in range(instance.requests):
                following = sim.link[i]
                fail(sim, i, now, CRASHED)
                i = following
            vacate(sim, r, now)
        instance.end_ns = instance.free_ns = NEVER


def _compiled_loops(sources: int) -> Any:
    """The two entries, cached for these sources: numba looks at this file's date and at the closure."""

    @compiled
    def run_until(sim: Sim, until: int, window_ns: int) -> int:
        return step(sim, until, window_ns) if sources >= 0 else DONE

    @compiled
    def lose_replica(sim: Sim, r: int, now: int) -> None:
        if sources >= 0:
            lose(sim, r, now)

    return run_until, lose_replica


_SOURCES = (Path(chains.__file__), Path(answers.__file__), Path(event_loop.__file__), Path(state.__file__))
run_until, lose_replica = _compiled_loops(zlib.crc32(b"".join(file.read_bytes() for file in _SOURCES)))
