"""A simulated run of a whole cluster under policies: a configuration in, a run folder out.

Files in results/<name>/: cluster.json, requests.parquet and batches.parquet (of shorter runs), metrics.parquet,
decisions.json, summary.json, and the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from loadgen.patterns import make_pattern
from loadgen.schedule import Schedule
from loadgen.traces import trace_pattern
from testbed.autoscaling.build import build_policy, start_replicas
from testbed.autoscaling.metrics import GpuUtilisation
from testbed.autoscaling.policy import Policy
from testbed.autoscaling.post_mortem import PostMortem, post_mortem
from testbed.autoscaling.rollout import outcome_of
from testbed.autoscaling.simulated import PolicyRun
from testbed.errors import ConfigError
from testbed.pipeline.cluster_budget import budget_of, with_capacities
from testbed.pipeline.cluster_config import ClusterRunConfig, Fault
from testbed.pipeline.cluster_records import Observed, ScalingRecord
from testbed.pipeline.served_rates import with_served_rate
from testbed.pipeline.traffic import length_note, pattern_of, recorded, trace_notes
from testbed.reporting.reports import write_report
from testbed.simulation.cluster.config import ClusterConfig
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.records import batch_log, request_log
from testbed.simulation.cluster.services import SimulatedService, other_runs, read_services
from testbed.simulation.cluster.traffic import PatternTraffic, ScheduledTraffic, Traffic, Users
from testbed.simulation.intervals import generators, interval_of
from testbed.simulation.rules import queue_notes
from testbed.study import remember
from workloads.files import write_json

ROWS_UP_TO = 2_000_000  # requests: longer runs keep no row for each
RATE_S = 5.0  # of a trace, for who knows it beforehand
OBSERVED_S = 5.0  # spacing of metrics.parquet
INTERVALS = ("p50_ms", "p95_ms", "p99_ms", "slo_violation_rate", "gpu_seconds")  # what gets one, if runs are drawn


def simulate_cluster(
    config: ClusterRunConfig, folder: Path, on_progress: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Run it, write the folder, and return summary.json's content."""
    services = read_services(config.cluster)
    config = _with_served_rates(config, services)
    runs = 1 + config.draws

    def progress(share: float, done: int = 0) -> None:
        if on_progress is not None:
            on_progress((done + share) / runs)

    prepared = prepare(config, services, config.seed, keep_rows=True)
    remember(config, folder / "cluster.json")
    observed = Observed(prepared.sim)
    advance(config, prepared, observed.note, progress)
    models = {model.name: summary_of_model(config, prepared, model.name) for model in config.cluster.models}
    for model in config.cluster.models:
        looks = prepared.looks.get(model.name, [])
        told = post_mortem(observed.intervals[model.name], looks, model.max_replicas)
        models[model.name]["post_mortem"] = _plain(told)
    drawn, costs = _draw_runs(config, services, progress)
    for name, result in models.items():
        result["intervals"] = {key: _interval([run[name][key] for run in drawn]) for key in INTERVALS if drawn}
    nodes = observed.nodes
    if nodes is not None:
        nodes["cost_interval"] = _interval(costs)
    summary = {
        "duration_s": config.duration_s,
        "notes": [
            *_cut_or_idle(config),
            *_shared_gpus(config),
            *queue_notes(model.dynamic_batching for model in config.cluster.models),
        ],
        "seed": config.seed,
        "simulated": True,
        "draws": config.draws,
        "models": models,
        "energy_j": observed.energy_j if np.isfinite(observed.energy_j) else None,
        **({} if nodes is None else {"nodes": nodes}),
    }
    provenance = {"simulated": True, "seed": config.seed}
    write_json(folder / "decisions.json", [step._asdict() for step in prepared.steps])
    write_json(folder / "summary.json", summary)
    observed.metrics(provenance).write(folder / "metrics.parquet")
    if prepared.sim.keeps_rows:
        request_log(prepared.sim, provenance).write(folder / "requests.parquet")
        batch_log(prepared.sim, provenance).write(folder / "batches.parquet")
    write_report(folder)
    return summary


def _plain(told: PostMortem) -> dict[str, Any]:
    episodes = [{**one._asdict(), "decisions": [look._asdict() for look in one.decisions]} for one in told.episodes]
    return {**told._asdict(), "episodes": episodes}


def _cut_or_idle(config: ClusterRunConfig) -> Iterator[str]:
    """Where the run is not as long as its traces, and what is to be said of these."""
    for name, traffic in config.traffic.items():
        yield from trace_notes(traffic)
        note = length_note(name, traffic, config.duration_s, "the run")
        if note is not None:
            yield note


