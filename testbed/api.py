"""The public Python API: `import testbed`. docs/python.md is its page.

import testbed

profile = testbed.example_profile()
traffic = testbed.Bursty(base=500, spike=2000, spike_s=30, every_s=120)
testbed.simulate(profile, traffic, replicas=2).summary
cluster = testbed.Cluster(profile, max_replicas=8, latency_target_s=0.05)
testbed.compare(cluster, traffic, {"hpa": {"kind": "hpa", "metric": "queue_time_ms", "target": 5}})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from pydantic import ValidationError

from loadgen import traces
from loadgen.client_limits import ClientLimits
from loadgen.patterns import Pattern
from loadgen.schedule import Schedule, poisson_schedule
from testbed.autoscaling.build import build_policy, start_replicas
from testbed.autoscaling.policy import Policy
from testbed.autoscaling.rollout import Outcome, outcome_of
from testbed.autoscaling.simulated import PolicyRun, Step
from testbed.calibration.profile import ServiceProfile
from testbed.config_file import build, refused
from testbed.errors import ConfigError
from testbed.kiscaler.scenarios import Scenarios
from testbed.kiscaler.train_config import Ranges
from testbed.measurement.latency_histogram import quantile_of
from testbed.pipeline.capacity import plan_capacity
from testbed.pipeline.capacity_config import PlanGrid
from testbed.pipeline.served_rates import with_served_rate
from testbed.reporting.drawing import INK, LOOK, MUTED, SIMULATED, log_axis
from testbed.simulation.cluster.config import ClusterConfig, NodePool
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.services import make_service, served_by
from testbed.simulation.cluster.traffic import PatternTraffic, ScheduledTraffic, Traffic
from testbed.simulation.load_curve import rate_within
from testbed.simulation.simulator import SimulatedRun
from testbed.simulation.simulator import simulate as simulate_service
from workloads.catalog import Balancer, ServiceConfig
from workloads.errors import KisError

Profile = ServiceProfile
POINTS = 200  # of a run over time

_KIND = "gpu"  # the one kind of device of a Cluster


class Service(ServiceConfig):
    """How each replica is configured; KisError in one line says which setting is wrong."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise refused(ServiceConfig, error, "Service") from None


def example_profile() -> Profile:
    """ResNet-50 in fp16 as it was calibrated on one NVIDIA H200 (results/golden-gpu-resnet50-fp16)."""
    with resources.as_file(resources.files("testbed") / "examples" / "resnet50-h200-fp16.json") as file:
        return Profile.read(file)


def read_trace(
    path: str | Path, *, format: str | None = None, speed_up: float = 1.0, keep: float = 1.0, **reading: Any
) -> Schedule:
    """A recorded trace as traffic (formats: docs/how-to/replay-traffic.md); TraceError names the line that is wrong.

    reading: how the file is read beside its format: column, unit, where, spread, max_gap_s.
    """
    return traces.read_trace(Path(path), "trace", format=format, speed_up=speed_up, keep=keep, **reading)


def simulate(
    profile: Profile,
    traffic: Pattern | Schedule,
    *,
    replicas: int = 1,
    duration_s: float = 60.0,
    seed: int = 0,
    service: Service | None = None,
    timeout_s: float | None = None,
) -> ServiceRun:
    """So many replicas of a calibrated service under traffic, nobody scales.

    traffic: a rate, from which Poisson arrivals of duration_s are drawn, or recorded arrivals, all of them. service:
    how each replica is configured; None: one instance, batches as large as were measured. timeout_s: after it the
    client gives up; None: it waits for ever. KisError in one line says what does not fit.
    """
    service = (service or Service(max_batch_size=profile.largest_batch)).model_copy(update={"replicas": replicas})
    schedule = _arrivals(profile, traffic, duration_s, seed)
    client = None if timeout_s is None else ClientLimits(timeout_s=timeout_s)
    run = simulate_service(schedule, profile, service, seed, client)
    return ServiceRun(run, schedule.duration_s, service)


