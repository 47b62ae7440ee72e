"""A simulated run of a whole cluster under policies: a configuration in, a run folder out.

Files in results/<name>/: cluster.json, requests.parquet (of shorter runs), metrics.parquet, decisions.json,
summary.json, and a picture of each model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from loadgen.patterns import Pattern, make_pattern
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from loadgen.traces import read_trace
from testbed.autoscaling.build import build_policy
from testbed.autoscaling.policy import Policy
from testbed.autoscaling.simulated import PolicyRun
from testbed.config import PatternName, Strict, TrafficConfig
from testbed.errors import ConfigError
from testbed.measurement.metric_log import MetricLog
from testbed.reporting.cluster_picture import save_cluster
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import read_services
from testbed.simulation.cluster.stream import SECOND_NS, quantile_of
from testbed.simulation.cluster.traffic import PatternTraffic, ScheduledTraffic, Traffic, Users
from testbed.simulation.state import CLIENT_TIMEOUT, OK

ROWS_UP_TO = 2_000_000  # requests: longer runs keep no row for each
OBSERVED_S = 5.0  # spacing of metrics.parquet
_DETAIL = {1: "timed out in the queue", 2: "queue full", 4: "its pod died", 5: "no endpoint"}


class UsersConfig(Strict):
    """Closed-loop users as Locust has them; how many there are follows a pattern, whose rates are read as numbers.

    KIS-S's own: ramp (low 1, peak 100), bursty (base 10, spike 100), periodic, fluctuating.
    """

    pattern: PatternName
    parameters: dict[str, int | float | str] = Field({}, description="of the pattern")
    think_s: float = Field(1.0, ge=0, description="between an answer and the next request")
    think: Literal["constant", "exponential"] = "constant"


class Fault(Strict):
    """Something that breaks during the run: a pod of a model (its longest-serving one), or a whole node."""

    at_s: float = Field(ge=0)
    crash: str | None = Field(None, description="model")
    lose_node: str | None = Field(None, description="node, e.g. node-0")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.crash is None) == (self.lose_node is None):
            raise ValueError("a fault is either `crash: <model>` or `lose_node: <node>`")
        return self


class ClusterRunConfig(Strict):
    """`kis simulate --cluster`: who is served where, with what traffic, scaled by whom."""

    cluster: ClusterConfig
    traffic: dict[str, TrafficConfig] = Field({}, description="open loop, by model")
    users: dict[str, UsersConfig] = Field({}, description="closed loop, of one model")
    policies: dict[str, dict[str, Any]] = Field({}, description="by model; none: its number of replicas stays")
    faults: tuple[Fault, ...] = ()
    duration_s: float = Field(600.0, gt=0)
    seed: int = 0

    @model_validator(mode="after")
    def _models_are_served(self) -> Self:
        served = [model.name for model in self.cluster.models]
        crashed = {fault.crash: None for fault in self.faults if fault.crash is not None}
        named: dict[str, Iterable[str]] = {
            "traffic": self.traffic,
            "users": self.users,
            "policies": self.policies,
            "faults": crashed,
        }
        if not self.traffic and not self.users:
            raise ValueError("give traffic (open loop) or users (closed loop)")
        if len(self.users) > 1:
            raise ValueError("closed-loop users of one model only")
        nodes = [f"{pool.name}-{k}" for pool in self.cluster.pools for k in range(pool.nodes)]
        for fault in self.faults:
            if fault.lose_node is not None and fault.lose_node not in nodes:
                raise ValueError(f"faults name the node '{fault.lose_node}', the cluster has {', '.join(nodes)}")
        for what, names in named.items():
            for name in names:
                if name not in served:
                    raise ValueError(f"{what} names the model '{name}', the cluster serves {', '.join(served)}")
        return self


def simulate_cluster(
    config: ClusterRunConfig, folder: Path, on_progress: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Run it, write the folder, and return summary.json's content."""
    traffic, rates, expected = _traffic(config)
    sim = KISim(
        config.cluster,
        read_services(config.cluster),
        traffic,
        users=_users(config),
        seed=config.seed,
        keep_rows=expected <= ROWS_UP_TO,
    )
    policies: dict[str, Policy] = {}
    for name, settings in config.policies.items():
        most = config.cluster.models[sim.model_number(name)].max_replicas
        policies[name] = build_policy(settings, most, rates.get(name))
    run = PolicyRun(sim, policies)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cluster.json").write_text(config.model_dump_json(indent=2) + "\n")
    observed = _Observed(sim)
    steps = int(np.ceil(config.duration_s / OBSERVED_S))
    faults = sorted(config.faults, key=lambda fault: fault.at_s, reverse=True)
    for k in range(1, steps + 1):
        end_s = min(k * OBSERVED_S, config.duration_s)
        while faults and faults[-1].at_s <= end_s:
            run.advance(faults[-1].at_s)
            _strike(sim, faults.pop())
        run.advance(end_s)
        observed.note()
        if on_progress is not None:
            on_progress(k / steps)
    summary = {**_summary(config, run), "energy_j": observed.energy_j if np.isfinite(observed.energy_j) else None}
    (folder / "decisions.json").write_text(json.dumps([step._asdict() for step in run.steps], indent=2) + "\n")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    provenance = {"simulated": True, "seed": config.seed}
    metrics = MetricLog.from_rows(observed.rows, provenance)
    metrics.write(folder / "metrics.parquet")
    for model in config.cluster.models:
        title = f"{model.name} under {summary['models'][model.name]['policy']} (simulated)"
        save_cluster(metrics, model.name, model.latency_target_s, title, folder / f"{model.name}.png")
    if expected <= ROWS_UP_TO:
        request_log(sim, provenance).write(folder / "requests.parquet")
    return summary


