"""KISim: the control plane of a simulated cluster round the compiled event loop.

    sim = KISim(config, services, PatternTraffic((pattern,), seed=1), seed=1)
    sim.advance(30.0)
    sim.scale("resnet50", 4)
    sim.advance(60.0)

Requests live in the event loop (stream.py), pods and nodes in lifecycle.py: they change only at control events, of
which there are few. Between two of them the loop runs alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.simulation.cluster.accounting import PoolNodes, pool_nodes
from testbed.simulation.cluster.agenda import NodeEvent, PodEvent, ScrapeDue, UsersChange
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.layout import make_nodes, make_sim
from testbed.simulation.cluster.lifecycle import PodLifecycle
from testbed.simulation.cluster.placement import Node
from testbed.simulation.cluster.pods import Pod, StateChange
from testbed.simulation.cluster.samples import Sample, Totals, sample
from testbed.simulation.cluster.services import SimulatedService, Tables, power_of
from testbed.simulation.cluster.state import ClusterState
from testbed.simulation.cluster.stream import SECOND_NS, RequestStream
from testbed.simulation.cluster.traffic import Traffic, Users
from testbed.simulation.state import ABANDONED
from workloads.errors import KisError

ENDS = ("ok", "error", "timeout", "dropped")  # how a request can end
KEPT_SAMPLES_S = 660.0  # how far back an observation may look


class KISim:
    """One run of a cluster. The same arguments and the same calls give the same run, bit for bit."""

    def __init__(
        self,
        config: ClusterConfig,
        services: Sequence[SimulatedService],
        traffic: Traffic | None,
        *,
        users: Sequence[Users] = (),
        seed: int = 0,
        keep_rows: bool = False,
    ) -> None:
        if len({group.model for group in users}) < len(users):
            raise KisError("two groups of users ask for the same model: give one group a model")
        self.config = config
        self.services = tuple(services)
        self.samples: deque[Sample] = deque(maxlen=max(2, round(KEPT_SAMPLES_S / config.scrape_period_s)))
        own_seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
        nodes = make_nodes(config)
        tables = Tables(self.services, max((node.capacity for node in nodes), default=1))
        sim = make_sim(config, self.services, tables, nodes, users, own_seed, keep_rows)
        phases = [service.profile.slow_phase for service in self.services for _ in nodes]
        self.stream = RequestStream(sim, traffic, phases, tables.window_ns, own_seed)
        self._state = ClusterState(config, self.services, tables, nodes, self.stream)
        self._lifecycle = PodLifecycle(self._state, own_seed, closed_loop=bool(users))
        for group in users:
            for second, count in group.counts:
                self._lifecycle.agenda.push(round(second * SECOND_NS), UsersChange(group.model, count))
        self._scrapes, self._scrape_seed = 0, int(np.random.SeedSequence((seed, 2)).generate_state(1)[0])
        self._lifecycle.agenda.push(0, ScrapeDue())

    @property
    def pods(self) -> list[Pod]:
        """Every pod that ever was, by its number."""
        return self._state.pods

    @property
    def states(self) -> list[StateChange]:
        """Every state that a pod has entered, in order of time."""
        return self._state.states

    @property
    def nodes(self) -> list[Node]:
        """Of the cluster; lost ones too, and places for nodes that are not there (`exists`)."""
        return self._state.nodes

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
            control = self._lifecycle.agenda.next_ns
            if not self.stream.run(min(until, control)):
                self._lifecycle.emptied()
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
        self._lifecycle.scale(m, replicas)

    def crash(self, pod: int) -> None:
        """The pod's container dies now; the kubelet starts it again after its back-off."""
        running = self.pods[pod]
        if running.replica is None or running.started_ns is None:
            raise ValueError(f"pod {pod} does not run ({running.state})")
        self._lifecycle.crash(running)

    def lose_node(self, name: str) -> None:
        """The node is gone now, and does not come back."""
        names = [node.name for node in self.nodes]
        if name not in names:
            raise KisError(f"no node '{name}': there are {', '.join(dict.fromkeys(names))}")
        self._lifecycle.lose_node(name)

    def slow_down(self, model: str, factor: float) -> None:
        """From now on the model's batches take `factor` of the time that their profile says, on every device.

        Batches that run already end as they would have. 1 is the profile's time again.
        """
        if not 0 < factor < float("inf"):
            raise ValueError(f"a model is slowed down by a factor above 0, not {factor}")
        self._lifecycle.slow_down(self.model_number(model), factor)

    # What a caller sees.

    def model_number(self, model: str) -> int:
        """Its place in the configuration; KisError if it is not served."""
        names = [served.name for served in self.config.models]
        if model not in names:
            raise KisError(f"the cluster serves {', '.join(names)}, not '{model}'")
        return names.index(model)

    def wanted(self, model: str) -> list[Pod]:
        """Pods that the deployment has asked for and not given up: its spec.replicas."""
        return [pod for pod in self.alive(model) if pod.wanted]

    def alive(self, model: str) -> list[Pod]:
        """Pods that are not gone."""
        m = self.model_number(model)
        return [pod for pod in self._state.alive() if pod.model == m]

    def totals(self, model: str) -> Totals:
        """Answers are counted when the event loop learns of them: at the end of their batch."""
        counts = self.stream.sim.models[self.model_number(model)]
        ended, overdue = sum(int(counts[name]) for name in ENDS), len(self.overdue(model))
        return Totals(
            arrived=int(counts["arrived"]),
            ok=int(counts["ok"]),
            error=int(counts["error"]),
            timeout=int(counts["timeout"]),
            dropped=int(counts["dropped"]),
            missed=int(counts["missed"]) + overdue,
            decided=ended + overdue,
            waiting=int(counts["arrived"]) - ended,
            latency_s=float(counts["latency_ns"]) / SECOND_NS,
        )

    def overdue(self, model: str) -> npt.NDArray[Any]:
        """REQUEST[n]: sent, not ended, and past their deadline."""
        m = self.model_number(model)
        places = self.stream.sim.requests  # most are free: only the others are read whole
        waiting = places[np.flatnonzero(places["id"] >= 0)]
        late = self.now_ns - waiting["scheduled_ns"] > self.stream.sim.models[m]["target_ns"]
        return np.asarray(waiting[late & (waiting["abandoned"] == 0) & (waiting["model"] == m)])

    def histogram(self, model: str) -> npt.NDArray[np.int64]:
        """int64[BINS]: answered requests by latency; `quantile_of` reads it."""
        return np.asarray(self.stream.sim.histogram[self.model_number(model)].copy())

    def gpu_seconds(self, model: str) -> float:
        """Time that the model's pods have held their share of a device, in seconds of a whole device."""
        return self._lifecycle.accounting.gpu_seconds(self.model_number(model))

    def coming_for(self, model: str) -> int:
        """Number of the model's pending pods that a node is coming for; the scheduler has no room for the others."""
        m, coming = self.model_number(model), self._lifecycle.nodes.coming_for()
        return sum(self.pods[number].model == m for number in coming)

    def pool_nodes(self) -> list[PoolNodes]:
        """What each pool has, and has had."""
        prices = self.config.node_hour_prices
        return [
            pool_nodes(number, pool, self.nodes, self.now_ns, None if prices is None else prices[number])
            for number, pool in enumerate(self.config.pools)
        ]

    @property
    def cost(self) -> float | None:
        """Price of all nodes' time so far, in the configuration's currency; None: no prices were given."""
        if self.config.currency is None:
            return None
        return sum(pool.cost for pool in self.pool_nodes() if pool.cost is not None)

    def device_names(self) -> list[tuple[str, int]]:
        """(node, number on it) of each device, in the order of the arrays below."""
        return [(node.name, k) for node in self.nodes for k in range(len(node.used))]

    def device_active_s(self) -> npt.NDArray[np.float64]:
        """float64[devices]: seconds since the start that the device was used: see Accounting.device_active_ns."""
        return np.asarray(self._lifecycle.accounting.device_active_ns() / SECOND_NS)

    def device_memory_bytes(self) -> npt.NDArray[np.float64]:
        """float64[devices]: that replicas hold now; NaN where a replica's memory is not known."""
        return self._lifecycle.accounting.device_memory_bytes()

    def device_energy_j(self) -> npt.NDArray[np.float64]:
        """float64[devices]: since the start; NaN where neither the configuration nor a profile knows their power."""
        kinds = [node.kind for node in self.nodes for _ in node.used]
        known = {kind: power_of(kind, self.config, self.services) for kind in set(kinds)}
        idle_w, by_use_w = np.array([known[kind] for kind in kinds], dtype=float).reshape(-1, 2).T  # None: NaN
        metered = np.array([known[kind].busy_w is None for kind in kinds], dtype=bool)
        used_j = np.where(metered, self._lifecycle.accounting.device_batches_j(), by_use_w * self.device_active_s())
        exists_s = np.array([node.exists_ns(self.now_ns) / SECOND_NS for node in self.nodes for _ in node.used])
        return np.asarray(idle_w * exists_s + used_j)

    def cpu_seconds(self, pods: Sequence[int], done: npt.NDArray[np.float64], now_s: float) -> npt.NDArray[np.float64]:
        """float64[pods]: CPU that each pod's server has used by now_s, after `done` requests; NaN: not known."""
        used = []
        for number, requests in zip(pods, done.tolist(), strict=True):
            pod = self.pods[number]
            known = self.services[self._state.service_of(pod)].profile.server_cpu
            started_s = (pod.started_ns or 0) / SECOND_NS
            idle_s = np.nan if known is None else known.idle_cores * (now_s - started_s)
            used.append(idle_s if known is None else idle_s + known.seconds_per_request * requests)
        return np.array(used, dtype=float)

    @property
    def keeps_rows(self) -> bool:
        """Is there a row for each request?"""
        return bool(self.stream.sim.stream[0]["keeps_rows"])

    def all_rows(self) -> npt.NDArray[Any]:
        """ROW[n]: every request that has ended; their order says nothing."""
        rows = self.stream.all_rows()
        return np.asarray(rows[rows["status"] != ABANDONED])

    def served_rows(self) -> npt.NDArray[Any]:
        """ROW[n]: every request that was in a batch that has ended, whether its client had given it up or not."""
        rows = self.stream.all_rows()
        return np.asarray(rows[rows["batch_size"] > 0])

    def _handle_next(self) -> None:
        event = self._lifecycle.agenda.pop()
        if isinstance(event, PodEvent):
            self._lifecycle.happen(event)
        elif isinstance(event, NodeEvent):
            self._lifecycle.on_nodes(event)
        elif isinstance(event, UsersChange):
            self.stream.set_users(event.users, event.model)
        else:
            self._on_scrape()

    def _on_scrape(self) -> None:
        self.samples.append(sample(self._state, self._lifecycle.accounting))
        self._scrapes += 1
        due_s = self._scrapes * self.config.scrape_period_s
        if self.config.scrape_jitter_s:
            rng = np.random.default_rng((self._scrape_seed, self._scrapes))
            due_s -= float(rng.uniform(0.0, self.config.scrape_jitter_s))
        self._lifecycle.agenda.push(round(due_s * SECOND_NS), ScrapeDue())
