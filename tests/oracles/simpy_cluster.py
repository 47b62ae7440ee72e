"""The cluster once more, as SimPy processes: nodes, pods, GPUs, balancing, clients that time out and try again, users.

Written from docs/explanation/simulator.md, without the event loop's code; the replicas are simpy_triton's. Overhead is
constant. Noise and the endpoints of a `random` balancer are drawn as that page says (splitmix).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import simpy

from testbed.simulation.rules import BatchingRules
from testbed.simulation.state import MISSED_ENDS
from tests.oracles.simpy_clients import ATTEMPTS, CONTROL, Clients
from tests.oracles.simpy_triton import ARRIVAL, Costs, Process, Replica, Request
from tests.oracles.splitmix import uniform

MAX_BACKOFF_NS = 300_000_000_000


@dataclass(frozen=True)
class NodeSetting:
    """A node with equal GPUs. factors: on a batch's time while 1, 2, ... replicas of its GPU are busy."""

    name: str
    kind: str
    gpus: int
    shares: int = 1
    factors: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class ModelSetting:
    """A deployment and its clients; times in nanoseconds."""

    rules: BatchingRules
    service_ns: Mapping[str, list[float]]  # by kind of GPU, then by batch size (entry 0 is not used)
    noise: list[float]  # quantile function
    replicas: int
    balancer: Literal["random", "round_robin", "least_requests"] = "round_robin"
    replicas_of_kind: Mapping[str, int] = field(default_factory=dict)
    ingress_delay_ns: int = 0
    egress_delay_ns: int = 0
    pause_ns: int = 0
    schedule_ns: int = 0
    pull_ns: int = 0
    start_ns: int = 0
    start_together_ns: int = 0
    start_slows: float = 0.0
    load_ns: int = 0
    probe_ns: int = 1_000_000_000
    lag_ns: int = 0
    pre_stop_ns: int = 0
    grace_ns: int = 30_000_000_000
    backoff_ns: int = 10_000_000_000  # of a crashed container
    node_lost_ns: int = 40_000_000_000
    eviction_ns: int = 300_000_000_000
    timeout_ns: int = 0
    retries: int = 0
    retry_ns: int = 0
    max_in_flight: int = 0
    think_ns: int = 0


@dataclass(eq=False)
class Device:
    """A GPU: how many pods have a share of it, and which pods run batches."""

    node: Node
    number: int
    pods: int = 0
    running: dict[Pod, int] = field(default_factory=dict)
    busy_since_ns: int = 0
    busy_ns: int = 0
    changed: tuple[int, int] = (-1, -1)  # when a batch last began or ended, and of which pod


@dataclass(eq=False)
class Node:
    """A node of the cluster, and the models that it has run."""

    setting: NodeSetting
    devices: list[Device] = field(default_factory=list)
    images: set[int] = field(default_factory=set)
    lost: bool = False

    @property
    def free(self) -> int:
        return self.setting.gpus * self.setting.shares - sum(device.pods for device in self.devices)


@dataclass(eq=False)
class Pod:
    """Its life; -1: that has not happened."""

    number: int
    model: int
    kind: str | None  # that it asks for
    requested: int
    scheduled: int = -1
    started: int = -1
    ready: int = -1
    serving: int = -1
    deleted: int = -1
    gone: int = -1
    step: str = "pending"
    is_ready: bool = False
    restarts: int = 0
    device: Device | None = None
    container: Container | None = None
    outstanding: int = 0
    may_end: bool = False
    plans: int = 0  # how often what was to come of it has been given up

    @property
    def node(self) -> Node | None:
        return None if self.device is None else self.device.node