@dataclass(frozen=True)
class ServiceRun:
    """A simulated run of one service. logs: as a real run leaves them."""

    logs: SimulatedRun
    duration_s: float
    service: Service

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request, by arrival (docs/reference/metrics.md), with latency_s: NaN where there was no answer."""
        return self.logs.requests.frame.assign(latency_s=self.logs.requests.latency_s)

    @property
    def batches(self) -> pd.DataFrame:
        """The batch that each request ran in."""
        return self.logs.batches.frame

    def latency_s(self, percentile: float) -> float:
        """Of the answered requests; NaN if there is none."""
        answered = self.requests["latency_s"].dropna()
        return float(np.quantile(answered, percentile / 100)) if len(answered) else float("nan")

    @property
    def summary(self) -> pd.Series[float]:
        """P50, P95, P99 in seconds, requests, answered, throughput in requests/s, mean batch size, utilisation."""
        sizes = self.logs.batches.batches()["batch_size"]
        busy_s = self.logs.batches.busy_s(self.duration_s)
        ended_in_time = self.requests["completed_ns"] <= 1e9 * self.duration_s
        return pd.Series(
            {
                "p50_s": self.latency_s(50),
                "p95_s": self.latency_s(95),
                "p99_s": self.latency_s(99),
                "requests": float(len(self.requests)),
                "answered": float(self.requests["latency_s"].notna().sum()),
                "throughput_rps": float((ended_in_time & self.logs.requests.ok).sum()) / self.duration_s,
                "mean_batch_size": float(sizes.mean()) if len(sizes) else float("nan"),
                "utilisation": busy_s / (self.duration_s * self.service.replicas * self.service.instances),
            }
        )

    @rc_context(LOOK)
    def plot(self) -> Figure:
        """The distribution of latency, and the rate of requests over time."""
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        answered_ms = 1e3 * np.sort(self.requests["latency_s"].dropna())
        left.plot(answered_ms, np.arange(1, len(answered_ms) + 1) / max(len(self.requests), 1), color=SIMULATED)
        left.set(xlabel="latency, ms", ylabel="share of requests", ylim=(0, 1), xlim=(0, None))
        step_s = self.duration_s / POINTS
        counts, edges_s = np.histogram(self.requests["scheduled_ns"] / 1e9, POINTS, (0, self.duration_s))
        right.stairs(counts / step_s, edges_s, color=MUTED)
        right.set(xlabel="time, s", ylabel="requests/s", ylim=(0, None))
        return figure


class Cluster:
    """A simulated Kubernetes cluster that serves one calibrated model, each replica on a GPU of its own.

    Clusters of several models, pools or kinds of GPU, shared GPUs and faults are in configuration files (`kis simulate
    --cluster`); `of` makes a Cluster of such a configuration, if it serves one model on one kind of device.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        latency_target_s: float,
        max_replicas: int = 8,
        replicas: int = 1,
        service: Service | None = None,
        balancer: Balancer = "round_robin",
        pod_times: Mapping[str, float] | None = None,
    ) -> None:
        """service: see simulate. pod_times: keys of PodTimes (docs/explanation/simulator.md, "A pod").

        Raises KisError with one line that says what is wrong."""
        service = service or Service(max_batch_size=profile.largest_batch)
        served = served_by(
            profile,
            _KIND,
            service,
            replicas=replicas,
            max_replicas=max_replicas,
            balancer=balancer,
            latency_target_s=latency_target_s,
            pod=dict(pod_times or {}),
        )
        pool = NodePool(gpus=max_replicas, gpu_kind=_KIND)
        self.config = ClusterConfig.model_validate({"gpu_kinds": {_KIND: {}}, "pools": [pool], "models": [served]})
        self.profile = profile
        self._services = (make_service(0, served, _KIND, profile),)

    @property
    def latency_target_s(self) -> float:
        """A request that takes longer violates it."""
        return self.config.models[0].latency_target_s

    @cached_property
    def replica_capacity_rps(self) -> float:
        """Requests/s that one replica serves with P95 within the target."""
        return rate_within(self.profile, self._services[0].config, self.latency_target_s)

    def run(
        self,
        traffic: Pattern | Schedule,
        policy: Mapping[str, Any] | Policy | None = None,
        *,
        duration_s: float | None = None,
        seed: int = 0,
    ) -> ClusterRun:
        """The cluster under traffic, scaled by a policy.

        policy: settings as in a configuration, {"kind": "hpa", ...}, or an object with `name`, `period_s` and `decide`
        (testbed.autoscaling.policy.Policy); None: nobody scales. duration_s: None: 600 s, or all of recorded arrivals.
        """
        served = self.config.models[0]
        if duration_s is None:
            duration_s = traffic.duration_s if isinstance(traffic, Schedule) else 600.0
        config, scalers = self.config, dict[str, Policy]()
        if isinstance(policy, Mapping):
            settings = with_served_rate(policy, served, self._services)
            starts = start_replicas(settings, served.replicas)
            config = config.model_copy(update={"models": (served.model_copy(update={"replicas": starts}),)})
            rate_rps = traffic.at if isinstance(traffic, Pattern) else None
            scalers[served.name] = build_policy(settings, served.max_replicas, rate_rps)
        elif policy is not None:
            if not hasattr(policy, "decide"):
                raise ConfigError(
                    f'policy is {policy!r}: give settings as {{"kind": "fixed", "replicas": 4}}, or a Policy'
                )
            scalers[served.name] = policy
        sim = KISim(config, self._services, _traffic(self.profile, traffic, seed), seed=seed)
        run = PolicyRun(sim, scalers)
        rows, before, seen = list[dict[str, float]](), sim.totals(served.name), sim.histogram(served.name)
        for end_s in np.linspace(0, duration_s, POINTS + 1)[1:].tolist():
            since_s = sim.now_s
            run.advance(end_s)
            now, histogram = sim.totals(served.name), sim.histogram(served.name)
            decided = now.decided - before.decided
            rows.append(
                {
                    "time_s": end_s,
                    "rate_rps": (now.arrived - before.arrived) / (end_s - since_s),
                    "replicas": float(len(sim.wanted(served.name))),
                    "ready": float(sum(pod.ready for pod in sim.wanted(served.name))),
                    "p95_s": quantile_of(histogram - seen, 0.95),
                    "slo_violation_rate": (now.missed - before.missed) / decided if decided else float("nan"),
                }
            )
            before, seen = now, histogram
        name = scalers[served.name].name if scalers else f"fixed-{served.replicas}"
        return ClusterRun(
            policy=name,
            over_time=pd.DataFrame(rows).set_index("time_s"),
            decisions=pd.DataFrame(run.steps, columns=list(Step._fields)).drop(columns="model"),
            latency_target_s=self.latency_target_s,
            outcome=outcome_of(run, served.name),
        )

    def scenarios(self, ranges: Ranges | None = None, *, step_s: float = 5.0) -> Scenarios:
        """What KIScaler's environment draws its episodes round: `gymnasium.make("KIScaler-v2", scenarios=...)`."""
        return Scenarios(self.config, {_KIND: self.profile}, self.replica_capacity_rps, ranges or Ranges(), step_s)