def _traffic(config: ClusterRunConfig) -> tuple[Traffic | None, dict[str, Callable[[float], float]], float]:
    """Arrivals, the true rate of each model that has a pattern, and about how many arrivals there are."""
    names = [model.name for model in config.cluster.models]
    traces = {name: one for name, one in config.traffic.items() if one.trace is not None}
    patterns = {
        name: make_pattern(str(one.pattern), **one.parameters)
        for name, one in config.traffic.items()
        if one.trace is None
    }
    rates = {name: _rate_of(pattern) for name, pattern in patterns.items()}
    grid = np.linspace(0, config.duration_s, 2000)
    expected = sum(float(pattern.rate_rps(grid).mean()) * config.duration_s for pattern in patterns.values())
    for users in config.users.values():  # if they were answered at once
        most = float(make_pattern(users.pattern, **users.parameters).rate_rps(grid).max())
        expected += most * config.duration_s / max(users.think_s, 0.01)
    if traces and patterns:
        raise ConfigError("traffic: give patterns or traces, not both in one run")
    if not traces and not patterns:
        return None, rates, expected
    if not traces:
        silent = make_pattern("trace", rates=(0.0, 1e-9), interval_s=1e12)
        return PatternTraffic(tuple(patterns.get(name, silent) for name in names), config.seed), rates, expected
    schedules = []
    for name, one in traces.items():
        assert one.trace is not None
        schedules.append(
            read_trace(one.trace, name, format=one.format, speed_up=one.speed_up, keep=one.keep, seed=one.seed)
        )
    times = np.concatenate([one.scheduled_ns for one in schedules])
    order = np.argsort(times, kind="stable")
    model = np.concatenate([one.model for one in schedules])[order]
    whole = Schedule(times[order], model, max(one.duration_s for one in schedules))
    return ScheduledTraffic(whole, names), rates, float(len(whole))


def _users(config: ClusterRunConfig) -> list[Users]:
    names = [model.name for model in config.cluster.models]
    groups = []
    for name, one in config.users.items():
        seconds = np.arange(0.0, config.duration_s, 1.0)
        counts = np.rint(make_pattern(one.pattern, **one.parameters).rate_rps(seconds)).astype(int)
        changed = np.flatnonzero(np.diff(counts, prepend=-1))
        steps = tuple((float(seconds[k]), int(counts[k])) for k in changed)
        groups.append(Users(names.index(name), steps, think_s=one.think_s, think=one.think))
    return groups


def _strike(sim: KISim, fault: Fault) -> None:
    if fault.lose_node is not None:
        sim.lose_node(fault.lose_node)
        return
    serving = [pod for pod in sim.wanted(str(fault.crash)) if pod.state == "serving"]
    if serving:
        sim.crash(min(serving, key=lambda pod: pod.serving_ns or 0).number)


def _rate_of(pattern: Pattern) -> Callable[[float], float]:
    return lambda time_s: float(pattern.rate_rps(np.array([time_s]))[0])


