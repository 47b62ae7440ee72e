"""What a simulated cluster run has of each interval: rows of a MetricLog, or of a ScalingLog."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from testbed.autoscaling.post_mortem import Interval
from testbed.autoscaling.simulated import PolicyRun
from testbed.measurement.latency_histogram import quantile_of
from testbed.measurement.metric_log import MetricLog
from testbed.measurement.scaling_log import COST, scaling_frame
from testbed.simulation.cluster.accounting import HOUR_S
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.pods import Pod


class Meter:
    """Utilisation and power of every device from one reading to the next, and the energy of all since the start."""

    def __init__(self, sim: KISim) -> None:
        self.sim = sim
        self._active_s, self._device_j, self._since_s = sim.device_active_s(), sim.device_energy_j(), sim.now_s
        self._first_j = float(self._device_j.sum())

    @property
    def energy_j(self) -> float:
        """Of all devices, up to the last reading; NaN: the power of some is not known."""
        return float(self._device_j.sum()) - self._first_j

    def read(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """float64[devices] twice: share of the time since the last reading with a batch, and watts (NaN: not known)."""
        active_s, seconds = self.sim.device_active_s(), self.sim.now_s - self._since_s
        share = (active_s - self._active_s) / seconds
        device_j = self.sim.device_energy_j()
        power_w = (device_j - self._device_j) / seconds
        self._active_s, self._device_j, self._since_s = active_s, device_j, self.sim.now_s
        return share, power_w


class ScalingRecord:
    """What a ScalingLog has of one run: a row for each interval, and the latency histogram of the whole run."""

    def __init__(self, run: PolicyRun, model: str) -> None:
        self._run, self._model = run, model
        self._meter = Meter(run.sim)
        self._rows: list[dict[str, int | None]] = []

    def note(self) -> None:
        """A row for the interval that ends now."""
        sim, model = self._run.sim, self._model
        totals, pods = sim.totals(model), sim.wanted(model)
        self._meter.read()
        cost = sim.cost
        energy_j = self._meter.energy_j
        self._rows.append(
            {
                "time_ns": sim.now_ns,
                "arrived": totals.arrived,
                "ok": totals.ok,
                "error": totals.error,
                "timeout": totals.timeout,
                "dropped": totals.dropped,
                "missed": totals.missed,
                "decided": totals.decided,
                "asked": len(pods),
                "ready": sum(pod.ready for pod in pods),
                "changes": len(self._run.steps),
                "gpu_us": round(1e6 * sim.gpu_seconds(model)),
                "energy_mj": round(1e3 * energy_j) if np.isfinite(energy_j) else None,
                **({} if cost is None else {COST: round(1e6 * cost)}),
            }
        )

    def frame(self, seed: int) -> pd.DataFrame:
        """The rows of a ScalingLog."""
        return scaling_frame(seed, self._rows, self._run.sim.histogram(self._model))


class Observed:
    """What happened in each interval, as rows of a MetricLog."""

    def __init__(self, sim: KISim) -> None:
        self.sim, self.rows = sim, list[tuple[int, str, str, dict[str, str], float, str]]()
        self._names = [model.name for model in sim.config.models]
        self._totals = {name: sim.totals(name) for name in self._names}
        self._histograms = {name: sim.histogram(name) for name in self._names}
        self._meter = Meter(sim)
        self.intervals: dict[str, list[Interval]] = {name: [] for name in self._names}  # by model
        self._since_s = sim.now_s
        self._makes_nodes = sim.config.provisioner is not None
        self._most = {pool.pool: pool.nodes for pool in sim.pool_nodes()}
        self._waited_s, self._at_max_s = 0.0, 0.0

    @property
    def energy_j(self) -> float:
        """Of all devices; NaN: the power of some is not known."""
        return self._meter.energy_j

    @property
    def nodes(self) -> dict[str, Any] | None:
        """What summary.json says of nodes and money; None: their number is fixed, and they have no price.

        pending_for_node_s, pending_at_max_s: time with a pending pod that a node was made for, and with one that found
        all node groups at their largest.
        """
        cost = self.sim.cost
        if not self._makes_nodes and cost is None:
            return None
        return {
            "currency": self.sim.config.currency,
            "cost": cost,
            "pending_for_node_s": self._waited_s,
            "pending_at_max_s": self._at_max_s,
            "pools": [
                {
                    "name": pool.pool,
                    "most": self._most[pool.pool],
                    "at_the_end": pool.nodes,
                    "node_hours": pool.node_s / HOUR_S,
                    "gpu_hours": pool.gpu_s / HOUR_S,
                    "cost": pool.cost,
                }
                for pool in self.sim.pool_nodes()
            ],
        }

    def metrics(self, provenance: dict[str, Any]) -> MetricLog:
        """Everything noted, and every state that a pod entered."""
        names = [model.name for model in self.sim.config.models]
        states = [
            (time_ns, "replica", "state", _pod_labels(names, self.sim.pods[pod], state), 1.0, "count")
            for time_ns, pod, state in self.sim.states
        ]
        return MetricLog.from_rows(self.rows + states, provenance)

    def note(self) -> None:
        """Rows for the interval that ends now."""
        coming = self._note_nodes() if self._makes_nodes else {}
        for name in self._names:
            before, now = self._totals[name], self.sim.totals(name)
            histogram = self.sim.histogram(name)
            pods = self.sim.wanted(name)
            new = histogram - self._histograms[name]
            ready, pending = sum(pod.ready for pod in pods), sum(pod.state == "pending" for pod in pods)
            arrived, missed = now.arrived - before.arrived, now.missed - before.missed
            self.intervals[name].append(
                Interval(
                    self._since_s,
                    self.sim.now_s,
                    arrived,
                    missed,
                    len(pods),
                    ready,
                    pending,
                    coming=coming.get(name),
                    waiting=now.waiting,
                )
            )
            values = [
                ("spec_replicas", float(len(pods)), "count"),
                ("ready_replicas", float(ready), "count"),
                ("pending_replicas", float(pending), "count"),
                ("arrived", float(arrived), "count"),
                ("answered", float(now.ok - before.ok), "count"),
                ("missed", float(missed), "count"),
            ]
            if name in coming:
                values.append(("pending_for_node", float(coming[name]), "count"))
            if new.sum():
                values.append(("latency_p95", quantile_of(new, 0.95), "s"))
            self.rows += [
                (self.sim.now_ns, "deployment", key, {"model": name}, value, unit) for key, value, unit in values
            ]
            self._totals[name], self._histograms[name] = now, histogram
        self._since_s = self.sim.now_s
        memory = self.sim.device_memory_bytes()
        utilisation, power_w = self._meter.read()
        there = {node.name for node in self.sim.nodes if node.exists}
        for k, (node, device) in enumerate(self.sim.device_names()):
            if node not in there:
                continue
            labels = {"node": node, "device": str(device)}
            self.rows.append((self.sim.now_ns, "device", "utilisation", labels, float(utilisation[k]), "ratio"))
            if np.isfinite(memory[k]):
                self.rows.append((self.sim.now_ns, "device", "memory_used", labels, float(memory[k]), "bytes"))
            if np.isfinite(power_w[k]):
                self.rows.append((self.sim.now_ns, "device", "power", labels, float(power_w[k]), "watt"))

    def _note_nodes(self) -> dict[str, int]:
        """Of each pool, rows; of each model, the pending pods that a node is made for."""
        waiting = {name: self.sim.coming_for(name) for name in self._names}
        pending = {name: sum(pod.state == "pending" for pod in self.sim.wanted(name)) for name in self._names}
        seconds = self.sim.now_s - self._since_s
        self._waited_s += seconds if any(waiting.values()) else 0.0
        self._at_max_s += seconds if any(pending[name] > waiting[name] for name in self._names) else 0.0
        for pool in self.sim.pool_nodes():
            self._most[pool.pool] = max(self._most[pool.pool], pool.nodes)
            for key, value in (("nodes", pool.nodes), ("starting_nodes", pool.starting)):
                self.rows.append((self.sim.now_ns, "pool", key, {"pool": pool.pool}, float(value), "count"))
        return waiting


def _pod_labels(models: list[str], pod: Pod, state: str) -> dict[str, str]:
    return {"replica": f"pod-{pod.number}", "model": models[pod.model], "state": state}
