"""KISim: the control plane of a simulated cluster round the compiled event loop.

    sim = KISim(config, services, PatternTraffic((pattern,), seed=1), seed=1)
    sim.advance(30.0)
    sim.scale("resnet50", 4)
    sim.advance(60.0)

Requests live in the event loop (stream.py); pods, nodes and samples live here and change only at control events, of
which there are few. Between two of them the loop runs alone.
"""

from __future__ import annotations

import copy
import heapq
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.simulation.cluster.config import ClusterConfig, PodTimes
from testbed.simulation.cluster.layout import make_nodes, make_sim
from testbed.simulation.cluster.placement import best_node, why_pending
from testbed.simulation.cluster.pods import Pod, victims
from testbed.simulation.cluster.services import Service, Tables, power_of
from testbed.simulation.cluster.stream import SECOND_NS, RequestStream
from testbed.simulation.cluster.traffic import Traffic, Users
from testbed.simulation.state import CHAIN, NEVER, Sim
from testbed.simulation.tables import idle_instances, idle_replicas
from workloads.errors import KisError

KEPT_SAMPLES_S = 660.0  # how far back an observation may look
MAX_BACKOFF_S = 300.0  # of a container that crashes again and again


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
    active_ns: npt.NDArray[np.int64]  # of the pod's device, since it has it: time that at least one batch ran


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
        self.pods: list[Pod] = []
        self._living: dict[int, Pod] = {}  # those that are not gone
        self.samples: deque[Sample] = deque(maxlen=max(2, round(KEPT_SAMPLES_S / config.scrape_period_s)))
        self.nodes = make_nodes(config)
        if len(users) > 1:
            raise KisError("closed-loop users of one model only: give one group of users")
        self._users = tuple(users)
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
        self._tables = Tables(self.services, max((node.capacity for node in self.nodes), default=1))
        sim = make_sim(config, self.services, self._tables, self.nodes, self._users, self._seed, keep_rows)
        phases = [one.profile.slow_phase for one in self.services for _ in self.nodes]
        self.stream = RequestStream(sim, traffic, phases, self._tables.window_ns, self._seed)
        self._free_rows = np.ones(len(sim.replicas), dtype=bool)
        self._active_before_ns = np.zeros(len(sim.replicas), dtype=np.int64)  # of the device, when a pod got its row
        self._pending: list[int] = []
        self._images: set[tuple[int, int]] = set()  # (node, model) that have run
        self._control: list[tuple[int, int, str, tuple[int, ...]]] = []
        self._order = 0
        self._lives: dict[int, int] = {}  # pod -> how often its plans have changed
        self._draining: set[int] = set()
        self._finished_s = np.zeros(len(config.models))  # GPU-seconds of pods that are gone
        self._start()

    # What a caller does.

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the run's start."""
        return self.stream.now_ns

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
            if not self.stream.run(min(until, control)):
                pod = next(one for one in self._alive() if one.replica == self.stream.emptied)
                self._end(pod, "drained")
                self._set_causal()
            elif control > until:
                return
            else:
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
        lost = [node for node in self.nodes if node.name == name]
        if not lost:
            raise KisError(f"no node '{name}': there are {', '.join(node.name for node in self.nodes)}")
        for node in lost:
            node.lost = True
        for pod in [pod for pod in self._alive() if pod.node in {node.number for node in lost}]:
            times = self._times(pod)
            self._lose_requests(pod)
            self._new_plan(pod)
            self._plan(times.node_lost_s, "_on_node_lost", pod)
        self._set_causal()

    def copy(self) -> KISim:
        """A simulation that goes on from here by itself."""
        twin = copy.copy(self)
        twin.stream = self.stream.copy()
        twin.pods = [copy.copy(pod) for pod in self.pods]
        twin._living = {number: twin.pods[number] for number in self._living}
        twin.nodes = [copy.copy(node) for node in self.nodes]
        for node in twin.nodes:
            node.used = list(node.used)
        twin.samples = self.samples.copy()
        twin._control, twin._pending = list(self._control), list(self._pending)
        twin._images, twin._draining, twin._lives = set(self._images), set(self._draining), dict(self._lives)
        twin._finished_s = self._finished_s.copy()
        twin._free_rows, twin._active_before_ns = self._free_rows.copy(), self._active_before_ns.copy()
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
        return [pod for pod in self.alive(model) if pod.wanted]

    def alive(self, model: str) -> list[Pod]:
        """Pods that are not gone."""
        m = self.model_number(model)
        return [pod for pod in self._alive() if pod.model == m]

    def totals(self, model: str) -> Totals:
        """Counted when the event loop learns of an answer: at the end of its batch."""
        one = self._sim.models[self.model_number(model)]
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
        return np.asarray(self._sim.histogram[self.model_number(model)].copy())

    def gpu_seconds(self, model: str) -> float:
        """Time that the model's pods have held their share of a device, in seconds of a whole device."""
        m = self.model_number(model)
        running = sum(self._held_s(pod) for pod in self.alive(model))
        return float(self._finished_s[m]) + running

    def device_names(self) -> list[tuple[str, int]]:
        """(node, number on it) of each device, in the order of the arrays below."""
        return [(node.name, k) for node in self.nodes for k in range(len(node.used))]

    def device_active_s(self) -> npt.NDArray[np.float64]:
        """float64[devices]: seconds since the start in which at least one batch ran."""
        return np.asarray(self._device_active_ns() / SECOND_NS)

    def device_power_w(self, utilisation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[devices]: power at that utilisation; NaN where neither the configuration nor a profile knows it."""
        kinds = [node.kind for node in self.nodes for _ in node.used]
        known = {kind: power_of(kind, self.config, self.services) for kind in set(kinds)}
        idle, busy = np.array([known[kind] for kind in kinds]).reshape(-1, 2).T
        return np.asarray(idle + (busy - idle) * utilisation)

    def cpu_cores(self, pods: Sequence[int], requests_per_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[pods]: cores that each pod's server uses at its rate; NaN where the profile does not know."""
        cores = []
        for number, rate in zip(pods, requests_per_s.tolist(), strict=True):
            known = self.services[self._service(self.pods[number])].profile.server_cpu
            cores.append(np.nan if known is None else known.idle_cores + known.seconds_per_request * rate)
        return np.array(cores)

    def all_rows(self) -> npt.NDArray[Any]:
        """ROW[n]: every request that has ended; their order says nothing."""
        return self.stream.all_rows()

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
        self._living[pod.number] = pod
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
        device = int(self._row(pod)["device"])
        self._active_before_ns[pod.replica] = self._device_active_ns()[device]
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
        model = self._sim.models[pod.model]
        self._sim.endpoints[pod.model, model["endpoints"]] = pod.replica
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
        del self._living[pod.number]
        if pod.number in self._pending:
            self._pending.remove(pod.number)
        if pod.replica is None:
            return
        self._finished_s[pod.model] += self._held_s(pod)
        self._remove_endpoint(pod)
        assert pod.node is not None
        assert pod.device is not None
        self.nodes[pod.node].used[pod.device] -= 1
        self._sim.replicas[pod.replica] = idle_replicas(1, 1)[0]
        self._free_rows[pod.replica] = True
        pod.replica = None
        self._set_levels(pod.node)
        waiting, self._pending = self._pending, []
        for number in waiting:
            self._on_schedule(self.pods[number])

    def _on_users(self, m: int, count: int) -> None:
        self.stream.set_users(count, m)

    def _on_scrape(self) -> None:
        self.samples.append(self._sample())
        self._push(self.now_ns + round(self.config.scrape_period_s * SECOND_NS), "_on_scrape", ())

    # Bookkeeping.

    def _set_causal(self) -> None:
        """Does the order between replicas matter now?"""
        models = self.config.models
        shared = any(
            kind.sharing in ("time_slicing", "mps") and kind.shares > 1 for kind in self.config.gpu_kinds.values()
        )
        self._sim.stream[0]["causal"] = (
            bool(self._draining)
            or bool(self._users)
            or shared
            or any(model.client.retries > 0 or model.balancer == "least_requests" for model in models)
        )

    def _alive(self) -> list[Pod]:
        return list(self._living.values())

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

    @property
    def _sim(self) -> Sim:
        return self.stream.sim

    def _row(self, pod: Pod) -> Any:
        return self._sim.replicas[pod.replica]

    def _reset_row(self, pod: Pod) -> None:
        """The pod's replica holds nothing, and nobody sends to it."""
        assert pod.node is not None
        assert pod.device is not None
        service = self._service(pod)
        instances = self.services[service].config.instances
        record = idle_replicas(1, instances)[0]
        record["model"], record["service"], record["node"] = pod.model, service, pod.node
        record["slow"] = service * len(self.nodes) + pod.node
        record["device"] = self.nodes[pod.node].first_device + pod.device
        self._sim.replicas[pod.replica] = record
        self._sim.instances[pod.replica] = idle_instances((1, self._sim.instances.shape[1]))[0]
        self._sim.payloads[pod.replica] = np.zeros(self._sim.payloads.shape[1], dtype=CHAIN)
        self._set_levels(pod.node)

    def _lose_requests(self, pod: Pod) -> None:
        """What the pod held ends as errors; requests that reach it find nobody."""
        if pod.replica is None:
            return
        self.stream.lose(pod.replica)
        self._reset_row(pod)
        self._draining.discard(pod.number)

    def _remove_endpoint(self, pod: Pod) -> None:
        count = int(self._sim.models[pod.model]["endpoints"])
        row = self._sim.endpoints[pod.model]
        kept = row[:count][row[:count] != pod.replica].copy()
        row[: len(kept)] = kept
        self._sim.models[pod.model]["endpoints"] = len(kept)

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

    def _device_active_ns(self) -> npt.NDArray[np.int64]:
        device = self._sim.devices[: sum(len(node.used) for node in self.nodes)]
        return np.asarray(device["active_ns"] + np.where(device["busy"] > 0, self.now_ns - device["active_from_ns"], 0))

    def _sample(self) -> Sample:
        rows = np.flatnonzero(self._sim.replicas["pod"] >= 0)
        of, instances = self._sim.replicas[rows], self._sim.instances[rows]
        running = np.where(instances["free_ns"] != NEVER, instances["size"], 0).sum(axis=1)
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
            active_ns=self._device_active_ns()[of["device"]] - self._active_before_ns[rows],
        )
