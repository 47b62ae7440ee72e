"""The compiled event loop: Triton's batching rules (docs/explanation/batching.md) for r replicas of n instances.

Time is int64 nanoseconds. A replica is a record; its queues are chains of requests (chains.py). Only the replica that a
request goes to is advanced, so the cost of a run grows with its requests, not with its replicas.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from testbed.simulation import answers, chains, state
from testbed.simulation.answers import end_batch, fail, occupy
from testbed.simulation.chains import compiled, inlined, join, move, record, rows_of
from testbed.simulation.state import (
    ASSIGNED,
    FIRST_KNOT_NS,
    MICROSECOND_NS,
    NEVER,
    NONE,
    OK,
    POLL_NS,
    QUEUE_FULL,
    ROUND_ROBIN,
    TIMED_OUT,
    Sim,
)


@inlined
def refuse(sim: Sim, r: int, i: int, now: int, status: int) -> None:
    """The server does not serve request i."""
    if sim.stream[0].on:
        sim.replicas[r].outstanding -= 1
        sim.replicas[r].refused += 1
        fail(sim, i, now, status)
    else:
        record(sim, i, r, NONE, now, now, 0, 0, status)


@inlined
def slot_free(sim: Sim, r: int) -> bool:
    """May the batcher queue another payload?"""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    return bool(state.payloads < 2 * rules.instances if rules.prefetches else state.idle > state.payloads)


@inlined
def refuse_expired(sim: Sim, r: int, now: int) -> None:
    """Requests over their timeout leave the queue: refused, or moved behind all others. They are its oldest."""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    queue = state.queue
    while rules.timeout_ns > 0 and queue.length > 0 and sim.arrival_ns[queue.front] + rules.timeout_ns < now:
        if rules.rejects:
            expired = queue.front
            queue.front = sim.link[expired]
            refuse(sim, r, expired, now, TIMED_OUT)
            queue.length -= 1
            queue.rows -= rows_of(sim, expired)
            state.in_flight -= 1
        else:
            move(sim, queue, state.late, 1)


@inlined
def counted(sim: Sim, r: int) -> tuple[int, int, bool]:
    """Step 4 of the rules where each request has one row, without walking: requests that fit, and those of the
    remembered size (0: none); can the batch grow no more?"""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    waiting, size = state.queue.length + state.late.length, state.current_size
    pending = min(waiting, rules.max_batch_size - size)
    remembered = 0
    if size < rules.max_preferred:
        if sim.preferred_upto[state.service, size + pending] > size:
            remembered = sim.preferred_upto[state.service, size + pending] - size
    elif waiting > 0:  # at the largest preferred size or beyond: closes, and one request is remembered if two wait
        state.closed = 1
        remembered = 1 if pending > 0 and waiting > 1 else 0
    return pending, remembered, size + pending >= rules.max_preferred


@inlined
def walked(sim: Sim, r: int) -> tuple[int, int, int, bool]:
    """Step 4 of the rules, request by request: those that fit, their rows, and the rest as `counted` has it."""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    size, pending, remembered, remembered_rows, full = state.current_size, 0, 0, 0, False
    rows = size
    i = state.queue.front
    for place in range(state.queue.length + state.late.length):
        if place == state.queue.length:
            i = state.late.front
        with_it = rows + rows_of(sim, i)
        if rows > 0:
            if with_it > rules.max_preferred and remembered_rows == 0:
                remembered, remembered_rows, state.closed = pending, rows - size, 1
            if with_it > rules.max_batch_size:
                full = True
                break
        rows = with_it
        pending += 1
        if sim.preferred_upto[state.service, rows] == rows:
            remembered, remembered_rows = pending, rows - size
        i = sim.link[i]
    return pending, rows - size, remembered, full or rows >= rules.max_preferred


@inlined
def form_batch(sim: Sim, r: int, now: int) -> tuple[int, int]:
    """(requests to send now, or 0; nanoseconds to sleep if none): steps 4 and 5 of the rules."""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    size = state.current_size
    if len(sim.request_rows) == 1 and sim.request_rows[0] == 1:
        pending, remembered, full = counted(sim, r)
        rows = pending
    else:
        pending, rows, remembered, full = walked(sim, r)
    if pending == 0:
        return 0, 0
    oldest = state.late.front if pending > state.queue.length else state.queue.front
    age = now - sim.arrival_ns[oldest]
    late = rules.delay_ns > 0 and age >= rules.delay_ns
    if remembered > 0 and not late:
        if rules.delay_ns == 0:
            state.closed = 1
        return remembered, 0
    if full:
        state.closed = 1
        return pending, 0
    if late or rules.delay_ns == 0:
        return pending, 0
    state.next_preferred = sim.preferred_above[state.service, size + rows] - size
    if size > 0 and not state.closed and sim.preferred_upto[state.service, size] != size:
        return pending, 0
    wait_ns = (rules.delay_ns - age) // MICROSECOND_NS * MICROSECOND_NS
    if rules.timeout_ns > 0 and state.queue.length > 0:  # no sleeper wakes early: when it does, the timeout has passed
        wait_ns = min(wait_ns, sim.arrival_ns[state.queue.front] + rules.timeout_ns - now + 1)
    return (pending, 0) if wait_ns == 0 else (0, wait_ns)


@inlined
def send(sim: Sim, r: int, count: int) -> None:
    """Move the first `count` waiting requests to the current payload, and queue that if it is new."""
    state = sim.replicas[r]
    new = state.current_size == 0
    state.payloads += new
    place = state.first_payload + state.payloads - 1  # a queued current payload is always the last one
    payload = sim.payloads[r, place if place < sim.payloads.shape[1] else place - sim.payloads.shape[1]]
    if new:
        payload.length = payload.rows = 0
    in_time = min(count, state.queue.length)
    if in_time > 0:
        move(sim, state.queue, payload, in_time)
    if count > in_time:
        move(sim, state.late, payload, count - in_time)
    state.current_size = payload.rows


@inlined
def batcher_turn(sim: Sim, r: int, now: int) -> None:
    """The batcher thread, from a wake until it sleeps again."""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    while True:
        if state.closed:
            state.closed, state.current_size, state.next_preferred = 0, 0, 0
        if state.queue.length + state.late.length == 0:
            state.for_slot, state.timer_ns, state.slept_ns = 0, NEVER, now
            return
        if not slot_free(sim, r):
            if not state.for_slot:
                state.timer_ns = NEVER if rules.prefetches else now + POLL_NS
            state.for_slot, state.slept_ns = 1, NEVER
            return
        state.for_slot = 0
        refuse_expired(sim, r, now)
        count, wait_ns = form_batch(sim, r, now)
        if count > 0:
            send(sim, r, count)
        elif wait_ns > 0:
            state.timer_ns, state.slept_ns = now + wait_ns + rules.timer_slack_ns, NEVER
            return


@inlined
def after_idle(sim: Sim, service: int, idle_ns: int) -> float:
    """How much longer a batch takes on an instance that was idle for so long: linear in the logarithm between knots."""
    last = sim.after_idle_ns.shape[1] - 1
    if last == 0 or idle_ns <= FIRST_KNOT_NS:
        return float(sim.after_idle_ns[service, 0])
    place = np.log2(idle_ns / FIRST_KNOT_NS)
    k = int(place)
    if k >= last:
        return float(sim.after_idle_ns[service, last])
    low, high = sim.after_idle_ns[service, k], sim.after_idle_ns[service, k + 1]
    return float(low + (place - k) * (high - low))


@inlined
def start_batch(sim: Sim, r: int, front: int, requests: int, size: int, now: int) -> None:
    """Run so many requests, chained from `front` and of `size` rows in all, on the lowest idle instance."""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    k = 0
    while sim.instances[r, k].free_ns != NEVER:
        k += 1
    slow = sim.slow[state.slow, 0]
    if sim.slow.shape[1] > 1:
        slow = sim.slow[state.slow, min(now // rules.slow_step_ns - sim.stream[0].slow_first, sim.slow.shape[1] - 1)]
    bucket = 0
    if sim.service_ns.shape[1] > 1:  # padded to its longest request
        i = front
        for _ in range(requests):
            bucket = max(bucket, sim.bucket[i])
            i = sim.link[i]
    noise = sim.noise[front] if len(sim.noise) > 1 else sim.noise[0]
    extra = sim.extra_ns[front] if len(sim.extra_ns) > 1 else sim.extra_ns[0]
    work_ns = sim.service_ns[state.service, bucket, size] * noise * slow
    if sim.stream[0].on:
        work_ns *= occupy(sim, r, now)
    instance, mixed = sim.instances[r, k], len(sim.request_rows) > 1
    extra += after_idle(sim, state.service, now - instance.left_ns)
    end = now + max(0, int(np.floor(work_ns + extra + 0.5)))
    pause = sim.pause_ns[front] if len(sim.pause_ns) > 1 else sim.pause_ns[0]
    free = end + rules.inter_batch_gap_ns + max(0, int(np.floor(pause + 0.5)))
    instance.free_ns, instance.end_ns, instance.batch_size, instance.left_ns = free, end, size, end
    instance.requests = requests
    instance.missed = sim.missed[front] if len(sim.missed) > 1 else sim.missed[0]
    if sim.stream[0].on:  # its requests are known to have been answered when it ends: until then it may crash
        instance.start_ns, instance.front = now, front
        state.next_end_ns = min(state.next_end_ns, end)
    else:
        i, position = front, 0
        for _ in range(requests):
            record(sim, i, r, k, now, end, size, position, OK)
            position += sim.request_rows[i] if mixed else sim.request_rows[0]
            i = sim.link[i]
    state.idle -= 1
    state.next_free_ns = min(state.next_free_ns, instance.free_ns)


@inlined
def pop_payload(sim: Sim, r: int) -> None:
    """Drop the first payload of the queue; if it was the current one, an instance has it now."""
    state = sim.replicas[r]
    state.first_payload = state.first_payload + 1 if state.first_payload + 1 < sim.payloads.shape[1] else 0
    state.payloads -= 1
    if state.payloads == 0 and state.current_size > 0:
        state.closed = 1


@inlined
def take_payload(sim: Sim, r: int, now: int) -> None:
    """An idle instance takes the first payload, merges followers that waited too long, and runs them."""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    taken = sim.payloads[r, state.first_payload]
    pop_payload(sim, r)
    while rules.delay_ns > 0 and rules.max_batch_size > 1 and state.payloads > 0:
        follower = sim.payloads[r, state.first_payload]
        if now - follower.oldest_ns <= rules.delay_ns:
            break
        if state.payloads == 1 and state.current_size > 0:
            state.closed = 1  # the current payload was looked at: it grows no more
        if taken.rows + follower.rows > rules.max_batch_size:
            break
        join(sim, taken, follower.front, follower.back, follower.length, follower.rows)
        pop_payload(sim, r)
    start_batch(sim, r, taken.front, taken.length, taken.rows, now)


@inlined
def settle(sim: Sim, r: int, now: int) -> None:
    """Idle instances take what is queued, then the batcher has a turn; again, until nothing moves.

    Without dynamic batching an idle instance takes the request at the front.
    """
    state = sim.replicas[r]
    if not sim.rules[state.service].dynamic:
        if state.idle > 0 and state.queue.length > 0:
            i = state.queue.front
            state.queue.front = sim.link[i]
            state.queue.length -= 1
            state.queue.rows -= rows_of(sim, i)
            start_batch(sim, r, i, 1, rows_of(sim, i), now)
        return
    woken = True
    while woken:
        while state.payloads > 0 and state.idle > 0:
            take_payload(sim, r, now)
        batcher_turn(sim, r, now)
        woken = state.payloads > 0 and state.idle > 0


@inlined
def free_one_instance(sim: Sim, r: int) -> int:
    """The busy instance that is due first becomes idle: NONE. Or it will be, and is returned: told of the end of its
    batch, the batcher looks for an idle instance too early to find this one."""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    due, soonest, missed = state.next_free_ns, NEVER, NONE
    for k in range(rules.instances):
        instance = sim.instances[r, k]
        if instance.free_ns == due:
            due = NONE
            state.in_flight -= instance.requests
            if instance.missed and rules.dynamic and not rules.prefetches:
                missed = k
            else:
                instance.free_ns = NEVER
                state.idle += 1
        else:
            soonest = min(soonest, instance.free_ns)
    state.next_free_ns = soonest
    return missed


@inlined
def advance(sim: Sim, r: int, until: int) -> None:
    """Let replica r live through all its own events up to and including `until`.

    At the same nanosecond: batches end, instances become free (lowest first), then the batcher's timer, then arrivals.
    """
    state = sim.replicas[r]
    while min(state.next_free_ns, state.timer_ns, state.next_end_ns) <= until:
        now = min(state.next_free_ns, state.timer_ns, state.next_end_ns)
        if state.next_end_ns == now:  # in a stream only
            end_batch(sim, r)
            continue
        missed = NONE
        if state.next_free_ns == now:
            missed = free_one_instance(sim, r)
        elif state.for_slot and not slot_free(sim, r):
            if sim.rules[state.service].rejects:
                refuse_expired(sim, r, now)
            state.timer_ns = now + POLL_NS if state.queue.length + state.late.length > 0 else NEVER
            state.slept_ns = now
            continue
        settle(sim, r, now)
        if missed != NONE:
            sim.instances[r, missed].free_ns = NEVER
            state.idle += 1


@inlined
def on_arrival(sim: Sim, r: int, i: int, now: int) -> None:
    """Request i reaches replica r."""
    rules, state = sim.rules[sim.replicas[r].service], sim.replicas[r]
    waiting = state.queue.length + state.late.length
    if rules.max_queue_size > 0 and waiting >= rules.max_queue_size:
        refuse(sim, r, i, now, QUEUE_FULL)
        return
    state.in_flight += 1
    join(sim, state.queue, i, i, 1, rows_of(sim, i))
    enough = state.queue.rows + state.late.rows >= state.next_preferred
    if not rules.dynamic or ((state.closed or enough) and slot_free(sim, r)):
        settle(sim, r, now)
    elif state.timer_ns == NEVER and state.slept_ns != NEVER:  # asleep on an empty queue: it looks again in a while
        state.timer_ns = state.slept_ns + ((now - state.slept_ns) // POLL_NS + 1) * POLL_NS


@inlined
def least_requests(sim: Sim, first: int, now: int) -> int:
    """The replica with the fewest unanswered requests; on a tie the first one from `first` on, cyclically."""
    best, fewest = first, NEVER
    for step in range(len(sim.replicas)):
        r = first + step if first + step < len(sim.replicas) else first + step - len(sim.replicas)
        advance(sim, r, now)
        unanswered = sim.replicas[r].in_flight
        for k in range(sim.rules[sim.replicas[r].service].instances):
            instance = sim.instances[r, k]
            if instance.free_ns != NEVER and instance.end_ns <= now:  # answered, though not free yet
                unanswered -= instance.requests
        if unanswered < fewest:
            best, fewest = r, unanswered
    return best


def _compiled_run(sources: int) -> Any:
    """`run`, cached for these sources: numba looks at this file's date and at the closure, not at other files."""

    @compiled
    def run(sim: Sim, assigned: Any) -> None:
        """Serve all requests: fills sim.outcome."""
        if sources < 0:  # never: it only makes `sources` part of the closure
            return
        replicas = len(sim.replicas)
        balancer = sim.rules[0].balancer
        turn = 0
        for i in range(len(sim.arrival_ns)):
            now = sim.arrival_ns[i]
            if balancer == ASSIGNED:
                r = assigned[i]
            elif balancer == ROUND_ROBIN:
                r = turn
            else:
                r = least_requests(sim, turn, now)
            turn = r + 1 if r + 1 < replicas else 0
            advance(sim, r, now)
            on_arrival(sim, r, i, now)
        for r in range(replicas):
            advance(sim, r, NEVER - 1)

    return run


# The inlined helpers and record layouts are compiled into `run`: an edit of their files must show.
_SOURCES = (Path(chains.__file__), Path(answers.__file__), Path(state.__file__))
run = _compiled_run(zlib.crc32(b"".join(file.read_bytes() for file in _SOURCES)))
