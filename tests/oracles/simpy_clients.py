"""Clients of the SimPy cluster: requests balanced over pods, that time out and are tried again; users that think."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.oracles.simpy_triton import ARRIVAL, Clock, Request
from tests.oracles.splitmix import uniform

if TYPE_CHECKING:
    from tests.oracles.simpy_cluster import Container, ModelSetting, Pod

CONTROL = 3_000_000  # after everything else at the same time
ATTEMPTS = 64  # more than a request has


@dataclass(eq=False)
class Ask:
    """A client's request: one or more attempts."""

    number: int
    model: int
    scheduled_ns: int
    user: int
    completed_ns: int = -1
    status: str = ""
    attempt: Attempt | None = None  # the one that its client waits for
    attempts: int = 0


@dataclass(eq=False)
class Attempt:
    """One sending of a request. container: that it went to; None: nobody was there."""

    ask: Ask
    number: int
    sent_ns: int
    pod: Pod | None
    container: Container | None


class Clients:
    """Of all models. endpoints: the pods of each to which requests go."""

    def __init__(self, models: list[ModelSetting], seed: int) -> None:
        self.models, self.seed = models, seed
        self.clock = Clock()
        self.endpoints: list[list[Pod]] = [[] for _ in models]
        self.turn = [0] * len(models)
        self.asks: list[Ask] = []
        self.on_server: dict[int, Attempt] = {}  # by ATTEMPTS x number + attempt
        self.served: list[tuple[Attempt, Request]] = []
        self.users: list[list[int]] = [[] for _ in models]  # that go on, the longest there first
        self.users_ever = [0] * len(models)

    def later(self, delay_ns: int, what: Callable[[], None], priority: int = CONTROL) -> None:
        event = self.clock.after(delay_ns, priority)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: what())

    def new_ask(self, model: int, user: int) -> Ask:
        ask = Ask(len(self.asks), model, self.clock.now, user)
        self.asks.append(ask)
        return ask

    def arrive(self, model: int) -> None:
        """An open-loop request."""
        most = self.models[model].max_in_flight
        full = most and sum(ask.model == model and not ask.status for ask in self.asks) >= most
        ask = self.new_ask(model, -1)
        if full:
            self.close(ask, "dropped", self.clock.now)
        else:
            self.send(ask)

    def choose(self, ask: Ask) -> Pod | None:
        model, endpoints = self.models[ask.model], self.endpoints[ask.model]
        if not endpoints:
            return None
        if model.balancer == "random":
            u = float(uniform(self.seed, ask.number, 4 + 64 * ask.attempts)[0])
            return endpoints[int(u * len(endpoints))]
        first = self.turn[ask.model] if self.turn[ask.model] < len(endpoints) else 0
        order = [(first + step) % len(endpoints) for step in range(len(endpoints))]
        chosen = first if model.balancer == "round_robin" else min(order, key=lambda k: endpoints[k].outstanding)
        self.turn[ask.model] = chosen + 1
        return endpoints[chosen]

    def send(self, ask: Ask) -> None:
        setting = self.models[ask.model]
        pod = self.choose(ask)
        attempt = Attempt(ask, ask.attempts, self.clock.now, pod, pod.container if pod else None)
        ask.attempt = attempt
        if pod is None:
            self.failed(attempt, "no endpoint")
            return
        pod.outstanding += attempt.container is not None
        if setting.timeout_ns:
            self.later(setting.timeout_ns, lambda: self.failed(attempt, "timeout"), ARRIVAL)
        self.later(setting.ingress_delay_ns, lambda: self.deliver(attempt), ARRIVAL)

    def deliver(self, attempt: Attempt) -> None:
        assert attempt.pod is not None
        if attempt.container is None or attempt.pod.container is not attempt.container:
            self.failed(attempt, "died")
            return
        key = ATTEMPTS * attempt.ask.number + attempt.number
        self.on_server[key] = attempt
        attempt.container.replica.enqueue(Request(key, self.clock.now))

    def server_answers(self, request: Request, pod: Pod) -> None:
        attempt = self.on_server.pop(request.number)
        pod.outstanding -= 1
        setting, ask = self.models[pod.model], attempt.ask
        if request.status:
            self.failed(attempt, "timed out in the queue" if request.status == 1 else "queue full")
            return
        self.served.append((attempt, request))
        if ask.attempt is not attempt or ask.status:
            return  # its client has given it up
        completed_ns, deadline_ns = self.clock.now + setting.egress_delay_ns, attempt.sent_ns + setting.timeout_ns
        if setting.timeout_ns and completed_ns > deadline_ns:
            self.failed(attempt, "timeout", deadline_ns)
        else:
            self.close(ask, "ok", completed_ns)

    def failed(self, attempt: Attempt, status: str, at_ns: int | None = None) -> None:
        """Nothing comes of it; a client that waits for it tries again, or has its result."""
        ask = attempt.ask
        if ask.attempt is not attempt or ask.status:
            return
        setting, at_ns = self.models[ask.model], self.clock.now if at_ns is None else at_ns
        if ask.attempts < setting.retries:
            ask.attempts += 1
            ask.attempt = None
            self.later(at_ns + setting.retry_ns - self.clock.now, lambda: self.send(ask), ARRIVAL)
        else:
            self.close(ask, status, at_ns)

    def close(self, ask: Ask, status: str, at_ns: int) -> None:
        ask.status, ask.completed_ns = status, at_ns
        if ask.user in self.users[ask.model]:
            later_ns = at_ns + self.models[ask.model].think_ns - self.clock.now
            self.later(later_ns, lambda: self.turn_of(ask.model, ask.user), ARRIVAL)

    def turn_of(self, model: int, user: int) -> None:
        if user in self.users[model]:
            self.send(self.new_ask(model, user))

    def set_users(self, model: int, count: int) -> None:
        users = self.users[model]
        while len(users) > count:
            users.pop(0)
        while len(users) < count:
            users.append(self.users_ever[model])
            self.users_ever[model] += 1
            self.turn_of(model, users[-1])
