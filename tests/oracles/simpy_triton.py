"""Triton's batching rules once more, as SimPy processes: readable, slow, and written without a look at the kernel.

It walks the queue request by request, as the rules say (docs/explanation/batching.md), where the kernel computes. Time
is in whole nanoseconds. Simultaneous events: instances end a batch or become free (lowest number first), then the
batcher's timers, then arrivals; whatever one of them sets off at that instant happens before the next.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from itertools import chain, islice

import simpy

from testbed.simulation.rules import BatchingRules

Process = Generator[simpy.Event, object, None]

SIGNAL = 1  # SimPy's priorities: smaller first at the same time
SETTLED = 2  # after all that signals set off
INSTANCE = 10
TIMER = 1_000_000
ARRIVAL = 2_000_000

LOOK_AGAIN_NS = 500_000_000


@dataclass(eq=False)
class Request:
    """One request and, once it is answered, its fate."""

    number: int
    arrival_ns: int
    rows: int = 1
    start_ns: int = -1
    end_ns: int = -1
    batch_size: int = 0
    position: int = 0
    replica: int = -1
    instance: int = -1
    status: int = 0


def rows_of(requests: Iterable[Request]) -> int:
    return sum(request.rows for request in requests)


@dataclass(eq=False)
class Payload:
    """A batch in the making."""

    requests: list[Request] = field(default_factory=list)
    saturated: bool = False
    stale: bool = False

    @property
    def oldest_ns(self) -> int:
        return min(request.arrival_ns for request in self.requests)

    @property
    def rows(self) -> int:
        return rows_of(self.requests)


@dataclass
class Costs:
    """What a batch costs; see simulate_batches."""

    service_ns: list[float]
    noise: list[float]
    slow: list[float]
    slow_step_ns: int
    extra_ns: list[float]
    pause_ns: list[float]
    missed: list[int] = field(default_factory=lambda: [0])

    def duration_ns(self, batch: list[Request], now: int) -> int:
        first = batch[0].number
        noise = self.noise[first] if len(self.noise) > 1 else self.noise[0]
        extra = self.extra_ns[first] if len(self.extra_ns) > 1 else self.extra_ns[0]
        slow = self.slow[min(now // self.slow_step_ns, len(self.slow) - 1)]
        return max(0, math.floor(self.service_ns[rows_of(batch)] * noise * slow + extra + 0.5))

    def is_missed(self, batch: list[Request]) -> bool:
        return bool(self.missed[batch[0].number] if len(self.missed) > 1 else self.missed[0])

    def pause_after_ns(self, batch: list[Request]) -> int:
        first = batch[0].number
        return max(0, math.floor((self.pause_ns[first] if len(self.pause_ns) > 1 else self.pause_ns[0]) + 0.5))


class Clock(simpy.Environment):
    """An environment in which a delay has a place among simultaneous events."""

    def after(self, delay_ns: int, priority: int) -> simpy.Event:
        event = simpy.Event(self)
        event._ok, event._value = True, None
        self.schedule(event, priority, delay_ns)
        return event


class Replica:
    """One server: a request queue, the batcher, a payload queue, instances."""

    def __init__(
        self, clock: Clock, number: int, rules: BatchingRules, costs: Costs, answered: Callable[[list[Request]], None]
    ) -> None:
        self.clock, self.number, self.rules, self.costs, self.answered = clock, number, rules, costs, answered
        self.unanswered = 0
        self.in_time: deque[Request] = deque()
        self.late: deque[Request] = deque()
        self.payloads: deque[Payload] = deque()
        self.current = Payload()
        self.next_preferred = 0
        self.idle: dict[int, simpy.Event] = {}
        self.running: dict[int, list[Request]] = {}  # by instance
        self.wake = clock.event()
        for k in range(rules.instances):
            clock.process(self.instance(k))
        if rules.dynamic:
            clock.process(self.batcher())

    def enqueue(self, request: Request) -> None:
        rules = self.rules
        request.replica = self.number
        if not rules.dynamic:
            self.unanswered += 1
            self.payloads.append(Payload([request]))
            self.call_instance()
            return
        if rules.max_queue_size and len(self.in_time) + len(self.late) >= rules.max_queue_size:
            request.start_ns = request.end_ns = self.clock.now
            request.status = 2
            self.answered([request])
            return
        self.unanswered += 1
        self.in_time.append(request)
        waiting = rows_of(self.in_time) + rows_of(self.late)
        current_done = self.current.saturated or self.current.stale
        if self.slot_free() and (current_done or waiting >= self.next_preferred):
            self.wake_batcher()

    def held(self) -> list[Request]:
        """Requests that wait, in their order, and then those whose batch runs, by instance."""
        waiting = [*self.in_time, *self.late]
        queued = [request for payload in self.payloads for request in payload.requests]
        return waiting + queued + [request for k in sorted(self.running) for request in self.running[k]]

    def wake_batcher(self) -> None:
        if not self.wake.triggered:
            self.wake.succeed()

    def slot_free(self) -> bool:
        if self.rules.prefetches:
            return len(self.payloads) < 2 * self.rules.instances
        return len(self.idle) > len(self.payloads)

    def call_instance(self) -> None:
        """Tell the lowest idle instance that was not told yet."""
        for k in sorted(self.idle):
            if not self.idle[k].triggered:
                self.idle[k].succeed()
                return

    def instance(self, k: int) -> Process:
        while True:
            while not self.payloads:
                self.idle[k] = self.clock.event()
                yield self.idle[k]
            self.idle.pop(k, None)
            batch = self.take()
            self.wake_batcher()
            start = self.clock.now
            self.running[k] = batch
            yield self.clock.after(self.costs.duration_ns(batch, start), INSTANCE + k)
            del self.running[k]
            for number, request in enumerate(batch):
                request.start_ns, request.end_ns = start, self.clock.now
                request.batch_size, request.position, request.instance = rows_of(batch), rows_of(batch[:number]), k
            self.unanswered -= len(batch)
            self.answered(batch)
            yield self.clock.after(self.rules.inter_batch_gap_ns + self.costs.pause_after_ns(batch), INSTANCE + k)
            self.wake_batcher()
            if self.rules.dynamic and not self.rules.prefetches and self.costs.is_missed(batch):
                yield self.clock.after(0, SETTLED)  # the batcher has looked before this instance is idle

    def take(self) -> list[Request]:
        rules = self.rules
        taken = self.payloads.popleft()
        taken.stale = True
        batch = list(taken.requests)
        merges = rules.dynamic and rules.max_queue_delay_ns > 0 and rules.max_batch_size > 1
        while merges and self.payloads and self.clock.now - self.payloads[0].oldest_ns > rules.max_queue_delay_ns:
            follower = self.payloads[0]
            follower.stale = True
            if rows_of(batch) + follower.rows > rules.max_batch_size:
                break
            batch += follower.requests
            self.payloads.popleft()
        return batch

    def batcher(self) -> Process:
        while True:
            if self.current.saturated or self.current.stale:
                self.current = Payload()
                self.next_preferred = 0
            if not self.in_time and not self.late:
                yield from self.sleep(LOOK_AGAIN_NS)
                continue
            if not self.slot_free():
                yield from self.wait_for_slot()
                if self.current.stale:
                    continue
            sleep_ns, count = self.decide()
            if sleep_ns > 0:
                yield from self.sleep(sleep_ns + self.rules.timer_slack_ns)
            elif count > 0:
                self.send(count)

    def sleep(self, delay_ns: int) -> Process:
        self.wake = self.clock.event()
        yield self.wake | self.clock.after(delay_ns, TIMER)

    def wait_for_slot(self) -> Process:
        """Until an instance takes a payload or becomes idle; looks for expired requests now and then."""
        look = self.clock.after(LOOK_AGAIN_NS, TIMER)
        while not self.slot_free():
            self.wake = self.clock.event()
            yield self.wake | look
            if look.processed and not self.slot_free():
                if self.rules.timeout_action == "REJECT":
                    self.apply_timeouts()
                look = self.clock.after(LOOK_AGAIN_NS, TIMER)

    def apply_timeouts(self) -> None:
        """Expired requests are refused, or go behind all others."""
        timeout = self.rules.default_timeout_ns
        while timeout and self.in_time and self.clock.now > self.in_time[0].arrival_ns + timeout:
            request = self.in_time.popleft()
            if self.rules.timeout_action == "DELAY":
                self.late.append(request)
                continue
            request.start_ns = request.end_ns = self.clock.now
            request.status = 1
            self.unanswered -= 1
            self.answered([request])

    def decide(self) -> tuple[int, int]:
        """(nanoseconds to sleep, requests to send): step 4 and 5 of the rules, literally."""
        rules, current = self.rules, self.current
        largest = max(rules.preferred)
        self.apply_timeouts()
        queue = list(islice(chain(self.in_time, self.late), rules.max_batch_size + 1))
        b = current.rows
        p, remembered, send_now = 0, 0, False  # rows
        ends = [0]  # rows of so many requests
        for request in queue:
            if b + p > 0 and b + p + request.rows > largest and not remembered:
                remembered = p
                current.saturated = True
            if b + p > 0 and b + p + request.rows > rules.max_batch_size:
                send_now = True
                break
            p += request.rows
            ends.append(p)
            if b + p in rules.preferred:
                remembered = p
        if p == 0:
            return 0, 0
        age = self.clock.now - min(request.arrival_ns for request in queue[: ends.index(p)])
        delay = rules.max_queue_delay_ns
        late = delay > 0 and age >= delay
        if remembered and not late:
            if delay == 0:
                current.saturated = True
            return 0, ends.index(remembered)
        if send_now or b + p >= largest:
            current.saturated = True
            return 0, ends.index(p)
        if late or delay == 0:
            return 0, ends.index(p)
        above = [size for size in rules.preferred if size > b + p]
        self.next_preferred = (min(above) if above else min(rules.preferred)) - b
        if b > 0 and not current.saturated and b not in rules.preferred:
            return 0, ends.index(p)
        sleep_ns = (delay - age) // 1000 * 1000
        if rules.default_timeout_ns and self.in_time:
            expired_ns = self.in_time[0].arrival_ns + rules.default_timeout_ns + 1
            sleep_ns = min(sleep_ns, expired_ns - self.clock.now)
        return (sleep_ns, 0) if sleep_ns > 0 else (0, ends.index(p))

    def send(self, count: int) -> None:
        new = not self.current.requests
        for _ in range(count):
            self.current.requests.append(self.in_time.popleft() if self.in_time else self.late.popleft())
        if new:
            self.payloads.append(self.current)
            self.call_instance()


def simulate(
    arrival_ns: list[int],
    rules: BatchingRules,
    costs: Costs,
    *,
    replicas: int = 1,
    balancer: str = "round_robin",
    assigned: list[int] | None = None,
    rows: list[int] | None = None,
) -> list[Request]:
    """Every request with its fate, in the order of arrival."""
    clock = Clock()
    all_answered = clock.event()
    left = len(arrival_ns)

    def answered(batch: list[Request]) -> None:
        nonlocal left
        left -= len(batch)
        if left == 0:
            all_answered.succeed()

    service = [Replica(clock, r, rules, costs, answered) for r in range(replicas)]
    requests = [Request(i, t, 1 if rows is None else rows[i]) for i, t in enumerate(arrival_ns)]

    def arrivals() -> Process:
        turn = 0
        for request in requests:
            yield clock.after(request.arrival_ns - clock.now, ARRIVAL)
            if assigned is not None:
                chosen = assigned[request.number]
            else:
                order = [(turn + step) % replicas for step in range(replicas)]
                chosen = order[0] if balancer == "round_robin" else min(order, key=lambda r: service[r].unanswered)
            turn = (chosen + 1) % replicas
            service[chosen].enqueue(request)

    clock.process(arrivals())
    if requests:
        clock.run(until=all_answered)
    return requests
