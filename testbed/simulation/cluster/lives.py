"""The pods' lives: what the control plane does, event by event, to the event loop's replicas.

An event has a time, and an order among those of the same time. What is planned for a pod does not happen once its plans
have changed (it was deleted, it crashed, its node was lost).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.simulation.cluster.agenda import Agenda
from testbed.simulation.cluster.config import ClusterConfig, PodTimes
from testbed.simulation.cluster.placement import Node, best_node, why_pending
from testbed.simulation.cluster.pods import Pod, State, StateChange, victims
from testbed.simulation.cluster.services import GIB, Service, Tables
from testbed.simulation.cluster.stream import SECOND_NS, RequestStream
from testbed.simulation.state import CHAIN, Sim
from testbed.simulation.tables import idle_instances, idle_replicas
from workloads.errors import KisError

MAX_BACKOFF_S = 300.0  # of a container that crashes again and again
OUT_OF_MEMORY = "CrashLoopBackOff: out of GPU memory"


class PodLives:
    """All pods of a cluster, on its nodes. stream holds their requests; who owns both advances it between events."""

    def __init__(
        self,
        config: ClusterConfig,
        services: Sequence[Service],
        nodes: list[Node],
        tables: Tables,
        stream: RequestStream,
        seed: int,
        closed_loop: bool,
    ) -> None:
        self.config, self.services, self.stream = config, tuple(services), stream
        self._numbers = {(one.model, one.kind): k for k, one in enumerate(self.services)}
        self.agenda = Agenda()
        self.pods: list[Pod] = []
        self.states: list[StateChange] = []
        self.nodes = nodes
        self._tables, self._seed, self._closed_loop = tables, seed, closed_loop
        self._living: dict[int, Pod] = {}  # those that are not gone
        self._free_rows = np.ones(len(stream.sim.replicas), dtype=bool)
        self._active_before_ns = np.zeros(len(stream.sim.replicas), dtype=np.int64)  # device, when a pod got its row
        self._pending: list[int] = []
        self._images: set[tuple[int, int]] = set()  # (node, model) that have run
        self._plans: dict[int, int] = {}  # pod -> how often its plans have changed
        self._draining: set[int] = set()
        self._profiled_ns = stream.sim.service_ns
        self._slower = np.ones(len(self.services))  # by which factor batches take longer than their profile says
        self._finished_s = np.zeros(len(config.models))  # GPU-seconds of pods that are gone
        self._finished_on_s = np.zeros(len(self.services))  # the same by model and kind of device
        self._start()

    def copy(self, stream: RequestStream) -> PodLives:
        """Lives that go on from here by themselves, over a copy of the stream."""
        twin = copy.copy(self)
        twin.stream, twin.agenda = stream, self.agenda.copy()
        twin.pods = [copy.copy(pod) for pod in self.pods]
        twin.states = list(self.states)
        twin._living = {number: twin.pods[number] for number in self._living}
        twin.nodes = [copy.copy(node) for node in self.nodes]
        for node in twin.nodes:
            node.used = list(node.used)
        twin._pending, twin._images = list(self._pending), set(self._images)
        twin._plans, twin._draining = dict(self._plans), set(self._draining)
        twin._slower = self._slower.copy()
        twin._finished_s, twin._finished_on_s = self._finished_s.copy(), self._finished_on_s.copy()
        twin._free_rows, twin._active_before_ns = self._free_rows.copy(), self._active_before_ns.copy()
        return twin

    # What is done to pods.

    def scale(self, model: int, replicas: int, kind: str | None = None) -> None:
        """The new number of replicas: of the Deployment for that kind of device, or, with none, of the model."""
        mine = [pod for pod in self.alive() if pod.model == model and pod.wanted and kind in (None, pod.kind)]
        for _ in range(replicas - len(mine)):
            self._request_pod(model, kind)
        for pod in victims(mine, len(mine) - replicas) if replicas < len(mine) else ():
            self._delete(pod)
        self._set_causal()

    def crash(self, pod: Pod) -> None:
        """The pod's container dies now."""
        self._crash(pod)
        self._set_causal()

    def lose_node(self, name: str) -> None:
        """All of the node's pods stop now, without a word."""
        lost = {node.number for node in self.nodes if node.name == name}
        for number in lost:
            self.nodes[number].lost = True
        for pod in [pod for pod in self.alive() if pod.node in lost]:
            times = self._times(pod)
            self._lose_requests(pod)
            self._change_plans(pod)
            self._plan(times.node_lost_s, "_on_node_lost", pod)
        self._set_causal()

    def slow_down(self, model: int, factor: float) -> None:
        """Batches of the model that begin from now on take so many times as long as their profile says."""
        self._slower[[one.model == model for one in self.services]] = factor
        self._set_speed()

    def emptied(self) -> None:
        """The stream stopped because a draining replica has answered its last request."""
        pod = next(one for one in self.alive() if one.replica == self.stream.emptied)
        self._end(pod, "drained")
        self._set_causal()

    def happen(self, name: str, arguments: tuple[int, ...]) -> None:
        """An event of the agenda whose time has come."""
        number, plan = arguments
        if self._plans.get(number, 0) == plan:  # else its plans have changed
            getattr(self, name)(self.pods[number])
            self._set_causal()

    # What can be seen of them.

    def alive(self) -> list[Pod]:
        """Pods that are not gone."""
        return list(self._living.values())

    def gpu_seconds(self, model: int, kind: str | None = None) -> float:
        """Time that the model's pods have held their share of a device (of that kind), in seconds of a whole device."""
        mine = [pod for pod in self.alive() if pod.model == model]
        if kind is None:
            return float(self._finished_s[model]) + sum(self._held_s(pod) for pod in mine)
        there = [pod for pod in mine if pod.node is not None and self.nodes[pod.node].kind == kind]
        return float(self._finished_on_s[self._numbers[model, kind]]) + sum(self._held_s(pod) for pod in there)

    def room(self, model: int, kind: str) -> int:
        """Shares of devices of that kind that are free, less those that the Deployment's unbound pods will take."""
        free = sum(node.free for node in self.nodes if node.kind == kind and not node.lost)
        unbound = sum(pod.model == model and pod.kind == kind and pod.node is None for pod in self.alive())
        return max(0, free - unbound)

    def device_active_ns(self) -> npt.NDArray[np.int64]:
        """int64[devices]: time in which networks ran, as a GPU's utilisation counts it; where a profile does not tell,
        in which at least one batch ran."""
        device = self.stream.sim.devices[: sum(len(node.used) for node in self.nodes)]
        running = np.where(device["busy"] > 0, self.stream.now_ns - device["active_from_ns"], 0)
        return np.asarray(np.where(device["networks"] == 1, device["network_ns"], device["active_ns"] + running))

    def device_batches_j(self) -> npt.NDArray[np.float64]:
        """float64[devices]: energy that the batches took which have ended, beside an idle device's."""
        devices = sum(len(node.used) for node in self.nodes)
        return np.asarray(self.stream.sim.devices["batches_j"][:devices])

    def pod_active_ns(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """int64[rows]: active time of each replica's device since its pod holds it."""
        return np.asarray(
            self.device_active_ns()[self.stream.sim.replicas["device"][rows]] - self._active_before_ns[rows]
        )

    def device_memory_bytes(self) -> npt.NDArray[np.float64]:
        """float64[devices]: that containers hold, while they load too; NaN where no replica's memory is known."""
        known = {one.kind for one in self.services if np.isfinite(one.memory_bytes)}
        held = np.array([0.0 if node.kind in known else np.nan for node in self.nodes for _ in node.used])
        for pod in self.alive():
            if pod.replica is not None and pod.started_ns is not None:
                held[int(self._row(pod)["device"])] += self.services[self.service(pod)].memory_bytes
        return held

    def service(self, pod: Pod) -> int:
        """Number of its model's service on the kind of device that it has."""
        assert pod.node is not None
        return self._numbers[pod.model, self.nodes[pod.node].kind]

    # The control plane's events.

    def _start(self) -> None:
        for m, model in enumerate(self.config.models):
            of_kinds = [kind for kind, replicas in model.replicas_of_kind.items() for _ in range(replicas)]
            start: list[str | None] = [None] * model.replicas + of_kinds
            for kind in start:
                pod = self._new_pod(m, kind)
                if not self._bind(pod):
                    raise KisError(
                        f"model '{model.name}' starts with {len(start)} replicas, and the nodes have no room for "
                        f"so many: {pod.reason}"
                    )
                pod.started_ns = pod.loaded_ns = pod.ready_ns = 0
                if not self._fits(pod):
                    raise KisError(
                        f"model '{model.name}' does not fit into the memory of its GPU with {len(start)} replicas: "
                        "see gpu_memory_gib and memory_gib"
                    )
                self._enter(pod, "ready")
                self._on_serving(pod)
        self._set_causal()

    def _enter(self, pod: Pod, state: State) -> None:
        starts = "starting" in (pod.state, state) or "loading" in (pod.state, state)
        pod.state = state
        self.states.append(StateChange(self._now_ns, pod.number, state))
        if starts and self._times(pod).start_slows > 0:
            self._set_speed()

    def _plan(self, delay_s: float, name: str, pod: Pod) -> None:
        arguments = (pod.number, self._plans.get(pod.number, 0))
        self.agenda.push(self._now_ns + round(delay_s * SECOND_NS), name, arguments)

    def _change_plans(self, pod: Pod) -> None:
        """What was planned for the pod does not happen."""
        self._plans[pod.number] = self._plans.get(pod.number, 0) + 1

    def _request_pod(self, m: int, kind: str | None) -> None:
        pod = self._new_pod(m, kind)
        self._plan(self._times(pod).schedule_s, "_on_schedule", pod)

    def _new_pod(self, m: int, kind: str | None) -> Pod:
        pod = Pod(len(self.pods), m, "pending", self._now_ns, changed_ns=self._now_ns, kind=kind)
        self.pods.append(pod)
        self._living[pod.number] = pod
        self._enter(pod, "pending")
        return pod

    def _on_schedule(self, pod: Pod) -> None:
        if not self._bind(pod):
            if pod.number not in self._pending:
                self._pending.append(pod.number)
            return
        times = self._times(pod)
        assert pod.node is not None
        pull_s = 0.0 if (pod.node, pod.model) in self._images else times.image_pull_s
        others = sum(one.state in ("pending", "starting", "loading") for one in self.alive()) - len(self._pending)
        others -= pod.state == "pending"  # itself
        self._enter(pod, "starting")
        self._plan(pull_s + times.container_start_s + others * times.start_together_s, "_on_started", pod)

    def _bind(self, pod: Pod) -> bool:
        """Give the pod a share of a device, if there is one; else its reason says why not."""
        kinds = self.config.models[pod.model].profiles.keys() if pod.kind is None else (pod.kind,)
        node = best_node(self.nodes, kinds, self.config.scheduler)
        if node is None:
            pod.reason = why_pending(self.nodes, kinds)
            return False
        pod.reason, pod.scheduled_ns, pod.node = "", self._now_ns, node.number
        pod.device = node.take(packed=self.config.scheduler == "bin_pack")
        pod.replica = int(np.flatnonzero(self._free_rows)[0])
        self._free_rows[pod.replica] = False
        self._reset_row(pod)
        device = int(self._row(pod)["device"])
        self._active_before_ns[pod.replica] = self.device_active_ns()[device]
        return True

    def _on_started(self, pod: Pod) -> None:
        assert pod.node is not None
        pod.started_ns = self._now_ns
        self._enter(pod, "loading")
        self._images.add((pod.node, pod.model))
        self._plan(self._load_s(pod), "_on_loaded", pod)

    def _on_loaded(self, pod: Pod) -> None:
        assert pod.started_ns is not None
        if not self._fits(pod):
            self._crash(pod, OUT_OF_MEMORY)
            return
        pod.loaded_ns = self._now_ns
        period_ns = round(self._times(pod).probe_period_s * SECOND_NS)
        probes = max(1, -(-(self._now_ns - pod.started_ns) // period_ns))
        self._plan((pod.started_ns + probes * period_ns - self._now_ns) / SECOND_NS, "_on_ready", pod)

    def _on_ready(self, pod: Pod) -> None:
        pod.ready_ns = pod.changed_ns = self._now_ns
        self._enter(pod, "ready")
        self._plan(self._times(pod).endpoint_lag_s, "_on_serving", pod)

    def _on_serving(self, pod: Pod) -> None:
        pod.serving_ns = self._now_ns
        self._enter(pod, "serving")
        self._row(pod)["pod"] = pod.number
        model = self._sim.models[pod.model]
        self._sim.endpoints[pod.model, model["endpoints"]] = pod.replica
        model["endpoints"] += 1
        self._set_levels(pod.node)

    def _delete(self, pod: Pod) -> None:
        pod.deleted_ns = self._now_ns
        self._change_plans(pod)
        if not pod.ready:  # nobody sends to it
            self._end(pod, "deleted")
            return
        times = self._times(pod)
        self._enter(pod, "draining")
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

    def _crash(self, pod: Pod, reason: str = "CrashLoopBackOff") -> None:
        self._lose_requests(pod)
        self._change_plans(pod)
        if pod.deleted_ns is not None:
            self._end(pod, "crashed while draining")
            return
        pod.started_ns = pod.loaded_ns = pod.ready_ns = pod.serving_ns = None
        self._enter(pod, "backoff")
        pod.changed_ns, pod.reason = self._now_ns, reason
        times = self._times(pod)
        backoff_s = min(times.restart_backoff_s * 2.0**pod.restarts, MAX_BACKOFF_S)
        pod.restarts += 1
        self._plan(times.endpoint_lag_s, "_on_unserved", pod)
        self._plan(backoff_s + times.container_start_s, "_on_started", pod)

    def _on_node_lost(self, pod: Pod) -> None:
        """The node controller has noticed: no more requests; the pod is replaced when it is evicted."""
        self._remove_endpoint(pod)
        if pod.ready:
            pod.changed_ns = self._now_ns
            self._enter(pod, "backoff")
        self._plan(self._times(pod).eviction_s, "_on_evicted", pod)

    def _on_evicted(self, pod: Pod) -> None:
        replace = pod.wanted
        self._end(pod, "node lost")
        if replace:
            self._request_pod(pod.model, pod.kind)

    def _end(self, pod: Pod, reason: str) -> None:
        """The pod is gone; what it held is free, and pods that wait are tried again."""
        pod.reason, pod.gone_ns = reason, self._now_ns
        self._enter(pod, "gone")
        pod.deleted_ns = self._now_ns if pod.deleted_ns is None else pod.deleted_ns
        self._change_plans(pod)
        self._draining.discard(pod.number)
        del self._living[pod.number]
        if pod.number in self._pending:
            self._pending.remove(pod.number)
        if pod.replica is None:
            return
        self._finished_s[pod.model] += self._held_s(pod)
        self._finished_on_s[self.service(pod)] += self._held_s(pod)
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

    # Bookkeeping.

    def _set_causal(self) -> None:
        """Does the order between replicas matter now?"""
        models = self.config.models
        shared = any(kind.mode.slows and kind.shares > 1 for kind in self.config.gpu_kinds.values())
        self._sim.stream[0]["causal"] = (
            bool(self._draining)
            or self._closed_loop
            or shared
            or any(
                model.client.retries > 0 or model.client.max_in_flight > 0 or model.balancer == "least_requests"
                for model in models
            )
        )

    def _set_speed(self) -> None:
        """How long batches take: what slows them down, and the containers that start beside them."""
        start = sum(self._times(pod).start_slows for pod in self.alive() if pod.state in ("starting", "loading"))
        factors = (self._slower * (1 + start))[:, np.newaxis, np.newaxis]
        self.stream.sim = self._sim._replace(service_ns=self._profiled_ns * factors)

    def _fits(self, pod: Pod) -> bool:
        """Has its device, or its slice of it, memory for the model that it has just loaded?"""
        assert pod.node is not None
        kind = self.config.gpu_kinds.get(self.nodes[pod.node].kind)
        if kind is None or kind.memory_gib is None:
            return True
        if kind.mode.own_memory:
            own = self.services[self.service(pod)].memory_bytes
            return not own > kind.memory_gib * GIB / kind.shares
        return not self.device_memory_bytes()[int(self._row(pod)["device"])] > kind.memory_gib * GIB

    def _times(self, pod: Pod) -> PodTimes:
        return self.config.models[pod.model].pod

    def _load_s(self, pod: Pod) -> float:
        """Server start and model load: given, or drawn from what calibration saw; the same for the same pod.

        What is drawn round the given one is the same for all pods of a run: how fast a machine starts them differs from
        day to day rather than from pod to pod.
        """
        times = self._times(pod)
        if times.load_s is not None:
            share = np.random.default_rng(np.random.SeedSequence((self._seed, 2))).uniform(-1.0, 1.0)
            return times.load_s + times.load_spread_s * float(share)
        seen = self.services[self.service(pod)].profile.cold_start_s
        if not seen:
            raise KisError(
                f"model '{self.config.models[pod.model].name}': its profile has no cold start: set pod.load_s"
            )
        rng = np.random.default_rng(np.random.SeedSequence((self._seed, pod.number, pod.restarts, 1)))
        return float(rng.choice(seen))

    @property
    def _now_ns(self) -> int:
        return self.stream.now_ns

    @property
    def _sim(self) -> Sim:
        return self.stream.sim

    def _row(self, pod: Pod) -> Any:
        return self._sim.replicas[pod.replica]

    def _reset_row(self, pod: Pod) -> None:
        """The pod's replica holds nothing, and nobody sends to it."""
        assert pod.node is not None
        assert pod.device is not None
        service = self.service(pod)
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
        here = [pod for pod in self.alive() if pod.node == number and pod.replica is not None]
        serving = max(1, sum(pod.serving_ns is not None for pod in here))
        for pod in here:
            self._row(pod)["levels"] = self._tables.levels_row(self.service(pod), serving)

    def _held_s(self, pod: Pod) -> float:
        if pod.scheduled_ns is None or pod.node is None:
            return 0.0
        end_ns = self._now_ns if pod.gone_ns is None else pod.gone_ns
        return (end_ns - pod.scheduled_ns) / SECOND_NS / self.nodes[pod.node].shares
