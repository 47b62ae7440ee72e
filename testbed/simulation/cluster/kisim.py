"""KISim: the control plane of a simulated cluster round the compiled event loop.

    sim = KISim(config, services, PatternTraffic((pattern,), seed=1), seed=1)
    sim.advance(30.0)
    sim.scale("resnet50", 4)
    sim.advance(60.0)

Requests live in the event loop (stream_loop.py); pods, nodes and samples live here and change only at control events,
of which there are few. Between two of them the loop runs alone.
"""

from __future__ import annotations

import copy
import heapq
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from testbed.simulation import stream_loop
from testbed.simulation.cluster.config import ClusterConfig, PodTimes
from testbed.simulation.cluster.placement import Node, best_node, why_pending
from testbed.simulation.cluster.pods import Pod, victims
from testbed.simulation.cluster.services import Service, Tables
from testbed.simulation.cluster.traffic import Traffic, Users
from testbed.simulation.state import (
    BINS,
    BINS_AN_OCTAVE,
    DEVICE,
    EVENT,
    LEAST_REQUESTS,
    MODEL,
    NEVER,
    NODE,
    RANDOM,
    RATE_BUCKETS,
    ROUND_ROBIN,
    ROW,
    USER,
    Sim,
)
from testbed.simulation.tables import idle_instances, idle_replicas
from workloads.errors import KisError

SECOND_NS = 1_000_000_000
PLACES = 4096  # for requests under way, to begin with
SLOW_STEPS = 256  # of the slow phases, generated at a time
KEPT_SAMPLES_S = 660.0  # how far back an observation may look
MAX_BACKOFF_S = 300.0  # of a container that crashes again and again
_BALANCERS = {"random": RANDOM, "round_robin": ROUND_ROBIN, "least_requests": LEAST_REQUESTS}
# What a copy shares with its original: nothing writes to it.
_CONSTANT = (
    "rules",
    "preferred_upto",
    "preferred_above",
    "service_ns",
    "sharing",
    "noise_table",
    "contention",
    "levels",
    "level_rates",
    "level_tables",
    "feed_ns",
    "feed_model",
    "slow",
)


class Sample(NamedTuple):
    """One scrape of all replicas. Counters run from a pod's start."""

    time_ns: int
    pods: npt.NDArray[np.int64]  # number of each pod that serves or drains
    done: npt.NDArray[np.int64]
    refused: npt.NDArray[np.int64]
    batches: npt.NDArray[np.int64]
    queue_ns: npt.NDArray[np.int64]  # sum over requests
    compute_ns: npt.NDArray[np.int64]
    waiting: npt.NDArray[np.int64]  # requests that no instance has taken
    outstanding: npt.NDArray[np.int64]  # requests that clients wait for
    active_ns: npt.NDArray[np.int64]  # of the pod's device: time that at least one batch ran


class Totals(NamedTuple):
    """What clients of one model have seen so far."""

    arrived: int
    ok: int
    error: int
    timeout: int
    missed: int  # not answered, or later than the latency target
    latency_s: float  # sum over answered requests


