"""Policies on a simulated cluster: what they see of KISim, and the loop that asks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from testbed.autoscaling.budget import GpuBudget, Grant, arrival_rate
from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.observation import Scrape, Window, last_window, window_of
from testbed.autoscaling.policy import Held, Policy
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.pods import Pod
from testbed.simulation.cluster.samples import Sample
from testbed.simulation.cluster.stream import SECOND_NS

KEPT = 1000  # scrapes of a simulation, at least
_scrapes: WeakKeyDictionary[KISim, dict[tuple[int, int], Scrape]] = WeakKeyDictionary()


class SimulatedObservation:
    """An Observation of one model of a KISim, now. since_s: what was scraped before is not seen. answered: does what
    keeps the metrics answer now?"""

    def __init__(self, sim: KISim, model: str, since_s: float = 0.0, *, answered: bool = True) -> None:
        self.now_s = sim.now_s
        self._answered = answered
        self.spec_replicas = len(sim.wanted(model))
        m = sim.model_number(model)
        self._model = m
        request_m = sim.config.models[m].cpu_request_m
        self.pods = [pod_state(pod, request_m) for pod in sim.alive(model)]
        self._samples = [sample for sample in sim.samples if sample.time_ns >= since_s * SECOND_NS]
        self._sim = sim

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        """See Observation."""
        times_s = [sample.time_ns / SECOND_NS for sample in self._samples]
        places = last_window(times_s, self.now_s, seconds, metrics_delay_s)
        if places is None or not self._answered:
            return None
        first, last = places
        return window_of([self._scrape(self._samples[k]) for k in range(first, last + 1)])

    def _scrape(self, sample: Sample) -> Scrape:
        """Made once for each sample of a simulation: windows overlap, and so do observations."""
        made, key = _scrapes.setdefault(self._sim, {}), (sample.time_ns, self._model)
        if key not in made:
            if len(made) > 2 * KEPT:
                for old in list(made)[:KEPT]:
                    del made[old]
            made[key] = scrape_of(self._sim, self._model, sample)
        return made[key]


def scrape_of(sim: KISim, model: int, sample: Sample) -> Scrape:
    """One model's part of a scrape of the whole simulated cluster."""
    mine = sample.models == model
    pods = sample.pods[mine].tolist()
    time_s = sample.time_ns / SECOND_NS
    done = sample.done[mine].astype(float)
    return Scrape(
        time_s=time_s,
        pods=tuple(f"pod-{pod}" for pod in pods),
        requests=done,
        queue_s=sample.queue_ns[mine] / SECOND_NS,
        compute_s=sample.compute_ns[mine] / SECOND_NS,
        waiting=sample.waiting[mine].astype(float),
        active_s=sample.active_ns[mine] / SECOND_NS,
        cpu_s=sim.cpu_seconds(pods, done, time_s),
        sent=float(sample.arrived[model]),
        batches=sample.batches[mine].astype(float),
        batch_s=sample.busy_ns[mine] / SECOND_NS,
    )


def pod_state(pod: Pod, cpu_request_m: int) -> PodState:
    """A simulated pod as the API would show it."""
    running = pod.started_ns is not None or pod.restarts > 0
    return PodState(
        name=f"pod-{pod.number}",
        phase="Running" if running else "Pending",
        ready=pod.ready or pod.state == "draining",
        ready_changed_s=pod.changed_ns / SECOND_NS,
        start_s=None if pod.scheduled_ns is None else pod.scheduled_ns / SECOND_NS,
        deleting=pod.deleted_ns is not None,
        requests_m={"server": cpu_request_m},
    )


class Step(NamedTuple):
    """One decision of a run."""

    time_s: float
    model: str
    before: int
    wanted: int
    reason: str


class Look(NamedTuple):
    """One time that a policy was asked, whether it changed the number or not. load, held: see Decision."""

    time_s: float
    before: int
    wanted: int
    reason: str
    load: float | None = None
    held: Held | None = None


@dataclass
class PolicyRun:
    """Policies that scale a KISim's models.

    phase: the first decision comes after so many of a policy's periods; a real scaler's clock is not the traffic's.
    since_s: samples from before are not seen; a controller has only what it scraped itself.
    budget: of GPUs, for all models; None: each has what it asks for.
    """

    sim: KISim
    policies: Mapping[str, Policy]  # by model
    phase: float = 1.0
    since_s: float = 0.0
    budget: GpuBudget | None = None

    def __post_init__(self) -> None:
        self.memories: dict[str, Any] = dict.fromkeys(self.policies)
        self.next_s = {model: self.phase * policy.period_s for model, policy in self.policies.items()}
        self.lost_until_s = 0.0  # no policy is told a metric until then
        self.steps: list[Step] = []
        self.looks: dict[str, list[Look]] = {model: [] for model in self.policies}

    def advance(self, until_s: float, on_progress: Callable[[float], None] | None = None) -> None:
        """Simulate, and ask each policy when its time has come."""
        while True:
            time_s = min([until_s, *self.next_s.values()])
            self.sim.advance(time_s)
            if on_progress is not None:
                on_progress(time_s)
            for model, policy in self.policies.items():
                if self.next_s[model] <= time_s:
                    self._ask(model, policy)
            if time_s >= until_s:
                return

    def lose_metrics(self, seconds: float) -> None:
        """For so long no policy is told a metric: what keeps them does not answer. What is scraped is kept."""
        self.lost_until_s = max(self.lost_until_s, self.sim.now_s + seconds)

    def scale(self, model: str, replicas: int, reason: str) -> None:
        """Ask for so many replicas now, and note it if that is another number."""
        before = len(self.sim.wanted(model))
        if replicas != before:
            self.steps.append(Step(self.sim.now_s, model, before, replicas, reason))
            self.sim.scale(model, replicas)

    def _ask(self, model: str, policy: Policy) -> None:
        answered = self.sim.now_s >= self.lost_until_s
        observation = SimulatedObservation(self.sim, model, self.since_s, answered=answered)
        decision = policy.decide(observation, self.memories[model])
        self.memories[model] = decision.memory
        most = self.sim.config.models[self.sim.model_number(model)].max_replicas
        replicas, reason = min(max(decision.replicas, 0), most), decision.reason
        held: Held | None = "max" if replicas < decision.replicas else decision.held
        if self.budget is not None:
            granted, why = self._within(self.budget, model, replicas, observation)
            held = "budget" if granted < replicas else held
            replicas, reason = granted, "; ".join(filter(None, (reason, why)))
        looks = self.looks.setdefault(model, [])
        looks.append(Look(self.sim.now_s, observation.spec_replicas, replicas, reason, decision.load, held))
        self.scale(model, replicas, reason)
        self.next_s[model] += policy.period_s

    def _within(self, budget: GpuBudget, model: str, wanted: int, observation: SimulatedObservation) -> Grant:
        for each in budget.models:
            budget.note(each, held=len(self.sim.alive(each)))  # a pod that drains has its GPU still
        budget.note(model, wanted=wanted, rate_rps=arrival_rate(observation))
        return budget.grant(model, observation.spec_replicas)