class Container(Costs):
    """What a pod runs: a replica, whose batches take as long as its model, its GPU and its neighbours make them."""

    def __init__(self, cluster: Cluster, pod: Pod) -> None:
        assert pod.device is not None
        self.cluster, self.pod, self.device, self.setting = cluster, pod, pod.device, cluster.models[pod.model]
        service_ns = self.setting.service_ns[self.device.node.setting.kind]
        super().__init__(service_ns, [1.0], [1.0], 1, [0.0], [float(self.setting.pause_ns)])
        self.replica = Replica(cluster.clock, pod.number, self.setting.rules, self, self.answered)
        self.dead = False

    def duration_ns(self, batch: list[Request], now: int) -> int:
        if self.dead:
            return 1
        number, attempt = divmod(batch[0].number, ATTEMPTS)
        u = float(uniform(self.cluster.seed, number, 3 + 64 * attempt)[0])
        table = self.setting.noise
        noise = float(np.interp(u, np.linspace(0, 1, len(table)), table))
        self.note_change()
        running = self.device.running
        if not running:
            self.device.busy_since_ns = now
        running[self.pod] = running.get(self.pod, 0) + 1
        factors = self.device.node.setting.factors
        factor = factors[min(len(running), len(factors)) - 1] * self.cluster.slowness(self.pod.model)
        return max(0, math.floor(self.service_ns[len(batch)] * noise * factor + 0.5))

    def is_missed(self, batch: list[Request]) -> bool:
        number, attempt = divmod(batch[0].number, ATTEMPTS)
        return bool(uniform(self.cluster.seed, number, 5 + 64 * attempt)[0] < MISSED_ENDS)

    def answered(self, batch: list[Request]) -> None:
        if self.dead:
            return
        if batch[0].status == 0:
            self.vacate(1)
        for request in batch:
            self.cluster.server_answers(request, self.pod)
        self.cluster.end_if_empty(self.pod)

    def note_change(self) -> None:
        """What two replicas of a GPU do in the same nanosecond has no order: who is slowed down is not defined."""
        now, (then, pod) = self.cluster.clock.now, self.device.changed
        if len(self.device.node.setting.factors) > 1:
            self.cluster.tied |= now == then and pod != self.pod.number
        self.device.changed = now, self.pod.number

    def vacate(self, batches: int) -> None:
        self.note_change()
        running = self.device.running
        running[self.pod] -= batches
        if running[self.pod] == 0:
            del running[self.pod]
            if not running:
                self.device.busy_ns += self.cluster.clock.now - self.device.busy_since_ns

    def die(self) -> list[Request]:
        """What it held, in the order in which it is lost: what waits, then what runs."""
        held, replica = self.replica.held(), self.replica
        self.dead = True
        if self.pod in self.device.running:
            self.vacate(self.device.running[self.pod])
        for queue in (replica.in_time, replica.late, replica.payloads):
            queue.clear()
        return held