class KISim:
    """One run of a cluster. The same arguments and the same calls give the same run, bit for bit."""

    def __init__(
        self,
        config: ClusterConfig,
        services: Sequence[Service],
        traffic: Traffic | None,
        *,
        users: Sequence[Users] = (),
        seed: int = 0,
        keep_rows: bool = False,
    ) -> None:
        self.config = config
        self.services = tuple(services)
        self.now_ns = 0
        self.pods: list[Pod] = []
        self.samples: deque[Sample] = deque(maxlen=max(2, round(KEPT_SAMPLES_S / config.scrape_period_s)))
        self.nodes, self._first_device = _nodes(config)
        self.rows: list[npt.NDArray[Any]] = []  # ROW arrays, if they are kept
        if len(users) > 1:
            raise KisError("closed-loop users of one model only: give one group of users")
        self._traffic, self._users = traffic, tuple(users)
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
        self._tables = Tables(self.services, max((node.capacity for node in self.nodes), default=1))
        self._pending: list[int] = []
        self._images: set[tuple[int, int]] = set()  # (node, model) that have run
        self._control: list[tuple[int, int, str, tuple[int, ...]]] = []
        self._order = 0
        self._lives: dict[int, int] = {}  # pod -> how often its plans have changed
        self._draining: set[int] = set()
        self._finished_s = np.zeros(len(config.models))  # GPU-seconds of pods that are gone
        self._block, self._block_end_ns = -1, -1
        self._slow_end_ns, self._slow_x = -1, np.zeros(0)
        self.sim = self._empty_sim(keep_rows)
        self._start()

    # What a caller does.

    @property
    def now_s(self) -> float:
        """Seconds since the run's start."""
        return self.now_ns / SECOND_NS

    def advance(self, until_s: float) -> None:
        """Let everything happen up to and including that second of the run."""
        until = round(until_s * SECOND_NS)
        if until < self.now_ns:
            raise ValueError(f"until_s {until_s} has passed: it is {self.now_s} s")
        while True:
            control = self._control[0][0] if self._control else NEVER
            if not self._run(min(until, control)):
                continue
            if control > until:
                return
            self._handle_next()

    def scale(self, model: str, replicas: int) -> None:
        """Ask for that many replicas of a model, as a patch of the deployment's scale does."""
        m = self.model_number(model)
        most = self.config.models[m].max_replicas
        if not 0 <= replicas <= most:
            raise ValueError(f"{replicas} replicas of '{model}': allowed are 0..{most}")
        mine = self.wanted(model)
        for _ in range(replicas - len(mine)):
            self._request_pod(m)
        for pod in victims(mine, len(mine) - replicas) if replicas < len(mine) else ():
            self._delete(pod)
        self._set_causal()

    def crash(self, pod: int) -> None:
        """The pod's container dies now; the kubelet starts it again after its back-off."""
        one = self.pods[pod]
        if one.replica is None or one.started_ns is None:
            raise ValueError(f"pod {pod} does not run ({one.state})")
        self._crash(one)
        self._set_causal()

    def lose_node(self, name: str) -> None:
        """The node is gone now, and does not come back."""
        node = next((node for node in self.nodes if node.name == name), None)
        if node is None:
            raise ValueError(f"no node '{name}': there are {', '.join(node.name for node in self.nodes)}")
        node.lost = True
        for pod in [pod for pod in self.pods if pod.node == node.number and pod.state != "gone"]:
            times = self._times(pod)
            self._lose_requests(pod)
            self._new_plan(pod)
            self._plan(times.node_lost_s, "_on_node_lost", pod)
        self._set_causal()

    def copy(self) -> KISim:
        """A simulation that goes on from here by itself."""
        twin = copy.copy(self)
        arrays = {name: value if name in _CONSTANT else value.copy() for name, value in self.sim._asdict().items()}
        twin.sim = Sim(**arrays)
        twin.pods = [copy.copy(pod) for pod in self.pods]
        twin.nodes = [copy.copy(node) for node in self.nodes]
        for node in twin.nodes:
            node.used = list(node.used)
        twin.samples = self.samples.copy()
        twin.rows = list(self.rows)
        twin._control, twin._pending = list(self._control), list(self._pending)
        twin._images, twin._draining, twin._lives = set(self._images), set(self._draining), dict(self._lives)
        twin._finished_s, twin._slow_x = self._finished_s.copy(), self._slow_x.copy()
        twin._free_rows = self._free_rows.copy()
        return twin

    # What a caller sees.

    def model_number(self, model: str) -> int:
        """Its place in the configuration; KisError if it is not served."""
        names = [one.name for one in self.config.models]
        if model not in names:
            raise KisError(f"the cluster serves {', '.join(names)}, not '{model}'")
        return names.index(model)

    def wanted(self, model: str) -> list[Pod]:
        """Pods that the deployment has asked for and not given up: its spec.replicas."""
        m = self.model_number(model)
        return [pod for pod in self._alive() if pod.model == m and pod.wanted]

    def totals(self, model: str) -> Totals:
        """Counted when the event loop learns of an answer: at the end of its batch."""
        one = self.sim.models[self.model_number(model)]
        return Totals(
            arrived=int(one["arrived"]),
            ok=int(one["ok"]),
            error=int(one["error"]),
            timeout=int(one["timeout"]),
            missed=int(one["missed"]),
            latency_s=float(one["latency_ns"]) / SECOND_NS,
        )

    def histogram(self, model: str) -> npt.NDArray[np.int64]:
        """int64[BINS]: answered requests by latency; `quantile_of` reads it."""
        return np.asarray(self.sim.histogram[self.model_number(model)].copy())

    def gpu_seconds(self, model: str) -> float:
        """Time that the model's pods have held their share of a device, in seconds of a whole device."""
        m = self.model_number(model)
        running = sum(self._held_s(pod) for pod in self._alive() if pod.model == m)
        return float(self._finished_s[m]) + running

    def all_rows(self) -> npt.NDArray[Any]:
        """ROW[n]: every request that has ended; their order says nothing."""
        left = self.sim.rows[: int(self.sim.stream[0]["rows"])].copy()
        return np.concatenate([*self.rows, left])

    # The control plane's events.

    def _start(self) -> None:
        for m, model in enumerate(self.config.models):
            for _ in range(model.replicas):
                pod = self._new_pod(m)
                if not self._bind(pod):
                    raise KisError(
                        f"model '{model.name}' starts with {model.replicas} replicas, and the nodes have no room for "
                        f"so many: {pod.reason}"
                    )
                pod.started_ns = pod.loaded_ns = pod.ready_ns = 0
                pod.state = "ready"
                self._on_serving(pod)
        for users in self._users:
            for second, count in users.counts:
                self._push(round(second * SECOND_NS), "_on_users", (users.model, count))
        self._push(0, "_on_scrape", ())
        self._set_causal()

    def _handle_next(self) -> None:
        _, _, name, arguments = heapq.heappop(self._control)
        if name in ("_on_scrape", "_on_users"):
            getattr(self, name)(*arguments)
            return
        number, life = arguments
        if self._lives.get(number, 0) == life:  # else its plans have changed
            getattr(self, name)(self.pods[number])
            self._set_causal()

    def _push(self, time_ns: int, name: str, arguments: tuple[int, ...]) -> None:
        heapq.heappush(self._control, (time_ns, self._order, name, arguments))
        self._order += 1

    def _plan(self, delay_s: float, name: str, pod: Pod) -> None:
        self._push(self.now_ns + round(delay_s * SECOND_NS), name, (pod.number, self._lives.get(pod.number, 0)))

    def _new_plan(self, pod: Pod) -> None:
        """What was planned for the pod does not happen."""
        self._lives[pod.number] = self._lives.get(pod.number, 0) + 1

    def _request_pod(self, m: int) -> None:
        pod = self._new_pod(m)
        self._plan(self._times(pod).schedule_s, "_on_schedule", pod)

    def _new_pod(self, m: int) -> Pod:
        pod = Pod(len(self.pods), m, "pending", self.now_ns, changed_ns=self.now_ns)
        self.pods.append(pod)
        return pod

    def _on_schedule(self, pod: Pod) -> None:
        if not self._bind(pod):
            if pod.number not in self._pending:
                self._pending.append(pod.number)
            return
        times = self._times(pod)
        assert pod.node is not None
        pull_s = 0.0 if (pod.node, pod.model) in self._images else times.image_pull_s
        pod.state = "starting"
        self._plan(pull_s + times.container_start_s, "_on_started", pod)

    def _bind(self, pod: Pod) -> bool:
        """Give the pod a share of a device, if there is one; else its reason says why not."""
        kinds = self.config.models[pod.model].profiles.keys()
        node = best_node(self.nodes, kinds, self.config.scheduler)
        if node is None:
            pod.reason = why_pending(self.nodes, kinds)
            return False
        pod.reason, pod.scheduled_ns, pod.node = "", self.now_ns, node.number
        pod.device = node.take(packed=self.config.scheduler == "bin_pack")
        pod.replica = int(np.flatnonzero(self._free_rows)[0])
        self._free_rows[pod.replica] = False
        self._reset_row(pod)
        return True

    def _on_started(self, pod: Pod) -> None:
        assert pod.node is not None
        pod.started_ns, pod.state = self.now_ns, "loading"
        self._images.add((pod.node, pod.model))
        self._plan(self._load_s(pod), "_on_loaded", pod)

    def _on_loaded(self, pod: Pod) -> None:
        assert pod.started_ns is not None
        pod.loaded_ns = self.now_ns
        period_ns = round(self._times(pod).probe_period_s * SECOND_NS)
        probes = max(1, -(-(self.now_ns - pod.started_ns) // period_ns))
        self._plan((pod.started_ns + probes * period_ns - self.now_ns) / SECOND_NS, "_on_ready", pod)

    def _on_ready(self, pod: Pod) -> None:
        pod.state, pod.ready_ns, pod.changed_ns = "ready", self.now_ns, self.now_ns
        self._plan(self._times(pod).endpoint_lag_s, "_on_serving", pod)

    def _on_serving(self, pod: Pod) -> None:
        pod.state, pod.serving_ns = "serving", self.now_ns
        self._row(pod)["pod"] = pod.number
        model = self.sim.models[pod.model]
        self.sim.endpoints[pod.model, model["endpoints"]] = pod.replica
        model["endpoints"] += 1
        self._set_levels(pod.node)

    def _delete(self, pod: Pod) -> None:
        pod.deleted_ns = self.now_ns
        self._new_plan(pod)
        if not pod.ready:  # nobody sends to it
            self._end(pod, "deleted")
            return
        times = self._times(pod)
        pod.state = "draining"
        self._plan(times.endpoint_lag_s, "_on_unserved", pod)
        self._plan(max(times.pre_stop_s, times.endpoint_lag_s), "_on_may_end", pod)
        self._plan(max(times.grace_period_s, times.endpoint_lag_s), "_on_kill", pod)

    def _on_unserved(self, pod: Pod) -> None:
        self._remove_endpoint(pod)

    def _on_may_end(self, pod: Pod) -> None:
        if self._row(pod)["outstanding"] == 0:
            self._end(pod, "drained")
        else:
            self._row(pod)["draining"] = 1
            self._draining.add(pod.number)

    def _on_kill(self, pod: Pod) -> None:
        self._lose_requests(pod)
        self._end(pod, "killed at the end of its grace period")

    def _crash(self, pod: Pod) -> None:
        self._lose_requests(pod)
        self._new_plan(pod)
        if pod.deleted_ns is not None:
            self._end(pod, "crashed while draining")
            return
        pod.state, pod.started_ns, pod.loaded_ns, pod.ready_ns, pod.serving_ns = "backoff", None, None, None, None
        pod.changed_ns, pod.reason = self.now_ns, "CrashLoopBackOff"
        times = self._times(pod)
        backoff_s = min(times.restart_backoff_s * 2.0**pod.restarts, MAX_BACKOFF_S)
        pod.restarts += 1
        self._plan(times.endpoint_lag_s, "_on_unserved", pod)
        self._plan(backoff_s + times.container_start_s, "_on_started", pod)

    def _on_node_lost(self, pod: Pod) -> None:
        """The node controller has noticed: no more requests; the pod is replaced when it is evicted."""
        self._remove_endpoint(pod)
        if pod.ready:
            pod.state, pod.changed_ns = "backoff", self.now_ns
        self._plan(self._times(pod).eviction_s, "_on_evicted", pod)

    def _on_evicted(self, pod: Pod) -> None:
        replace = pod.wanted
        self._end(pod, "node lost")
        if replace:
            self._request_pod(pod.model)

    def _end(self, pod: Pod, reason: str) -> None:
        """The pod is gone; what it held is free, and pods that wait are tried again."""
        pod.state, pod.reason, pod.gone_ns = "gone", reason, self.now_ns
        pod.deleted_ns = self.now_ns if pod.deleted_ns is None else pod.deleted_ns
        self._new_plan(pod)
        self._draining.discard(pod.number)
        if pod.number in self._pending:
            self._pending.remove(pod.number)
        if pod.replica is None:
            return
        self._finished_s[pod.model] += self._held_s(pod)
        self._remove_endpoint(pod)
        assert pod.node is not None
        assert pod.device is not None
        self.nodes[pod.node].used[pod.device] -= 1
        self.sim.replicas[pod.replica] = idle_replicas(1, 1)[0]
        self._free_rows[pod.replica] = True
        pod.replica = None
        self._set_levels(pod.node)
        waiting, self._pending = self._pending, []
        for number in waiting:
            self._on_schedule(self.pods[number])

    def _on_users(self, m: int, count: int) -> None:
        stream = self.sim.stream[0]
        before = int(stream["users"])
        stream["users"] = count
        for user in range(before, count):
            self._grow_events()
            self._push_user(user, m)

    def _on_scrape(self) -> None:
        self.samples.append(self._sample())
        self._push(self.now_ns + round(self.config.scrape_period_s * SECOND_NS), "_on_scrape", ())

    # Between control events.

    def _run(self, until: int) -> bool:
        """Run the event loop; False: something happened on the way, look at the control events again."""
        while True:
            if self.now_ns >= self._block_end_ns and self._traffic is not None:
                self._next_block()
            if self.now_ns >= self._slow_end_ns:
                self._next_slow_phase()
            to = min(until, self._block_end_ns if self._traffic is not None else NEVER, self._slow_end_ns)
            code = stream_loop.run_until(self.sim, to, self._tables.window_ns)
            self.now_ns = int(self.sim.stream[0]["now_ns"])
            if code == stream_loop.DONE:
                if to == until:
                    return True
            elif code == stream_loop.EMPTIED:
                row = int(self.sim.stream[0]["emptied"])
                pod = next(one for one in self._alive() if one.replica == row)
                self._end(pod, "drained")
                self._set_causal()
                return False
            elif code == stream_loop.MORE_ROWS:
                count = int(self.sim.stream[0]["rows"])
                self.rows.append(self.sim.rows[:count].copy())
                self.sim.stream[0]["rows"] = 0
            else:
                self._grow()

    def _next_block(self) -> None:
        assert self._traffic is not None
        self._block += 1
        block = self._traffic.block(self._block)
        if block is None:
            self._block_end_ns = NEVER - 1
            self.sim.stream[0]["arrivals"] = self.sim.stream[0]["next_arrival"] = 0
            return
        self._block_end_ns = block.end_ns
        self.sim = self.sim._replace(
            feed_ns=np.ascontiguousarray(block.arrival_ns), feed_model=np.ascontiguousarray(block.model)
        )
        self.sim.stream[0]["arrivals"], self.sim.stream[0]["next_arrival"] = len(block.arrival_ns), 0

    def _next_slow_phase(self) -> None:
        """SLOW_STEPS more steps of each service's slow phase on each node: an Ornstein-Uhlenbeck process."""
        phases = [one.profile.slow_phase for one in self.services]
        if all(phase.sigma == 0 for phase in phases):
            self._slow_end_ns = NEVER - 1
            self.sim = self.sim._replace(slow=np.ones((len(phases) * max(len(self.nodes), 1), 1)))
            return
        step_ns = int(self.sim.rules[0]["slow_step_ns"])
        first = self.now_ns // step_ns
        sigma = np.repeat([phase.sigma for phase in phases], len(self.nodes))
        timescale_s = np.repeat([phase.timescale_s for phase in phases], len(self.nodes))
        decay = np.exp(-step_ns / SECOND_NS / timescale_s)
        rng = np.random.default_rng(np.random.SeedSequence((self._seed, int(first))))
        shocks = ndtri(rng.random((len(sigma), SLOW_STEPS)))
        x = np.empty_like(shocks)
        last = self._slow_x
        for k in range(SLOW_STEPS):
            last = shocks[:, k] if len(last) == 0 else decay * last + np.sqrt(1 - decay**2) * shocks[:, k]
            x[:, k] = last
        self._slow_x = last
        self.sim = self.sim._replace(slow=np.exp(x * sigma[:, None] - sigma[:, None] ** 2 / 2))
        self.sim.stream[0]["slow_first"] = first
        self._slow_end_ns = (int(first) + SLOW_STEPS) * step_ns

    def _grow(self) -> None:
        """Twice as many places for requests under way."""
        sim, before = self.sim, len(self.sim.requests)

        def doubled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.concatenate([array, np.zeros_like(array)])

        free = int(sim.stream[0]["free"])
        places = np.zeros(2 * before, dtype=np.int64)
        places[:free] = sim.free[:free]
        places[free : free + before] = np.arange(2 * before - 1, before - 1, -1)
        requests = doubled(sim.requests)
        requests["id"][before:] = -1
        names = ("arrival_ns", "noise", "extra_ns", "pause_ns", "link")
        self.sim = sim._replace(free=places, requests=requests, **{name: doubled(getattr(sim, name)) for name in names})
        self.sim.stream[0]["free"] = free + before
        self._grow_events()
        if sim.stream[0]["keeps_rows"]:
            self.sim = self.sim._replace(rows=np.concatenate([sim.rows, np.zeros(4 * before, dtype=ROW)]))

    def _grow_events(self) -> None:
        """The heap has room for an event of every place, and some."""
        wanted = int(self.sim.stream[0]["events"]) + 2 * len(self.sim.requests) + 16
        if len(self.sim.events) < wanted:
            self.sim = self.sim._replace(events=np.concatenate([self.sim.events, np.zeros(wanted, dtype=EVENT)]))

    # Bookkeeping.

    def _empty_sim(self, keep_rows: bool) -> Sim:
        models = len(self.config.models)
        capacity = max(1, sum(node.capacity for node in self.nodes))
        devices = max(1, sum(len(node.used) for node in self.nodes))
        self._free_rows = np.ones(capacity, dtype=bool)
        factors = [("cpu", (1.0,)), *((name, kind.factors) for name, kind in self.config.gpu_kinds.items())]
        longest = max(len(one) for _, one in factors)
        device = np.zeros(devices, dtype=DEVICE)
        kinds = [name for name, _ in factors]
        for node in self.nodes:
            first = self._first_device[node.number]
            device["sharing"][first : first + len(node.used)] = kinds.index(node.kind)
        leaves = 1 << max(0, (capacity - 1).bit_length())
        sim = self._tables.empty_sim(capacity, PLACES)
        step_s = min(one.profile.slow_phase.timescale_s for one in self.services) / 20
        sim.rules["slow_step_ns"] = max(1, round(step_s * SECOND_NS))
        sim.requests["id"] = -1
        sim.stream["on"], sim.stream["free"], sim.stream["seed"] = 1, PLACES, self._seed
        sim.stream["keeps_rows"], sim.stream["emptied"] = keep_rows, -1
        return sim._replace(
            models=np.concatenate([self._model_record(m) for m in range(models)]),
            endpoints=np.zeros((models, capacity), dtype=np.int64),
            nodes=np.zeros(max(1, len(self.nodes)), dtype=NODE),
            node_rates=np.zeros((max(1, len(self.nodes)), RATE_BUCKETS), dtype=np.int64),
            devices=device,
            sharing=np.array([[*one, *[one[-1]] * (longest - len(one))] for _, one in factors]),
            histogram=np.zeros((models, BINS), dtype=np.int64),
            rows=np.zeros(4 * PLACES if keep_rows else 1, dtype=ROW),
            events=np.zeros(3 * PLACES, dtype=EVENT),
            tree=np.full(2 * leaves, NEVER),
        )

    def _model_record(self, m: int) -> npt.NDArray[Any]:
        model = self.config.models[m]
        record = np.zeros(1, dtype=MODEL)
        record["balancer"] = _BALANCERS[model.balancer]
        record["timeout_ns"] = round(model.client.timeout_s * SECOND_NS)
        record["retries"] = model.client.retries
        record["backoff_ns"] = round(model.client.backoff_s * SECOND_NS)
        record["target_ns"] = round(model.latency_target_s * SECOND_NS)
        follows = model.client.retries > 0 or any(users.model == m for users in self._users)
        record["watched"] = follows and model.client.timeout_s > 0
        overhead = next(one for one in self.services if one.model == m).profile.overhead
        record["per_position_ns"] = overhead.per_position_s * SECOND_NS
        record["per_size_ns"] = overhead.per_batch_size_s * SECOND_NS
        for users in self._users:
            if users.model == m:
                record["think_ns"] = round(users.think_s * SECOND_NS)
                record["think_random"] = users.think == "exponential"
        return record

    def _set_causal(self) -> None:
        """Does the order between replicas matter now?"""
        models = self.config.models
        shared = any(
            kind.sharing in ("time_slicing", "mps") and kind.shares > 1 for kind in self.config.gpu_kinds.values()
        )
        self.sim.stream[0]["causal"] = (
            bool(self._draining)
            or bool(self._users)
            or shared
            or any(model.client.retries > 0 or model.balancer == "least_requests" for model in models)
        )

    def _alive(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.state != "gone"]

    def _times(self, pod: Pod) -> PodTimes:
        return self.config.models[pod.model].pod

    def _load_s(self, pod: Pod) -> float:
        """Server start and model load: given, or drawn from what calibration saw; the same for the same pod."""
        given = self._times(pod).load_s
        if given is not None:
            return given
        seen = self.services[self._service(pod)].profile.cold_start_s
        if not seen:
            raise KisError(
                f"model '{self.config.models[pod.model].name}': its profile has no cold start: set pod.load_s"
            )
        rng = np.random.default_rng(np.random.SeedSequence((self._seed, pod.number, pod.restarts, 1)))
        return float(rng.choice(seen))

    def _service(self, pod: Pod) -> int:
        assert pod.node is not None
        kind = self.nodes[pod.node].kind
        return next(k for k, one in enumerate(self.services) if one.model == pod.model and one.kind == kind)

    def _row(self, pod: Pod) -> Any:
        return self.sim.replicas[pod.replica]

    def _reset_row(self, pod: Pod) -> None:
        """The pod's replica holds nothing, and nobody sends to it."""
        assert pod.node is not None
        assert pod.device is not None
        service = self._service(pod)
        instances = self.services[service].config.instances
        record = idle_replicas(1, instances)[0]
        record["model"], record["service"], record["node"] = pod.model, service, pod.node
        record["slow"] = service * len(self.nodes) + pod.node
        record["device"] = self._first_device[pod.node] + pod.device
        self.sim.replicas[pod.replica] = record
        self.sim.instances[pod.replica] = idle_instances((1, self.sim.instances.shape[1]))[0]
        self.sim.payloads[pod.replica] = np.zeros(self.sim.payloads.shape[1], dtype=self.sim.payloads.dtype)
        self._set_levels(pod.node)

    def _lose_requests(self, pod: Pod) -> None:
        """What the pod held ends as errors; requests that reach it find nobody."""
        if pod.replica is None:
            return
        self._grow_events()
        stream_loop.lose_replica(self.sim, pod.replica, self.now_ns)
        self._reset_row(pod)
        self._draining.discard(pod.number)

    def _remove_endpoint(self, pod: Pod) -> None:
        count = int(self.sim.models[pod.model]["endpoints"])
        row = self.sim.endpoints[pod.model]
        kept = row[:count][row[:count] != pod.replica].copy()
        row[: len(kept)] = kept
        self.sim.models[pod.model]["endpoints"] = len(kept)

    def _set_levels(self, number: int | None) -> None:
        """Overhead depends on how many replicas run on the node."""
        here = [pod for pod in self._alive() if pod.node == number and pod.replica is not None]
        serving = max(1, sum(pod.serving_ns is not None for pod in here))
        for pod in here:
            self._row(pod)["levels"] = self._tables.levels_row(self._service(pod), serving)

    def _held_s(self, pod: Pod) -> float:
        if pod.scheduled_ns is None or pod.node is None:
            return 0.0
        end_ns = self.now_ns if pod.gone_ns is None else pod.gone_ns
        return (end_ns - pod.scheduled_ns) / SECOND_NS / self.nodes[pod.node].shares

    def _push_user(self, user: int, m: int) -> None:
        """A user begins: an event at the end of the heap is in order, because none is earlier than now."""
        events = [tuple(one) for one in self.sim.events[: int(self.sim.stream[0]["events"])]]
        order = int(self.sim.stream[0]["next_event"])
        events.append((self.now_ns, order, USER, user, m))
        self.sim.stream[0]["next_event"] = order + 1
        self.sim.stream[0]["events"] = len(events)
        self.sim.events[: len(events)] = sorted(events)  # a sorted row is a heap

    def _sample(self) -> Sample:
        rows = np.flatnonzero(self.sim.replicas["pod"] >= 0)
        of, instances = self.sim.replicas[rows], self.sim.instances[rows]
        running = np.where(instances["free_ns"] != NEVER, instances["size"], 0).sum(axis=1)
        device = self.sim.devices[of["device"]]
        return Sample(
            time_ns=self.now_ns,
            pods=of["pod"],
            done=of["done"],
            refused=of["refused"],
            batches=of["batches"],
            queue_ns=of["queue_ns"],
            compute_ns=of["compute_ns"],
            waiting=of["in_flight"] - running,
            outstanding=of["outstanding"],
            active_ns=device["active_ns"] + np.where(device["busy"] > 0, self.now_ns - device["active_from_ns"], 0),
        )


def quantile_of(histogram: npt.NDArray[np.int64], q: float) -> float:
    """Seconds: the q-quantile of a latency histogram, within .4 % (the middle of its bin); NaN if it is empty."""
    total = int(histogram.sum())
    if total == 0:
        return float("nan")
    place = int(np.searchsorted(np.cumsum(histogram), q * total, side="left"))
    octave, bin_number = divmod(place, BINS_AN_OCTAVE)
    return float(2.0 ** (octave - 1) * (1 + (bin_number + 0.5) / BINS_AN_OCTAVE)) / SECOND_NS


def _nodes(config: ClusterConfig) -> tuple[list[Node], list[int]]:
    """All nodes, and the number of each one's first device. A pool with GPUs and room for others is two nodes' worth
    of devices under one name only if it has both: then its CPU side is a node of its own."""
    nodes: list[Node] = []
    first, devices = [], 0
    for pool in config.pools:
        for k in range(pool.nodes):
            sides = []
            if pool.gpu_kind is not None:
                sides.append((pool.gpu_kind, config.gpu_kinds[pool.gpu_kind].shares, pool.gpus))
            if pool.cpu_replicas:
                sides.append(("cpu", 1, pool.cpu_replicas))
            for kind, shares, count in sides:
                nodes.append(Node(len(nodes), f"{pool.name}-{k}", kind, shares, [0] * count))
                first.append(devices)
                devices += count
    return nodes, first