class _Observed:
    """What happened in each interval, as rows of a MetricLog."""

    def __init__(self, sim: KISim) -> None:
        self.sim, self.rows = sim, list[tuple[int, str, str, dict[str, str], float, str]]()
        self._names = [model.name for model in sim.config.models]
        self._totals = {name: sim.totals(name) for name in self._names}
        self._histograms = {name: sim.histogram(name) for name in self._names}
        self._active_s, self._since_s = sim.device_active_s(), sim.now_s
        self.energy_j = 0.0  # of all devices; NaN: the power of some is not known

    def note(self) -> None:
        """Rows for the interval that ends now."""
        for name in self._names:
            before, now = self._totals[name], self.sim.totals(name)
            histogram = self.sim.histogram(name)
            pods = self.sim.wanted(name)
            new = histogram - self._histograms[name]
            values = [
                ("spec_replicas", float(len(pods)), "count"),
                ("ready_replicas", float(sum(pod.ready for pod in pods)), "count"),
                ("pending_replicas", float(sum(pod.state == "pending" for pod in pods)), "count"),
                ("arrived", float(now.arrived - before.arrived), "count"),
                ("answered", float(now.ok - before.ok), "count"),
                ("missed", float(now.missed - before.missed), "count"),
            ]
            if new.sum():
                values.append(("latency_p95", quantile_of(new, 0.95), "s"))
            self.rows += [
                (self.sim.now_ns, "deployment", key, {"model": name}, value, unit) for key, value, unit in values
            ]
            self._totals[name], self._histograms[name] = now, histogram
        active_s = self.sim.device_active_s()
        seconds = self.sim.now_s - self._since_s
        power_w = self.sim.device_power_w((active_s - self._active_s) / seconds)
        for k, (node, device) in enumerate(self.sim.device_names()):
            labels = {"node": node, "device": str(device)}
            share = float((active_s[k] - self._active_s[k]) / seconds)
            self.rows.append((self.sim.now_ns, "device", "utilisation", labels, share, "ratio"))
            if np.isfinite(power_w[k]):
                self.rows.append((self.sim.now_ns, "device", "power", labels, float(power_w[k]), "watt"))
        self.energy_j += float(power_w.sum()) * seconds
        self._active_s, self._since_s = active_s, self.sim.now_s


def _summary(config: ClusterRunConfig, run: PolicyRun) -> dict[str, Any]:
    models = {}
    for served in config.cluster.models:
        totals, histogram = run.sim.totals(served.name), run.sim.histogram(served.name)
        ended = totals.ok + totals.error + totals.timeout
        policy = run.policies.get(served.name)
        models[served.name] = {
            "policy": policy.name if policy is not None else f"fixed-{served.replicas}",
            "requests": totals.arrived,
            "ok": totals.ok,
            "error": totals.error,
            "timeout": totals.timeout,
            "missed_share": totals.missed / ended if ended else None,
            "p50_ms": _ms(histogram, 0.5),
            "p95_ms": _ms(histogram, 0.95),
            "p99_ms": _ms(histogram, 0.99),
            "gpu_seconds": run.sim.gpu_seconds(served.name),
            "changes": sum(step.model == served.name for step in run.steps),
        }
    return {"duration_s": config.duration_s, "seed": config.seed, "simulated": True, "models": models}


def _ms(histogram: Any, q: float) -> float | None:
    return None if histogram.sum() == 0 else 1e3 * quantile_of(histogram, q)


def request_log(sim: KISim, provenance: dict[str, Any]) -> RequestLog:
    """The rows of a run as a RequestLog, in the order of their numbers."""
    rows = np.sort(sim.all_rows(), order="id")
    names = np.array([model.name for model in sim.config.models], dtype=object)
    status = np.where(rows["status"] == OK, "ok", np.where(rows["status"] == CLIENT_TIMEOUT, "timeout", "error"))
    frame = pd.DataFrame(
        {
            "request_id": rows["id"],
            "model": names[rows["model"]],
            "endpoint": [f"pod-{k}" if k >= 0 else "" for k in rows["pod"]],
            "scheduled_ns": rows["scheduled_ns"],
            "sent_ns": pd.array(rows["scheduled_ns"], dtype="Int64"),
            "completed_ns": pd.array(rows["completed_ns"], dtype="Int64"),
            "status": status,
            "detail": pd.array([_DETAIL.get(int(code)) for code in rows["status"]], dtype="str"),
        }
    )
    return RequestLog(frame, {**provenance, "seconds": sim.now_ns / SECOND_NS})