@dataclass(frozen=True)
class ClusterRun:
    """A simulated run of a cluster under a policy.

    over_time: by time_s, the end of each interval: rate_rps of arrivals, replicas asked for and ready, p95_s (NaN: no
    answer), slo_violation_rate of the requests decided. decisions: time_s, before, wanted, reason. outcome: the whole
    run's requests, latency histogram and GPU-seconds.
    """

    policy: str
    over_time: pd.DataFrame
    decisions: pd.DataFrame
    latency_target_s: float
    outcome: Outcome

    @property
    def summary(self) -> pd.Series[float]:
        """P50, P95, P99 in seconds, slo_violation_rate, GPU-seconds that pods held, changes of the replicas' number."""
        return _summary([self])

    @rc_context(LOOK)
    def plot(self) -> Figure:
        """Arrivals, replicas and P95 over time."""
        figure = Figure(figsize=(9, 5), layout="constrained")
        rate, replicas, latency = figure.subplots(3, 1, sharex=True)
        table = self.over_time
        rate.plot(table.index, table["rate_rps"], color=MUTED)
        rate.set(ylabel="requests/s", ylim=(0, None), title=self.policy)
        replicas.step(table.index, table["replicas"], where="pre", color=MUTED, linestyle="--", label="asked for")
        replicas.step(table.index, table["ready"], where="pre", color=SIMULATED, label="ready")
        replicas.set(ylabel="replicas", ylim=(0, None))
        replicas.legend(loc="upper left")
        latency.plot(table.index, 1e3 * table["p95_s"], color=SIMULATED)
        latency.axhline(1e3 * self.latency_target_s, linestyle="--", color=INK)
        latency.set(xlabel="time, s", ylabel="P95, ms")
        log_axis(latency, "y")
        return figure