def _shared_gpus(config: ClusterRunConfig) -> Iterator[str]:
    """Policies on the utilisation of GPUs that several pods share."""
    kinds = config.cluster.gpu_kinds
    most = max((kinds[pool.gpu_kind].shares for pool in config.cluster.pools if pool.gpu_kind in kinds), default=1)
    for name, settings in config.policies.items():
        if most > 1 and GpuUtilisation.name in str(settings):
            yield (
                f"{name} scales on {GpuUtilisation.name}, and up to {most} of its pods share a GPU: each shows the "
                "whole GPU's, which no further pod on it brings down"
            )


def prepare(
    config: ClusterRunConfig,
    services: Sequence[SimulatedService],
    seed: int,
    *,
    keep_rows: bool,
    schedule: Schedule | None = None,
    phase: float = 1.0,
    since_s: float = 0.0,
    policies: Mapping[str, Policy] | None = None,
) -> PolicyRun:
    """The run before its first nanosecond. schedule: these arrivals instead. phase, since_s: see PolicyRun.

    policies: by model, in place of the configured ones.
    """
    traffic, rates, expected = _traffic(config, seed) if schedule is None else _scheduled(config, schedule)
    sim = KISim(
        _with_fixed(config),
        services,
        traffic,
        users=_users(config),
        seed=seed,
        keep_rows=keep_rows and expected <= ROWS_UP_TO,
    )
    if policies is None:
        policies = {
            name: build_policy(settings, config.cluster.models[sim.model_number(name)].max_replicas, rates.get(name))
            for name, settings in config.policies.items()
        }
    return PolicyRun(sim, policies, phase, since_s, budget_of(config, sim, policies))


def scaling_run(run_config: ClusterRunConfig, services: Sequence[SimulatedService]) -> pd.DataFrame:
    """One run; the rows of its ScalingLog."""
    run = prepare(run_config, services, run_config.seed, keep_rows=False)
    record = ScalingRecord(run, run_config.cluster.models[0].name)
    advance(run_config, run, record.note, lambda share: None)
    return record.frame(run_config.seed)


def _with_served_rates(config: ClusterRunConfig, services: Sequence[SimulatedService]) -> ClusterRunConfig:
    """Policies, and a budget, with what one replica serves, where they rest on it and do not say it."""
    policies = dict(config.policies)
    for m, model in enumerate(config.cluster.models):
        if model.name in policies:
            mine = [service for service in services if service.model == m]
            policies[model.name] = with_served_rate(policies[model.name], model, mine)
    config = config.model_copy(update={"policies": policies})
    return config.model_copy(update={"budget": with_capacities(config, services)})


def _with_fixed(config: ClusterRunConfig) -> ClusterConfig:
    """The cluster, where a model with a fixed number of replicas begins with that number."""
    served = []
    for model in config.cluster.models:
        replicas = start_replicas(config.policies.get(model.name, {}), model.replicas)
        if replicas > model.max_replicas:
            raise ConfigError(
                f"policies: {model.name}: replicas is {replicas}, max_replicas of the model is {model.max_replicas}: "
                "raise that, or give fewer"
            )
        served.append(model.model_copy(update={"replicas": replicas}))
    return config.cluster.model_copy(update={"models": tuple(served)})


def advance(
    config: ClusterRunConfig, run: PolicyRun, note: Callable[[], None], progress: Callable[[float], None]
) -> None:
    """The whole run, faults and all; note is called every OBSERVED_S."""
    steps = max(1, int(np.ceil(config.duration_s / OBSERVED_S - 1e-9)))  # a trace may last 20.000000000000004 s
    faults = sorted(config.faults, key=lambda fault: fault.at_s, reverse=True)
    for k in range(1, steps + 1):
        end_s = min(k * OBSERVED_S, config.duration_s)
        while faults and faults[-1].at_s <= end_s:
            run.advance(faults[-1].at_s)
            _strike(run, faults.pop())
        run.advance(end_s)
        note()
        progress(k / steps)


def _draw_runs(
    config: ClusterRunConfig, services: Sequence[SimulatedService], progress: Callable[..., None]
) -> tuple[list[dict[str, dict[str, Any]]], list[float | None]]:
    """What other runs give that might come: other run effects, other arrivals of the same patterns; and their cost."""
    results, costs = [], list[float | None]()
    for done, rng in enumerate(generators(config.seed, config.draws), start=1):
        run = prepare(config, other_runs(services, rng), int(rng.integers(2**31)), keep_rows=False)
        advance(config, run, lambda: None, partial(progress, done=done))
        results.append({model.name: summary_of_model(config, run, model.name) for model in config.cluster.models})
        costs.append(run.sim.cost)
    return results, costs


