"""The pods' lifecycle: what the control plane does, event by event.

An event has a time, and an order among those of the same time. What is planned for a pod does not happen once its plans
have changed (it was deleted, it crashed, its node was lost).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from testbed.simulation.cluster.accounting import Accounting
from testbed.simulation.cluster.agenda import Agenda, NodeEvent, PodEvent, PodStep
from testbed.simulation.cluster.config import PodTimes
from testbed.simulation.cluster.placement import best_node, preempted_node, why_pending
from testbed.simulation.cluster.pods import Pod, State, StateChange, victims
from testbed.simulation.cluster.provisioning import NodeLifecycle
from testbed.simulation.cluster.replica_rows import ReplicaRows
from testbed.simulation.cluster.state import ClusterState
from testbed.simulation.cluster.stream import SECOND_NS
from workloads.errors import KisError

MAX_BACKOFF_S = 300.0  # of a container that crashes again and again
OUT_OF_MEMORY = "CrashLoopBackOff: out of GPU memory"


class PodLifecycle:
    """All pods of a cluster, on its nodes. The state's stream holds their requests; who owns both advances it between
    events."""

    def __init__(self, state: ClusterState, seed: int, closed_loop: bool) -> None:
        self.state, self.accounting = state, Accounting(state)
        self.agenda = Agenda()
        self._rows, self._seed = ReplicaRows(state, closed_loop), seed
        self._pending: list[int] = []
        self._plans: dict[int, int] = {}  # pod -> how often its plans have changed
        self._draining: set[int] = set()
        self._slower = np.ones(len(state.services))  # by which factor batches have become slower since the start
        self.nodes = NodeLifecycle(state, self.agenda, seed, self.pending, self._try_pending)
        self._start()
        self._set_speed()

    def pending(self) -> list[Pod]:
        """Pods that the scheduler has found no room for, in the order in which they are tried."""
        return [self.state.pods[number] for number in self._pending]

    # What is done to pods.

    def scale(self, model: int, replicas: int) -> None:
        """The new number of replicas of the model; what is new goes where the scheduler puts it."""
        own = [pod for pod in self.state.alive() if pod.model == model and pod.wanted]
        for _ in range(replicas - len(own)):
            self._request_pod(model, None)
        for pod in victims(own, len(own) - replicas) if replicas < len(own) else ():
            self._delete(pod)
        self._set_order()

    def crash(self, pod: Pod) -> None:
        """The pod's container dies now."""
        self._crash(pod)
        self._set_order()

    def lose_node(self, name: str) -> None:
        """All of the node's pods stop now, without a word."""
        lost = {node.number for node in self.state.nodes if node.name == name and node.exists}
        for number in lost:
            self.state.nodes[number].lost = True
        for pod in [pod for pod in self.state.alive() if pod.node in lost]:
            times = self._times(pod)
            self._lose_requests(pod)
            self._change_plans(pod)
            if pod.state in ("starting", "loading"):
                self._enter(pod, "backoff")
            self._plan(times.node_lost_s, "node_lost", pod)
        self.nodes.settle()
        self._set_order()

    def slow_down(self, model: int, factor: float) -> None:
        """Batches of the model that begin from now on take so many times as long as at the start."""
        self._slower[[service.model == model for service in self.state.services]] = factor
        self._set_speed()

    def emptied(self) -> None:
        """The stream stopped because a draining replica has answered its last request."""
        pod = next(candidate for candidate in self.state.alive() if candidate.replica == self.state.stream.emptied)
        self._end(pod, "drained")
        self._set_order()

    def happen(self, event: PodEvent) -> None:
        """An event of the agenda whose time has come."""
        if self._plans.get(event.pod, 0) == event.plan:  # else its plans have changed
            steps: dict[PodStep, Callable[[Pod], None]] = {
                "schedule": self._on_schedule,
                "started": self._on_started,
                "loaded": self._on_loaded,
                "ready": self._on_ready,
                "serving": self._on_serving,
                "unserved": self._rows.remove_endpoint,
                "may_end": self._on_may_end,
                "kill": self._on_kill,
                "node_lost": self._on_node_lost,
                "evicted": self._on_evicted,
            }
            steps[event.step](self.state.pods[event.pod])
            self._set_order()

    def on_nodes(self, event: NodeEvent) -> None:
        """An event of the provisioner."""
        self.nodes.happen(event)
        self._set_order()

    # The control plane's events.

    def _start(self) -> None:
        for m, model in enumerate(self.state.config.models):
            of_kinds = [kind for kind, replicas in model.replicas_of_kind.items() for _ in range(replicas)]
            start: list[str | None] = [None] * model.replicas + of_kinds
            for kind in start:
                pod = self._new_pod(m, kind)
                kinds = [*model.profiles] if kind is None else [kind]
                if not self._bind(pod) and not (self.nodes.start_with(kinds) and self._bind(pod)):
                    raise KisError(
                        f"model '{model.name}' starts with {len(start)} replicas, and the nodes have no room for "
                        f"so many: {pod.reason}"
                    )
                pod.started_ns = pod.loaded_ns = pod.ready_ns = 0
                self.state.node_of(pod).images.add(m)
                self.state.node_of(pod).weights.add(m)
                if not self.accounting.fits(pod):
                    raise KisError(
                        f"model '{model.name}' does not fit into the memory of its GPU with {len(start)} replicas: "
                        "see gpu_memory_gib and memory_gib"
                    )
                self._enter(pod, "ready")
                self._on_serving(pod)
        self.nodes.settle()
        self._set_order()

    def _enter(self, pod: Pod, state: State) -> None:
        starts = "starting" in (pod.state, state) or "loading" in (pod.state, state)
        pod.state = state
        self.state.states.append(StateChange(self.state.now_ns, pod.number, state))
        if starts and self._times(pod).start_slows > 0:
            self._set_speed()

    def _plan(self, delay_s: float, step: PodStep, pod: Pod) -> None:
        event = PodEvent(step, pod.number, self._plans.get(pod.number, 0))
        self.agenda.push(self.state.now_ns + round(delay_s * SECOND_NS), event)

    def _change_plans(self, pod: Pod) -> None:
        """What was planned for the pod does not happen."""
        self._plans[pod.number] = self._plans.get(pod.number, 0) + 1

    def _request_pod(self, m: int, kind: str | None) -> None:
        pod = self._new_pod(m, kind)
        self._plan(self._times(pod).schedule_s, "schedule", pod)

    def _new_pod(self, m: int, kind: str | None) -> Pod:
        pod = Pod(len(self.state.pods), m, "pending", self.state.now_ns, changed_ns=self.state.now_ns, kind=kind)
        self.state.pods.append(pod)
        self.state.living[pod.number] = pod
        self._enter(pod, "pending")
        return pod

    def _on_schedule(self, pod: Pod) -> None:
        if not self._bind(pod):
            if pod.number not in self._pending:
                self._pending.append(pod.number)
                self.nodes.settle(new_pod=True)
            return
        if pod.number in self._pending:
            self._pending.remove(pod.number)
        self.nodes.settle()
        times = self._times(pod)
        pull_s = 0.0 if pod.model in self.state.node_of(pod).images else times.image_pull_s
        others = sum(other.state in ("pending", "starting", "loading") for other in self.state.alive()) - len(
            self._pending
        )
        others -= pod.state == "pending"  # itself
        self._enter(pod, "starting")
        self._plan(pull_s + times.container_start_s + others * times.start_together_s, "started", pod)

    def _bind(self, pod: Pod) -> bool:
        """Give the pod a share of a device, if there is one; else its reason says why not."""
        kinds = self.state.config.models[pod.model].profiles.keys() if pod.kind is None else (pod.kind,)
        node = best_node(self.state.nodes, kinds, self.state.config.scheduler)
        if node is None:
            node = preempted_node(self.state.nodes, kinds)
            if node is None:
                pod.reason = why_pending(self.state.nodes, kinds)
                return False
            node.placeholders -= 1
        pod.reason, pod.scheduled_ns, pod.node = "", self.state.now_ns, node.number
        pod.device = node.take(packed=self.state.config.scheduler == "bin_pack")
        self._rows.take(pod)
        self.accounting.begin(pod)
        return True

    def _on_started(self, pod: Pod) -> None:
        pod.started_ns = self.state.now_ns
        self._enter(pod, "loading")
        self.state.node_of(pod).images.add(pod.model)
        self._plan(self._load_s(pod), "loaded", pod)

    def _on_loaded(self, pod: Pod) -> None:
        assert pod.started_ns is not None
        if not self.accounting.fits(pod):
            self._crash(pod, OUT_OF_MEMORY)
            return
        self.state.node_of(pod).weights.add(pod.model)
        pod.loaded_ns = self.state.now_ns
        period_ns = round(self._times(pod).probe_period_s * SECOND_NS)
        probes = max(1, -(-(self.state.now_ns - pod.started_ns) // period_ns))
        self._plan((pod.started_ns + probes * period_ns - self.state.now_ns) / SECOND_NS, "ready", pod)

    def _on_ready(self, pod: Pod) -> None:
        pod.ready_ns = pod.changed_ns = self.state.now_ns
        self._enter(pod, "ready")
        self._plan(self._times(pod).endpoint_lag_s, "serving", pod)

    def _on_serving(self, pod: Pod) -> None:
        pod.serving_ns = self.state.now_ns
        self._enter(pod, "serving")
        self._rows.add_endpoint(pod)

    def _delete(self, pod: Pod) -> None:
        pod.deleted_ns = self.state.now_ns
        self._change_plans(pod)
        if not pod.ready:  # nobody sends to it
            self._end(pod, "deleted")
            return
        times = self._times(pod)
        self._enter(pod, "draining")
        self._plan(times.endpoint_lag_s, "unserved", pod)
        self._plan(max(times.pre_stop_s, times.endpoint_lag_s), "may_end", pod)
        self._plan(max(times.grace_period_s, times.endpoint_lag_s), "kill", pod)

    def _on_may_end(self, pod: Pod) -> None:
        if self._rows.of(pod)["outstanding"] == 0:
            self._end(pod, "drained")
        else:
            self._rows.of(pod)["draining"] = 1
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
        pod.changed_ns, pod.reason = self.state.now_ns, reason
        times = self._times(pod)
        backoff_s = min(times.restart_backoff_s * 2.0**pod.restarts, MAX_BACKOFF_S)
        pod.restarts += 1
        self._plan(times.endpoint_lag_s, "unserved", pod)
        self._plan(backoff_s + times.container_start_s, "started", pod)

    def _on_node_lost(self, pod: Pod) -> None:
        """The node controller has noticed: no more requests; the pod is replaced when it is evicted."""
        self._rows.remove_endpoint(pod)
        if pod.ready:
            pod.changed_ns = self.state.now_ns
            self._enter(pod, "backoff")
        self._plan(self._times(pod).eviction_s, "evicted", pod)

    def _on_evicted(self, pod: Pod) -> None:
        replace = pod.wanted
        self._end(pod, "node lost")
        if replace:
            self._request_pod(pod.model, pod.kind)

    def _end(self, pod: Pod, reason: str) -> None:
        """The pod is gone; what it held is free, and pods that wait are tried again."""
        pod.reason, pod.gone_ns = reason, self.state.now_ns
        self._enter(pod, "gone")
        pod.deleted_ns = self.state.now_ns if pod.deleted_ns is None else pod.deleted_ns
        self._change_plans(pod)
        self._draining.discard(pod.number)
        del self.state.living[pod.number]
        if pod.number in self._pending:
            self._pending.remove(pod.number)
        if pod.replica is None:
            return
        self.accounting.end(pod)
        self._rows.remove_endpoint(pod)
        assert pod.device is not None
        self.state.node_of(pod).used[pod.device] -= 1
        self._rows.give_back(pod)
        self._try_pending()
        self.nodes.settle()

    def _try_pending(self) -> None:
        for number in tuple(self._pending):
            self._on_schedule(self.state.pods[number])

    # Bookkeeping.

    def _set_order(self) -> None:
        self._rows.set_order(draining=bool(self._draining))

    def _set_speed(self) -> None:
        """How long batches take: what slows them down, and the containers that start beside them."""
        starting = [pod for pod in self.state.alive() if pod.state in ("starting", "loading")]
        own = np.array([self.state.config.models[service.model].batch_factor for service in self.state.services])
        self._rows.set_speed(own * self._slower * (1 + sum(self._times(pod).start_slows for pod in starting)))

    def _lose_requests(self, pod: Pod) -> None:
        """What the pod held ends as errors."""
        if pod.replica is not None:
            self._rows.lose_requests(pod)
            self._draining.discard(pod.number)

    def _times(self, pod: Pod) -> PodTimes:
        return self.state.config.models[pod.model].pod

    def _load_s(self, pod: Pod) -> float:
        """Server start and model load: given, or drawn from what calibration saw; the same for the same pod. On a node
        that has loaded the model before it may have times of its own.

        What is drawn round the given one is the same for all pods of a run: how fast a machine starts them differs from
        day to day rather than from pod to pod.
        """
        times = self._times(pod)
        rng = np.random.default_rng(np.random.SeedSequence((self._seed, pod.number, pod.restarts, 1)))
        if times.warm_load_s and pod.model in self.state.node_of(pod).weights:
            return float(rng.choice(times.warm_load_s))
        if times.load_s is not None:
            share = np.random.default_rng(np.random.SeedSequence((self._seed, 2))).uniform(-1.0, 1.0)
            return times.load_s + times.load_spread_s * float(share)
        cold_starts_s = self.state.services[self.state.service_of(pod)].profile.cold_start_s
        if not cold_starts_s:
            name = self.state.config.models[pod.model].name
            raise KisError(f"model '{name}': its profile has no cold start: set pod.load_s")
        return float(rng.choice(cold_starts_s))