def compare(
    cluster: Cluster,
    traffic: Pattern | Schedule,
    policies: Mapping[str, Mapping[str, Any] | Policy],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    duration_s: float | None = None,
) -> pd.DataFrame:
    """Policies on the same traffic, a row each: percentiles and slo_violation_rate of all runs' requests together, GPU-
    seconds and changes of the mean run, seeds of arrivals and service times alike for all."""
    rows = {}
    for name, policy in policies.items():
        rows[name] = _summary([cluster.run(traffic, policy, duration_s=duration_s, seed=seed) for seed in seeds])
    return pd.DataFrame(rows).T.rename_axis("policy")


def plan(
    profile: Profile,
    traffic: Pattern | Schedule,
    *,
    latency_target_s: float,
    percentile: float = 95,
    max_replicas: int = 16,
    duration_s: float = 60.0,
    seed: int = 0,
) -> pd.DataFrame:
    """The numbers of replicas that were tried, by batch size; `holds` says whether the target is held with confidence.

    low_s, high_s: 90 % interval of the percentile in the next run. `kis plan` takes more settings, and checks what it
    finds on arrivals of other seeds.
    """
    capacity = plan_capacity(
        profile,
        lambda run_seed: _arrivals(profile, traffic, duration_s, run_seed),
        latency_target_s,
        build(PlanGrid, {"max_replicas": max_replicas}, "plan"),
        percentile=percentile,
        seed=seed,
    )
    rows = [
        {
            "replicas": option.service.replicas,
            "max_batch_size": option.service.max_batch_size,
            "low_s": option.latency_s.low,
            "latency_s": option.latency_s.middle,
            "high_s": option.latency_s.high,
            "slo_violation_rate": option.slo_violation_rate.middle,
            "utilisation": option.utilisation,
            "holds": option.holds,
        }
        for option in capacity.options
    ]
    return pd.DataFrame(rows).sort_values(["max_batch_size", "replicas"], ignore_index=True)


def _summary(runs: Sequence[ClusterRun]) -> pd.Series[float]:
    outcomes = [run.outcome for run in runs]
    histogram = np.sum([outcome.histogram for outcome in outcomes], axis=0)
    missed, decided = (sum(getattr(outcome.totals, name) for outcome in outcomes) for name in ("missed", "decided"))
    return pd.Series(
        {
            "p50_s": quantile_of(histogram, 0.5),
            "p95_s": quantile_of(histogram, 0.95),
            "p99_s": quantile_of(histogram, 0.99),
            "slo_violation_rate": missed / decided if decided else float("nan"),
            "gpu_seconds": float(np.mean([outcome.gpu_seconds for outcome in outcomes])),
            "changes": float(np.mean([outcome.changes for outcome in outcomes])),
        }
    )


def _arrivals(profile: Profile, traffic: Pattern | Schedule, duration_s: float, seed: int) -> Schedule:
    """Recorded arrivals are for whatever model is served."""
    _check(traffic)
    if isinstance(traffic, Pattern):
        return poisson_schedule(traffic, duration_s, seed, profile.model)
    return replace(traffic, model=np.full(len(traffic), profile.model, dtype=object))


def _check(traffic: Any) -> None:
    if not isinstance(traffic, Pattern | Schedule):
        raise KisError(f"traffic is {traffic!r}: give a rate as testbed.Bursty(...), or testbed.read_trace(path)")


def _traffic(profile: Profile, traffic: Pattern | Schedule, seed: int) -> Traffic:
    _check(traffic)
    if isinstance(traffic, Pattern):
        return PatternTraffic((traffic,), seed)
    return ScheduledTraffic(_arrivals(profile, traffic, 0.0, seed), [profile.model])