def _interval(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    band = interval_of(known)
    return {"low": band.low, "middle": band.middle, "high": band.high, "coverage": band.coverage}


def _traffic(config: ClusterRunConfig, seed: int) -> tuple[Traffic | None, dict[str, Callable[[float], float]], float]:
    """Arrivals, the true rate of each model that has some, and about how many arrivals there are."""
    names = [model.name for model in config.cluster.models]
    all_patterns = {name: pattern_of(traffic) for name, traffic in config.traffic.items()}
    patterns = {name: pattern for name, pattern in all_patterns.items() if pattern is not None}
    traces = {name: traffic for name, traffic in config.traffic.items() if name not in patterns}
    rates: dict[str, Callable[[float], float]] = {name: pattern.at for name, pattern in patterns.items()}
    grid = np.linspace(0, config.duration_s, 2000)
    expected = sum(float(pattern.rate_rps(grid).mean()) * config.duration_s for pattern in patterns.values())
    for users in config.users.values():  # if they were answered at once
        most = float(make_pattern(users.pattern, **users.parameters).rate_rps(grid).max())
        expected += most * config.duration_s / max(users.think_s, 0.01)
    if traces and patterns:
        raise ConfigError("traffic: give patterns and rates of traces, or traces to replay, not both in one run")
    if not traces and not patterns:
        return None, rates, expected
    if not traces:
        silent = make_pattern("trace", rates=(0.0, 1e-9), interval_s=1e12)
        return PatternTraffic(tuple(patterns.get(name, silent) for name in names), seed), rates, expected
    schedules = [recorded(trace, name) for name, trace in traces.items()]
    rates = {name: _counted_rate(schedule) for name, schedule in zip(traces, schedules, strict=True)}
    times = np.concatenate([schedule.scheduled_ns for schedule in schedules])
    order = np.argsort(times, kind="stable")
    model = np.concatenate([schedule.model for schedule in schedules])[order]
    whole = Schedule(times[order], model, max(schedule.duration_s for schedule in schedules))
    return ScheduledTraffic(whole, names), rates, float(len(whole))


def _scheduled(
    config: ClusterRunConfig, schedule: Schedule
) -> tuple[Traffic, dict[str, Callable[[float], float]], float]:
    names = [model.name for model in config.cluster.models]
    return ScheduledTraffic(schedule, names), {names[0]: _counted_rate(schedule)}, float(len(schedule))


def _counted_rate(schedule: Schedule) -> Callable[[float], float]:
    """The rate of a trace, counted in intervals of RATE_S; nothing after its end."""
    pattern = trace_pattern(schedule, RATE_S)
    return lambda time_s: pattern.at(time_s) if time_s < schedule.duration_s else 0.0


def _users(config: ClusterRunConfig) -> list[Users]:
    names = [model.name for model in config.cluster.models]
    groups = []
    for name, user in config.users.items():
        seconds = np.arange(0.0, config.duration_s, 1.0)
        counts = np.rint(make_pattern(user.pattern, **user.parameters).rate_rps(seconds)).astype(int)
        changed = np.flatnonzero(np.diff(counts, prepend=-1))
        steps = tuple((float(seconds[k]), int(counts[k])) for k in changed)
        groups.append(Users(names.index(name), steps, think_s=user.think_s, think=user.think))
    return groups


def _strike(run: PolicyRun, fault: Fault) -> None:
    sim = run.sim
    if fault.lose_metrics_s is not None:
        run.lose_metrics(fault.lose_metrics_s)
        return
    if fault.lose_node is not None:
        sim.lose_node(fault.lose_node)
        return
    if fault.slow_down is not None:
        sim.slow_down(fault.model or sim.config.models[0].name, fault.slow_down)
        return
    serving = [pod for pod in sim.wanted(str(fault.crash)) if pod.state == "serving"]
    if serving:
        sim.crash(min(serving, key=lambda pod: pod.serving_ns or 0).number)


def summary_of_model(config: ClusterRunConfig, run: PolicyRun, name: str) -> dict[str, Any]:
    """What summary.json says of one model."""
    served = config.cluster.models[run.sim.model_number(name)]
    outcome, policy = outcome_of(run, name), run.policies.get(name)
    totals = outcome.totals
    return {
        "policy": policy.name if policy is not None else f"fixed-{served.replicas}",
        "requests": totals.arrived,
        "ok": totals.ok,
        "error": totals.error,
        "timeout": totals.timeout,
        "dropped": totals.dropped,
        "waiting": totals.waiting,
        "slo_violation_rate": outcome.slo_violation_rate,
        "p50_ms": _ms(outcome.latency_s(0.5)),
        "p95_ms": _ms(outcome.latency_s(0.95)),
        "p99_ms": _ms(outcome.latency_s(0.99)),
        "gpu_seconds": outcome.gpu_seconds,
        "changes": outcome.changes,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
