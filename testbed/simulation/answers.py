"""A stream's side of the event loop: how a request ends, and what its client does next.

A request has a place (a number below len(sim.requests)) from when it is sent until it has ended; then that is free.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from testbed.simulation.chains import inlined, rows_of, uniform
from testbed.simulation.state import (
    ABANDONED,
    BINS_AN_OCTAVE,
    CLIENT_TIMEOUT,
    DROPPED,
    NEVER,
    NONE,
    OK,
    RESEND,
    USER,
    Sim,
)

DRAW_THINK = 16  # number of this draw of a request; sending has the first ones


@inlined
def push_event(sim: Sim, time_ns: int, kind: int, place: int, number: int) -> None:
    """Put an event into the heap. Events of one time leave it in the order in which they came."""
    stream, events = sim.stream[0], sim.events
    order = stream.next_event
    stream.next_event += 1
    k = stream.events
    stream.events += 1
    while k > 0:
        above = (k - 1) // 2
        if events[above].time_ns <= time_ns:  # of equal times the older one stays above
            break
        events[k] = events[above]
        k = above
    event = events[k]
    event.time_ns, event.order, event.kind, event.place, event.id = time_ns, order, kind, place, number


@inlined
def drop_first_event(sim: Sim) -> None:
    """Take the first event out of the heap."""
    stream, events = sim.stream[0], sim.events
    stream.events -= 1
    last, k = stream.events, 0
    time_ns, order = events[last].time_ns, events[last].order
    while 2 * k + 1 < last:
        below = 2 * k + 1
        right = below + 1
        if right < last and (
            events[right].time_ns < events[below].time_ns
            or (events[right].time_ns == events[below].time_ns and events[right].order < events[below].order)
        ):
            below = right
        if time_ns < events[below].time_ns or (time_ns == events[below].time_ns and order < events[below].order):
            break
        events[k] = events[below]
        k = below
    if k != last:
        events[k] = events[last]


@inlined
def goes_on(model: Any, user: int) -> bool:
    """Is it a closed-loop user, and still there?"""
    return bool(user >= 0 and model.first_user <= user < model.first_user + model.users)


@inlined
def close(sim: Sim, i: int, completed_ns: int, status: int) -> None:
    """Request i has ended for its client: counted, its row kept, its user goes on. Its place is not free yet."""
    request = sim.requests[i]
    model = sim.models[request.model]
    latency_ns = completed_ns - request.scheduled_ns
    if status == OK:
        model.ok += 1
        model.latency_ns += latency_ns
        model.missed += latency_ns > model.target_ns
        mantissa, octave = math.frexp(max(latency_ns, 1))  # latency = mantissa * 2**octave, mantissa in [.5, 1)
        sim.histogram[request.model, octave * BINS_AN_OCTAVE + int((2 * mantissa - 1) * BINS_AN_OCTAVE)] += 1
    else:
        model.missed += 1
        if status == CLIENT_TIMEOUT:
            model.timeout += 1
        elif status == DROPPED:
            model.dropped += 1
        else:
            model.error += 1
    if goes_on(model, request.user):
        think_ns = float(model.think_ns)
        if model.think_random:
            think_ns *= -math.log(1.0 - uniform(sim, request.id, DRAW_THINK))
        push_event(sim, completed_ns + int(think_ns), USER, request.user, request.model)


@inlined
def keep_row(
    sim: Sim, i: int, completed_ns: int, status: int, start: int, end: int, size: int, position: int, k: int
) -> None:
    """One row a request, if rows are kept."""
    stream = sim.stream[0]
    if stream.keeps_rows:
        request, row = sim.requests[i], sim.rows[stream.rows]
        stream.rows += 1
        row.id, row.scheduled_ns, row.completed_ns = request.id, request.scheduled_ns, completed_ns
        row.start_ns, row.end_ns, row.pod = start, end, request.pod
        row.model, row.status, row.attempt = request.model, status, request.attempt
        row.batch_size, row.position, row.instance = size, position, k


@inlined
def release(sim: Sim, i: int) -> None:
    """The place of request i is free."""
    stream = sim.stream[0]
    sim.requests[i].id = -1
    sim.free[stream.free] = i
    stream.free += 1


@inlined
def fail(sim: Sim, i: int, now: int, status: int) -> None:
    """The client of request i gets an error at `now`; it sends again, if it does so at all and has attempts left."""
    request = sim.requests[i]
    model = sim.models[request.model]
    if request.abandoned:  # its client has given up already
        release(sim, i)
        return
    deadline_ns = request.sent_ns + model.timeout_ns
    if model.timeout_ns > 0 and now > deadline_ns:  # so has this one; nothing followed from it until now
        now, status = deadline_ns, CLIENT_TIMEOUT
    if request.attempt < model.retries:
        request.attempt += 1
        request.sent_ns, request.pod = NEVER, NONE  # no deadline runs until it is sent again
        push_event(sim, now + model.backoff_ns, RESEND, i, request.id)
        return
    close(sim, i, now, status)
    keep_row(sim, i, now, status, now, now, 0, 0, -1)
    release(sim, i)


@inlined
def occupy(sim: Sim, r: int, now: int) -> float:
    """A batch starts on replica r: its device is busy, and how much slower it makes the batch is returned."""
    state = sim.replicas[r]
    device = sim.devices[state.device]
    if state.running == 0:
        if device.busy == 0:
            device.active_from_ns = now
        device.busy += 1
    state.running += 1
    return float(sim.sharing[device.sharing, min(device.busy - 1, sim.sharing.shape[1] - 1)])


@inlined
def vacate(sim: Sim, r: int, now: int) -> None:
    """A batch of replica r is over."""
    state = sim.replicas[r]
    device = sim.devices[state.device]
    state.running -= 1
    if state.running == 0:
        device.busy -= 1
        if device.busy == 0:
            device.active_ns += now - device.active_from_ns


@inlined
def end_batch(sim: Sim, r: int) -> None:
    """The batch of replica r that is due first ends: its requests are answered."""
    state = sim.replicas[r]
    end, soonest = state.next_end_ns, NEVER
    due = True
    for k in range(sim.rules[state.service].instances):
        instance = sim.instances[r, k]
        if due and instance.end_ns == end:
            due = False
            i = instance.front
            position = 0
            for _ in range(instance.requests):
                following, rows = sim.link[i], rows_of(sim, i)
                answer(sim, r, k, i, position)
                position += rows
                i = following
            state.done += instance.requests
            state.batches += 1
            state.compute_ns += instance.requests * (end - instance.start_ns)
            state.busy_ns += end - instance.start_ns
            sim.devices[state.device].network_ns += int(sim.network_ns[state.service, instance.batch_size])
            sim.devices[state.device].batches_j += sim.batch_j[state.service, instance.batch_size]
            state.outstanding -= instance.requests
            instance.end_ns = NEVER
        else:
            soonest = min(soonest, instance.end_ns)
    state.next_end_ns = soonest
    vacate(sim, r, end)


@inlined
def answer(sim: Sim, r: int, k: int, i: int, position: int) -> None:
    """Request i of the batch that ends on instance k is answered; its client has it when it has travelled back."""
    request, instance = sim.requests[i], sim.instances[r, k]
    model = sim.models[request.model]
    sim.replicas[r].queue_ns += instance.start_ns - sim.arrival_ns[i]
    back_ns = request.egress_delay_ns + model.per_position_ns * position + model.per_size_ns * (instance.batch_size - 1)
    completed_ns = instance.end_ns + max(0, int(np.floor(back_ns + 0.5)))
    deadline_ns = request.sent_ns + model.timeout_ns
    late = not request.abandoned and model.timeout_ns > 0 and completed_ns > deadline_ns
    sent_again = late and request.attempt < model.retries
    status, seen_ns = OK, completed_ns
    if request.abandoned or sent_again:
        status = ABANDONED
    elif late:
        status, seen_ns = CLIENT_TIMEOUT, deadline_ns
    keep_row(sim, i, seen_ns, status, instance.start_ns, instance.end_ns, instance.batch_size, position, k)
    if sent_again:
        fail(sim, i, deadline_ns, CLIENT_TIMEOUT)
        return
    if status != ABANDONED:
        close(sim, i, seen_ns, status)
    release(sim, i)