class Cluster(Clients):
    """Nodes and pods, with their clients; driven by `run`."""

    def __init__(
        self, nodes: list[NodeSetting], models: list[ModelSetting], seed: int, scheduler: str = "spread"
    ) -> None:
        super().__init__(models, seed)
        self.scheduler = scheduler
        self.nodes = [Node(setting) for setting in nodes]
        for node in self.nodes:
            node.devices = [Device(node, k) for k in range(node.setting.gpus)]
        self.pods: list[Pod] = []
        self.waiting: list[Pod] = []
        self.slower = [1.0] * len(models)
        self.tied = False
        for m, model in enumerate(models):
            of_kinds = [kind for kind, replicas in model.replicas_of_kind.items() for _ in range(replicas)]
            for kind in [None] * model.replicas + of_kinds:
                pod = self.new_pod(m, kind)
                assert self.bind(pod)
                pod.started = pod.ready = 0
                pod.is_ready = True
                self.node_of(pod).images.add(m)
                self.serve(pod)

    # Pods.

    def plan(self, pod: Pod, delay_ns: int, what: Callable[[Pod], None]) -> None:
        """It happens to the pod unless its plans change before."""
        plans = pod.plans

        def happen() -> None:
            if pod.plans == plans:
                what(pod)

        self.later(delay_ns, happen)

    def new_pod(self, model: int, kind: str | None) -> Pod:
        pod = Pod(len(self.pods), model, kind, self.clock.now)
        self.pods.append(pod)
        return pod

    def request_pod(self, model: int, kind: str | None) -> None:
        self.plan(self.new_pod(model, kind), self.models[model].schedule_ns, self.try_to_place)

    def scale(self, model: int, replicas: int) -> None:
        own = [p for p in self.pods if p.model == model and p.deleted < 0 and p.gone < 0]
        for _ in range(replicas - len(own)):
            self.request_pod(model, None)
        neighbours = {id(node): sum(p.node is node for p in own) for node in (None, *self.nodes)}

        def rank(p: Pod) -> tuple[Any, ...]:
            placed = (p.device is not None, p.started >= 0, p.is_ready)
            return (*placed, -neighbours[id(p.node)], -max(p.ready, 0), -p.number)

        for pod in sorted(own, key=rank)[: max(0, len(own) - replicas)]:
            self.delete(pod)

    @staticmethod
    def node_of(pod: Pod) -> Node:
        assert pod.device is not None
        return pod.device.node

    def bind(self, pod: Pod) -> bool:
        kinds = [pod.kind] if pod.kind is not None else list(self.models[pod.model].service_ns)
        spread = self.scheduler == "spread"

        def score(node: Node) -> int:
            shares = node.setting.gpus * node.setting.shares
            return 100 * (node.free - 1 if spread else shares - node.free + 1) // shares

        nodes = [node for node in self.nodes if node.setting.kind in kinds and node.free and not node.lost]
        if not nodes:
            return False
        best = max(score(node) for node in nodes)
        node = next(node for node in nodes if score(node) == best)
        with_room = [device for device in node.devices if device.pods < node.setting.shares]
        used = (min if spread else max)(device.pods for device in with_room)
        pod.device = next(device for device in with_room if device.pods == used)
        pod.device.pods += 1
        pod.scheduled = self.clock.now
        return True

    def try_to_place(self, pod: Pod) -> None:
        if not self.bind(pod):
            if pod not in self.waiting:
                self.waiting.append(pod)
            return
        if pod in self.waiting:
            self.waiting.remove(pod)
        setting = self.models[pod.model]
        pod.step = "starting"
        begun = [p for p in self.pods if p.step in ("pending", "starting", "loading") and p not in self.waiting]
        pull_ns = 0 if pod.model in self.node_of(pod).images else setting.pull_ns
        start_ns = pull_ns + setting.start_ns + (len(begun) - 1) * setting.start_together_ns
        self.plan(pod, start_ns, self.start)

    def start(self, pod: Pod) -> None:
        pod.started, pod.step = self.clock.now, "loading"
        self.node_of(pod).images.add(pod.model)
        setting = self.models[pod.model]
        self.plan(pod, setting.load_ns, lambda p: self.probe(p, setting))

    def probe(self, pod: Pod, setting: ModelSetting) -> None:
        probes = max(1, math.ceil((self.clock.now - pod.started) / setting.probe_ns))
        self.plan(pod, pod.started + probes * setting.probe_ns - self.clock.now, self.become_ready)

    def become_ready(self, pod: Pod) -> None:
        pod.ready, pod.is_ready, pod.step = self.clock.now, True, "ready"
        self.plan(pod, self.models[pod.model].lag_ns, self.serve)

    def serve(self, pod: Pod) -> None:
        pod.serving, pod.step = self.clock.now, "serving"
        pod.container = Container(self, pod)
        self.endpoints[pod.model].append(pod)

    def slowness(self, model: int) -> float:
        """How much longer than by the profile and the GPU's other replicas batches take now."""
        starting = sum(self.models[p.model].start_slows for p in self.pods if p.step in ("starting", "loading"))
        return self.slower[model] * (1 + starting)

    def leave_endpoints(self, pod: Pod) -> None:
        if pod in self.endpoints[pod.model]:
            self.endpoints[pod.model].remove(pod)

    def delete(self, pod: Pod) -> None:
        pod.deleted = self.clock.now
        pod.plans += 1
        if not pod.is_ready:
            self.end(pod)
            return
        setting = self.models[pod.model]
        pod.is_ready, pod.step = False, "draining"
        self.plan(pod, setting.lag_ns, self.leave_endpoints)
        self.plan(pod, max(setting.lag_ns, setting.pre_stop_ns), self.stop)
        self.plan(pod, max(setting.lag_ns, setting.grace_ns), self.kill)

    def stop(self, pod: Pod) -> None:
        pod.may_end = True
        self.end_if_empty(pod)

    def end_if_empty(self, pod: Pod) -> None:
        if pod.may_end and pod.outstanding == 0 and pod.gone < 0:
            self.end(pod)

    def kill(self, pod: Pod) -> None:
        self.lose(pod)
        self.end(pod)

    def end(self, pod: Pod) -> None:
        pod.gone, pod.step, pod.is_ready = self.clock.now, "gone", False
        pod.deleted = self.clock.now if pod.deleted < 0 else pod.deleted
        pod.plans += 1
        if pod in self.waiting:
            self.waiting.remove(pod)
        if pod.device is None:
            return
        self.leave_endpoints(pod)
        pod.container = None
        pod.device.pods -= 1
        for waiting in list(self.waiting):
            self.try_to_place(waiting)

    # What goes wrong.

    def lose(self, pod: Pod) -> None:
        """The pod's container dies with all that it holds."""
        container, pod.container = pod.container, None
        pod.outstanding, pod.may_end = 0, False
        for request in container.die() if container else ():
            attempt = self.on_server.pop(request.number)
            self.failed(attempt, "died")

    def crash(self, pod: Pod) -> None:
        setting = self.models[pod.model]
        self.lose(pod)
        pod.plans += 1
        if pod.deleted >= 0:
            self.end(pod)
            return
        pod.started = pod.ready = pod.serving = -1
        pod.step, pod.is_ready = "backoff", False
        self.plan(pod, setting.lag_ns, self.leave_endpoints)
        wait_ns = min(setting.backoff_ns * 2**pod.restarts, MAX_BACKOFF_NS)
        pod.restarts += 1
        self.plan(pod, wait_ns + setting.start_ns, self.start)

    def lose_node(self, name: str) -> None:
        for node in self.nodes:
            node.lost = node.lost or node.setting.name == name
        for pod in self.pods:
            if pod.node is not None and pod.node.setting.name == name and pod.gone < 0:
                self.lose(pod)
                pod.plans += 1
                if pod.step in ("starting", "loading"):
                    pod.step = "lost"
                self.plan(pod, self.models[pod.model].node_lost_ns, self.notice_loss)

    def notice_loss(self, pod: Pod) -> None:
        self.leave_endpoints(pod)
        pod.is_ready = False
        self.plan(pod, self.models[pod.model].eviction_ns, self.evict)

    def evict(self, pod: Pod) -> None:
        replaced = pod.deleted < 0
        self.end(pod)
        if replaced:
            self.request_pod(pod.model, pod.kind)

    def slow_down(self, model: int, factor: float) -> None:
        self.slower[model] = factor

    # The run.

    def run(
        self,
        arrivals: list[tuple[int, int]],
        commands: list[tuple[int, Callable[[Cluster], None]]],
        until_ns: int,
    ) -> None:
        """arrivals: (time, model), ascending; commands: (time, what is done then), ascending."""

        def clients() -> Process:
            for time, model in arrivals:
                yield self.clock.after(time - self.clock.now, ARRIVAL)
                self.arrive(model)

        self.clock.process(clients())
        for time, command in commands:
            self.later(time, lambda command=command: command(self))
        stop = simpy.Event(self.clock)
        stop._ok, stop._value = True, None
        self.clock.schedule(stop, 10 * CONTROL, until_ns)
        self.clock.run(until=stop)
