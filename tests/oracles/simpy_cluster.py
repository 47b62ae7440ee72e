"""The cluster once more, as SimPy processes: pods, a scheduler, balancing, clients that time out and try again, users.

Written from docs/simulator.md, without a look at the event loop. One model on equal GPUs that are not shared; overhead
is constant. The replicas are simpy_triton's. Crashes are told as stories in test_cluster_life.py instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import simpy

from testbed.simulation.rules import BatchingRules
from tests.oracles.simpy_triton import ARRIVAL, Clock, Costs, Process, Replica, Request
from tests.oracles.splitmix import uniform

CONTROL = 3_000_000  # after everything else at the same time


@dataclass
class Setting:
    """What the cluster is; times in nanoseconds."""

    gpus: int
    replicas: int
    rules: BatchingRules
    service_ns: list[float]
    noise: list[float]  # quantile function
    seed: int
    ingress_delay_ns: int
    egress_delay_ns: int
    pause_ns: int
    schedule_ns: int
    start_ns: int
    load_ns: int
    probe_ns: int
    lag_ns: int
    timeout_ns: int = 0
    retries: int = 0
    backoff_ns: int = 0
    think_ns: int = 0


@dataclass(eq=False)
class Pod:
    """Its life; -1: that has not happened."""

    number: int
    requested: int
    scheduled: int = -1
    started: int = -1
    ready: int = -1
    serving: int = -1
    deleted: int = -1
    gone: int = -1
    replica: Replica | None = None
    outstanding: int = 0
    may_end: bool = False


@dataclass(eq=False)
class Ask:
    """A client's request: one or more attempts."""

    number: int
    scheduled_ns: int
    user: int
    attempt: int = 0
    sent_ns: int = -1
    completed_ns: int = -1
    status: str = ""
    pod: int = -1
    attempts_open: set[int] = field(default_factory=set)


