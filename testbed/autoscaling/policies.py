"""The autoscalers that people run, by their platforms' rules. Add a policy here.

fixed; hpa (hpa/); knative (KPA); keda; ray_serve; predictive (forecasts the arrivals); oracle (knows them). Those of a
platform say where their rules come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from testbed.autoscaling.demand import demand_of
from testbed.autoscaling.hpa.controller import ScaleTarget, sync
from testbed.autoscaling.hpa.pods import PodSample
from testbed.autoscaling.hpa.proposal import Readings
from testbed.autoscaling.hpa.spec import ControllerFlags, HpaSpec, MetricSpec
from testbed.autoscaling.hpa.stabilization import History
from testbed.autoscaling.metrics import METRICS, SERVICE_METRICS, milli, of_all, of_each
from testbed.autoscaling.observation import Observation, Window
from testbed.autoscaling.policy import Decision
from workloads.errors import KisError

DEFAULT_FLAGS = ControllerFlags()
Wishes = tuple[tuple[float, int], ...]  # when, and how many replicas


@dataclass(frozen=True)
class Fixed:
    """Always the same number."""

    replicas: int
    period_s: float = 60.0

    @property
    def name(self) -> str:
        """See Policy."""
        return f"fixed-{self.replicas}"

    def decide(self, seen: Observation, memory: Any) -> Decision:
        """See Policy."""
        return Decision(self.replicas, None, "fixed")


@dataclass(frozen=True)
class Hpa:
    """The Horizontal Pod Autoscaler on metrics of the testbed's adapter, and on CPU.

    Those are METRICS: of each pod for a Pods metric, of all of them for an External or Object one. window_s: over which
    the adapter averages; age_s: how old the newest sample is when the HPA sees it (the default is prometheus-adapter's,
    of its scrape interval and relist; `kis adapter` answers with what it scraped last: 0). CPU (Resource, or
    ContainerResource of container `server`) comes through kubelet and metrics-server: with its window, 27 s old on
    average. sync_takes_s: the next sync comes sync_period_s after this one has ended. So what lay at the edge of a
    window of some periods is no longer in it.
    """

    spec: HpaSpec
    flags: ControllerFlags = DEFAULT_FLAGS
    window_s: float = 15.0
    age_s: float = 15.0
    cpu_window_s: float = 15.0
    cpu_age_s: float = 19.5
    sync_takes_s: float = 0.01
    name: str = "hpa"

    def __post_init__(self) -> None:
        for metric in self.spec.metrics:
            known = ("cpu",) if metric.type in ("Resource", "ContainerResource") else tuple(METRICS)
            known += tuple(SERVICE_METRICS) if metric.type in ("Object", "External") else ()
            if metric.name not in known:
                raise KisError(
                    f"HPA metric {metric.key}: the testbed offers cpu, and as Pods, Object and External metrics "
                    f"{', '.join(METRICS)}; not of pods, but of a whole service (Object, External): "
                    f"{', '.join(SERVICE_METRICS)}"
                )

    @property
    def period_s(self) -> float:
        """See Policy."""
        return self.flags.sync_period_s + self.sync_takes_s

    def decide(self, seen: Observation, memory: History | None) -> Decision:
        """See Policy."""
        target = ScaleTarget(seen.spec_replicas, sum(1 for pod in seen.pods if not pod.deleting), seen.pods)
        answer = sync(self.spec, target, self._readings(seen), memory or History(), seen.now_s, self.flags)
        wanted = seen.spec_replicas if answer.desired_replicas is None else answer.desired_replicas
        reason = "; ".join(f"{name}={status} {why}" for name, (status, why) in answer.conditions.items())
        return Decision(wanted, answer.history, answer.error or reason)

    def _readings(self, seen: Observation) -> Readings:
        adapter, kubelet = seen.window(self.window_s, self.age_s), seen.window(self.cpu_window_s, self.cpu_age_s)
        per_pod: dict[str, dict[str, PodSample]] = {}
        values: dict[str, list[int]] = {}
        for metric in self.spec.metrics:
            is_cpu = metric.type in ("Resource", "ContainerResource")
            window = kubelet if is_cpu else adapter
            if window is None:
                continue
            if metric.type in ("Object", "External"):
                total = of_all(metric.name, window)
                if total is not None:
                    values[metric.key] = [milli(total)]
                continue
            cpu = {pod: float(cores) for pod, cores in zip(window.pods, window.cpu_cores, strict=True)}
            found = {pod: c for pod, c in cpu.items() if math.isfinite(c)} if is_cpu else of_each(metric.name, window)
            per_pod[metric.key] = {
                pod: PodSample(milli(value), window.end_s, window.seconds) for pod, value in found.items()
            }
        return Readings(per_pod, values)


def _wishes(before: Wishes, now_s: float, delay_s: float, wanted: int) -> Wishes:
    """Those of the last delay_s, and the one of now."""
    return (*(one for one in before if one[0] > now_s - delay_s), (now_s, wanted))


class _KnativeMemory(NamedTuple):
    panic_until_s: float
    panic_replicas: int
    wanted: Wishes  # for the scale-down delay


@dataclass(frozen=True)
class Knative:
    """Knative Serving's autoscaler (KPA) on concurrency; names and defaults of its config-autoscaler.

    Two means of concurrency, over the stable and over the panic window, each divided by the target (container
    concurrency x utilisation). At twice the capacity within the panic window it panics: it follows the short window
    and never goes down until a stable window has passed without that. Rates of change are limited. After its
    pkg/autoscaler/scaling/autoscaler.go.
    """

    container_concurrency: float
    max_replicas: int
    min_replicas: int = 1
    target_utilisation: float = 0.7
    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    scale_down_delay_s: float = 0.0
    age_s: float = 1.0
    period_s: float = 2.0
    name: str = "knative"

    def decide(self, seen: Observation, memory: _KnativeMemory | None) -> Decision:
        """See Policy.

        Example: 3 ready pods, target 7 (10 x .7), 30 in flight: ceil(30 / 7) = 5; within the panic window 50 in flight
        want 8 of 3, more than twice: panic, 8.
        """
        memory = memory or _KnativeMemory(-1.0, 0, ())
        stable = seen.window(self.stable_window_s, self.age_s)
        panic = seen.window(self.panic_window_s, self.age_s)
        if panic is None:
            return Decision(seen.spec_replicas, memory, "no metrics yet")
        stable = stable or panic
        ready = max(1, sum(1 for pod in seen.pods if pod.ready and not pod.deleting))
        target = self.container_concurrency * self.target_utilisation
        most, least = math.ceil(self.max_scale_up_rate * ready), math.floor(ready / self.max_scale_down_rate)

        def wanted_by(window: Window) -> int:
            return min(max(math.ceil(float(window.in_flight.sum()) / target), least), most)

        by_stable, by_panic = wanted_by(stable), wanted_by(panic)
        panic_until_s, panic_replicas = memory.panic_until_s, memory.panic_replicas
        if math.ceil(float(panic.in_flight.sum()) / target) / ready >= self.panic_threshold:
            panic_until_s = seen.now_s + self.stable_window_s
        panicking = seen.now_s < panic_until_s
        if panicking:
            panic_replicas = max(panic_replicas, by_panic, ready)
            wanted = panic_replicas
        else:
            panic_replicas, wanted = 0, by_stable
        history = _wishes(memory.wanted, seen.now_s, self.scale_down_delay_s, wanted)
        wanted = max(count for _, count in history)
        wanted = min(max(wanted, self.min_replicas), self.max_replicas)
        told = f"concurrency {stable.in_flight.sum():.1f} stable, {panic.in_flight.sum():.1f} panic"
        return Decision(
            wanted, _KnativeMemory(panic_until_s, panic_replicas, history), f"{'panic: ' if panicking else ''}{told}"
        )


class _KedaMemory(NamedTuple):
    active_s: float  # when the trigger was last active
    hpa: History | None


@dataclass(frozen=True)
class Keda:
    """KEDA: an HPA on an external metric from 1 up, and 0 <-> 1 by activation and cooldown (its ScaledObject).

    A metric of all pods has no value without pods: at 0 it takes one of the service itself (arrivals_per_second) to
    wake the deployment. What is sent to it until a pod serves fails, unless the client tries again: KEDA's HTTP add-on,
    which would hold it back, is not modelled.
    """

    metric: str
    threshold: float  # of the metric for each replica
    max_replicas: int
    min_replicas: int = 0
    activation: float = 0.0
    cooldown_s: float = 300.0
    age_s: float = 15.0
    window_s: float = 15.0
    flags: ControllerFlags = DEFAULT_FLAGS
    name: str = "keda"

    def __post_init__(self) -> None:
        if self.metric not in {**METRICS, **SERVICE_METRICS}:
            raise KisError(f"KEDA metric {self.metric}: known are {', '.join([*METRICS, *SERVICE_METRICS])}")

    @property
    def period_s(self) -> float:
        """See Policy."""
        return self.flags.sync_period_s

    def decide(self, seen: Observation, memory: _KedaMemory | None) -> Decision:
        """See Policy."""
        memory = memory or _KedaMemory(seen.now_s, None)
        window = seen.window(self.window_s, self.age_s)
        total = None if window is None else of_all(self.metric, window)
        active_s = seen.now_s if total is not None and total > self.activation else memory.active_s
        if seen.spec_replicas == 0:
            up = total is not None and total > self.activation
            return Decision(max(1, self.min_replicas) if up else 0, _KedaMemory(active_s, None), "activation")
        if self.min_replicas == 0 and seen.now_s - active_s >= self.cooldown_s:
            return Decision(0, _KedaMemory(active_s, None), "cooldown is over")
        spec = HpaSpec(
            min_replicas=max(1, self.min_replicas),
            max_replicas=self.max_replicas,
            metrics=(MetricSpec(type="External", name=self.metric, target_average_value_m=milli(self.threshold)),),
        )
        inner = Hpa(spec, self.flags, self.window_s, self.age_s)
        decided = inner.decide(seen, memory.hpa)
        return Decision(decided.replicas, _KedaMemory(active_s, decided.memory), decided.reason)


class _RayMemory(NamedTuple):
    direction: int
    since_s: float


@dataclass(frozen=True)
class RayServe:
    """Ray Serve's default policy on ongoing requests a replica; names and defaults of its AutoscalingConfig.

    A wish must hold, without turning, for upscale_delay_s or downscale_delay_s before it is followed. After
    serve/autoscaling_policy.py.
    """

    max_replicas: int
    min_replicas: int = 1
    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    look_back_period_s: float = 30.0
    age_s: float = 1.0
    period_s: float = 0.1
    name: str = "ray_serve"

    def decide(self, seen: Observation, memory: _RayMemory | None) -> Decision:
        """See Policy.

        Example: 2 replicas with 3 ongoing requests each and target 2: error ratio 1.5, so 3 are wanted.
        """
        memory = memory or _RayMemory(0, seen.now_s)
        window = seen.window(self.look_back_period_s, self.age_s)
        if window is None:
            return Decision(seen.spec_replicas, memory, "no metrics yet")
        current = seen.spec_replicas
        total = float(window.in_flight.sum())
        if current == 0:
            wanted = 1 if total > 0 else 0
        else:
            error = total / current / self.target_ongoing_requests
            factor = self.upscaling_factor if error >= 1 else self.downscaling_factor
            wanted = math.ceil(current * (1 + (error - 1) * factor) - 1e-9)
        wanted = min(max(wanted, self.min_replicas), self.max_replicas)
        direction = (wanted > current) - (wanted < current)
        since_s = memory.since_s if direction == memory.direction else seen.now_s
        delay_s = self.upscale_delay_s if direction > 0 else self.downscale_delay_s
        told = f"{total:.1f} ongoing requests want {wanted}"
        if direction == 0 or seen.now_s - since_s < delay_s:
            return Decision(current, _RayMemory(direction, since_s), told)
        return Decision(wanted, _RayMemory(0, seen.now_s), told)


class _PredictiveMemory(NamedTuple):
    wanted: Wishes  # for the delay of scaling down


@dataclass(frozen=True)
class Predictive:
    """Forecasts the arrivals to when a pod asked for now would serve, and has as many as they need then.

    Arrivals of each of the last `windows` windows: what was answered, and what the queues grew by. A line through them
    says what comes in ahead_s; never less than comes now. What waits is to be served within drain_s besides. Down only
    to the largest wish of down_delay_s.
    """

    per_replica_rps: float  # that one replica serves within the latency target
    ahead_s: float  # from asked for to serving, and what it takes to notice
    max_replicas: int
    min_replicas: int = 1
    window_s: float = 5.0
    windows: int = 6
    drain_s: float = 10.0
    down_delay_s: float = 60.0
    age_s: float = 1.0
    period_s: float = 1.0
    name: str = "predictive"

    def __post_init__(self) -> None:
        for name in ("per_replica_rps", "window_s", "drain_s", "period_s"):
            if getattr(self, name) <= 0:
                raise KisError(f"policy predictive: {name} must be above 0, not {getattr(self, name):g}")
        if self.windows < 2:
            raise KisError(f"policy predictive: a line needs 2 windows, not {self.windows}")

    def decide(self, seen: Observation, memory: _PredictiveMemory | None) -> Decision:
        """See Policy.

        Example: 40, 50, 60 requests/s in three windows of 5 s, 10 s ahead: 60 + 2 * 12.5 = 85 at the middle of a window
        that far away; one replica serves 30: 3 wanted.
        """
        memory = memory or _PredictiveMemory(())
        demand = demand_of(seen, self.window_s, self.windows, self.age_s)
        if demand is None:
            return Decision(seen.spec_replicas, memory, "no metrics yet")
        to_come = max(demand.rate_rps, demand.expected_rps(self.ahead_s))
        wanted = math.ceil((to_come + demand.waiting / self.drain_s) / self.per_replica_rps - 1e-9)
        wanted = min(max(wanted, self.min_replicas), self.max_replicas)
        history = _wishes(memory.wanted, seen.now_s, self.down_delay_s, wanted)
        held = wanted if wanted >= seen.spec_replicas else min(seen.spec_replicas, max(count for _, count in history))
        told = f"{demand.rate_rps:.0f}/s now, {to_come:.0f}/s to come, {demand.waiting:.0f} wait"
        return Decision(held, _PredictiveMemory(history), told)


@dataclass(frozen=True)
class Oracle:
    """Knows the arrivals to come: as many replicas as the busiest moment of the next start-up time needs.

    rate_rps: the true rate at a second; per_replica_rps: what one replica holds within the target; ahead_s: start-up.
    """

    rate_rps: Callable[[float], float]
    per_replica_rps: float
    ahead_s: float
    max_replicas: int
    min_replicas: int = 1
    period_s: float = 1.0
    name: str = "oracle"

    def decide(self, seen: Observation, memory: Any) -> Decision:
        """See Policy."""
        steps = max(1, math.ceil(self.ahead_s / self.period_s)) + 1
        peak = max(self.rate_rps(seen.now_s + k * self.period_s) for k in range(steps))
        wanted = math.ceil(peak / self.per_replica_rps)
        return Decision(min(max(wanted, self.min_replicas), self.max_replicas), None, f"{peak:.0f}/s to come")