class DrawnCosts(Costs):
    """Noise by request and attempt."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.service_ns, [1.0], [1.0], 1, [0.0], [float(setting.pause_ns)])
        self.setting = setting

    def duration_ns(self, batch: list[Request], now: int) -> int:
        number, attempt = batch[0].number // 64, batch[0].number % 64
        u = float(uniform(self.setting.seed, number, 3 + 64 * attempt)[0])
        table = self.setting.noise
        noise = float(np.interp(u, np.linspace(0, 1, len(table)), table))
        return max(0, math.floor(self.setting.service_ns[len(batch)] * noise + 0.5))


class Cluster:
    """Everything, driven by `run`."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.clock = setting, Clock()
        self.costs = DrawnCosts(setting)
        self.free = setting.gpus
        self.pods: list[Pod] = []
        self.waiting: list[Pod] = []
        self.endpoints: list[Pod] = []
        self.turn = 0
        self.asks: list[Ask] = []
        self.on_server: dict[int, tuple[Ask, Pod]] = {}  # by 64 x number + attempt
        self.users: list[int] = []  # that go on, the longest there first
        self.users_ever = 0
        for _ in range(setting.replicas):
            pod = self.new_pod()
            self.free -= 1
            pod.scheduled = pod.started = pod.ready = 0
            self.serve(pod)

    # Pods.

    def new_pod(self) -> Pod:
        pod = Pod(len(self.pods), self.clock.now)
        self.pods.append(pod)
        return pod

    def later(self, delay_ns: int, what: Callable[[], None], priority: int = CONTROL) -> None:
        def wait() -> Process:
            yield self.clock.after(delay_ns, priority)
            what()

        self.clock.process(wait())

    def scale(self, replicas: int) -> None:
        wanted = [pod for pod in self.pods if pod.deleted < 0 and pod.gone < 0]
        for _ in range(replicas - len(wanted)):
            pod = self.new_pod()
            self.later(self.setting.schedule_ns, lambda pod=pod: self.try_to_place(pod))
        surplus = max(0, len(wanted) - replicas)
        by_rank = sorted(wanted, key=lambda p: (p.scheduled >= 0, p.started >= 0, p.ready >= 0, -p.ready, -p.number))
        for pod in by_rank[:surplus]:
            self.delete(pod)

    def try_to_place(self, pod: Pod) -> None:
        if pod.deleted >= 0:
            return
        if self.free == 0:
            self.waiting.append(pod)
            return
        self.free -= 1
        pod.scheduled = self.clock.now
        self.clock.process(self.bring_up(pod))

    def bring_up(self, pod: Pod) -> Process:
        setting = self.setting
        yield self.clock.after(setting.start_ns, CONTROL)
        if pod.deleted >= 0:
            return
        pod.started = self.clock.now
        yield self.clock.after(setting.load_ns, CONTROL)
        probes = max(1, math.ceil(setting.load_ns / setting.probe_ns))
        yield self.clock.after(probes * setting.probe_ns - setting.load_ns, CONTROL)
        if pod.deleted >= 0:
            return
        pod.ready = self.clock.now
        yield self.clock.after(setting.lag_ns, CONTROL)
        if pod.deleted < 0:
            self.serve(pod)

    def serve(self, pod: Pod) -> None:
        pod.serving = self.clock.now
        pod.replica = Replica(self.clock, pod.number, self.setting.rules, self.costs, self.answered)
        self.endpoints.append(pod)

    def delete(self, pod: Pod) -> None:
        pod.deleted = self.clock.now
        if pod.ready < 0:
            self.end(pod)
            return

        def unserve() -> None:
            if pod in self.endpoints:
                self.endpoints.remove(pod)
            pod.may_end = True
            self.end_if_empty(pod)

        self.later(self.setting.lag_ns, unserve)

    def end_if_empty(self, pod: Pod) -> None:
        if pod.may_end and pod.outstanding == 0 and pod.gone < 0:
            self.end(pod)

    def end(self, pod: Pod) -> None:
        pod.gone = self.clock.now
        if pod in self.waiting:
            self.waiting.remove(pod)
        if pod.scheduled < 0:
            return
        self.free += 1
        again, self.waiting = self.waiting, []
        for one in again:
            self.try_to_place(one)

    # Clients.

    def new_ask(self, user: int) -> Ask:
        ask = Ask(len(self.asks), self.clock.now, user)
        self.asks.append(ask)
        return ask

    def send(self, ask: Ask) -> None:
        setting = self.setting
        ask.sent_ns = self.clock.now
        if not self.endpoints:
            self.failed(ask, "no endpoint")
            return
        k = self.turn if self.turn < len(self.endpoints) else 0
        pod = self.endpoints[k]
        self.turn = k + 1
        pod.outstanding += 1
        key = 64 * ask.number + ask.attempt
        ask.attempts_open.add(ask.attempt)
        self.on_server[key] = (ask, pod)
        attempt = ask.attempt
        follows = setting.retries > 0 or ask.user >= 0
        if setting.timeout_ns and follows:
            self.later(setting.timeout_ns, lambda: self.deadline(ask, attempt), ARRIVAL)

        def deliver() -> None:
            assert pod.replica is not None
            pod.replica.enqueue(Request(key, self.clock.now))

        self.later(setting.ingress_delay_ns, deliver, ARRIVAL)

    def answered(self, batch: list[Request]) -> None:
        setting = self.setting
        for request in batch:
            ask, pod = self.on_server.pop(request.number)
            pod.outstanding -= 1
            attempt = request.number % 64
            if request.status == 0 and attempt in ask.attempts_open and not ask.status:
                completed = self.clock.now + setting.egress_delay_ns
                ask.attempts_open.discard(attempt)
                ask.pod = pod.number
                if setting.timeout_ns and completed - ask.sent_ns > setting.timeout_ns:
                    self.failed(ask, "timeout", ask.sent_ns + setting.timeout_ns)
                else:
                    self.close(ask, "ok", completed)
            elif request.status and attempt in ask.attempts_open and not ask.status:
                ask.attempts_open.discard(attempt)
                self.failed(ask, "refused")
        for pod in {self.pods[request.replica] for request in batch}:
            self.end_if_empty(pod)

    def deadline(self, ask: Ask, attempt: int) -> None:
        if ask.status or attempt not in ask.attempts_open or ask.attempt != attempt:
            return
        ask.attempts_open.discard(attempt)
        self.failed(ask, "timeout")

    def failed(self, ask: Ask, status: str, at_ns: int | None = None) -> None:
        at_ns = self.clock.now if at_ns is None else at_ns
        if ask.attempt < self.setting.retries:
            ask.attempt += 1
            self.later(at_ns + self.setting.backoff_ns - self.clock.now, lambda: self.send(ask), ARRIVAL)
        else:
            self.close(ask, status, at_ns)

    def close(self, ask: Ask, status: str, at_ns: int) -> None:
        ask.status, ask.completed_ns = status, at_ns
        if ask.user in self.users:
            user = ask.user
            self.later(at_ns + self.setting.think_ns - self.clock.now, lambda: self.turn_of(user), ARRIVAL)

    def turn_of(self, user: int) -> None:
        if user in self.users:
            self.send(self.new_ask(user))

    def set_users(self, count: int) -> None:
        while len(self.users) > count:
            self.users.pop(0)
        while len(self.users) < count:
            self.users.append(self.users_ever)
            self.users_ever += 1
            self.turn_of(self.users[-1])

    # The run.

    def run(
        self, arrivals_ns: list[int], scales: list[tuple[int, int]], users: list[tuple[int, int]], until_ns: int
    ) -> None:
        def arrivals() -> Process:
            for time in arrivals_ns:
                yield self.clock.after(time - self.clock.now, ARRIVAL)
                self.send(self.new_ask(-1))

        def commands() -> Process:
            for time, count in scales:
                yield self.clock.after(time - self.clock.now, CONTROL)
                self.scale(count)

        def crowd() -> Process:
            for time, count in users:
                yield self.clock.after(time - self.clock.now, CONTROL)
                self.set_users(count)

        for process in (arrivals, commands, crowd):
            self.clock.process(process())
        stop = simpy.Event(self.clock)
        stop._ok, stop._value = True, None
        self.clock.schedule(stop, 10 * CONTROL, until_ns)
        self.clock.run(until=stop)
