"""Policies on a simulated cluster: what they see of KISim, and the loop that asks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.observation import Window
from testbed.autoscaling.policy import Policy
from testbed.simulation.cluster.kisim import KISim
from testbed.simulation.cluster.pods import Pod
from testbed.simulation.cluster.samples import Sample
from testbed.simulation.cluster.stream import SECOND_NS


class SimulatedObservation:
    """An Observation of one model of a KISim, now."""

    def __init__(self, sim: KISim, model: str) -> None:
        self.now_s = sim.now_s
        self.spec_replicas = len(sim.wanted(model))
        m = sim.model_number(model)
        self._model = m
        request_m = sim.config.models[m].cpu_request_m
        self.pods = [pod_state(pod, request_m) for pod in sim.alive(model)]
        self._samples, self._sim = sim.samples, sim

    def window(self, seconds: float, age_s: float) -> Window | None:
        """See Observation."""
        end = self._sample_at(self.now_s - age_s)
        start = None if end is None else self._sample_at(end.time_ns / SECOND_NS - seconds)
        if end is None or start is None or start is end:
            return None
        between = [one for one in self._samples if start.time_ns < one.time_ns <= end.time_ns]
        return _window(self._sim, self._model, start, end, between)

    def _sample_at(self, time_s: float) -> Sample | None:
        """The newest sample that is not younger."""
        limit_ns = round(time_s * SECOND_NS)
        for one in reversed(self._samples):
            if one.time_ns <= limit_ns:
                return one
        return None


def _window(sim: KISim, model: int, start: Sample, end: Sample, between: list[Sample]) -> Window:
    rows = [k for k, pod in enumerate(end.pods) if sim.pods[int(pod)].model == model]
    pods = [int(end.pods[k]) for k in rows]
    seconds = (end.time_ns - start.time_ns) / SECOND_NS

    def increase(name: str) -> np.ndarray:
        before = dict(zip(start.pods.tolist(), getattr(start, name).tolist(), strict=True))
        after = getattr(end, name)
        return np.array([after[k] - before.get(pod, 0) for k, pod in zip(rows, pods, strict=True)], dtype=float)

    in_flight = np.zeros(len(pods))
    for one in between:
        held = dict(zip(one.pods.tolist(), one.outstanding.tolist(), strict=True))
        in_flight += [held.get(pod, 0) for pod in pods]
    requests = increase("done")
    return Window(
        start_s=start.time_ns / SECOND_NS,
        end_s=end.time_ns / SECOND_NS,
        pods=tuple(f"pod-{pod}" for pod in pods),
        requests=requests,
        queue_s=increase("queue_ns") / SECOND_NS,
        waiting=np.array([end.waiting[k] for k in rows], dtype=float),
        in_flight=in_flight / max(1, len(between)),
        utilisation=np.minimum(increase("active_ns") / SECOND_NS / seconds, 1.0),
        cpu_cores=sim.cpu_cores(pods, requests / seconds),
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


@dataclass
class PolicyRun:
    """Policies that scale a KISim's models. Can be copied with it: memories are values."""

    sim: KISim
    policies: Mapping[str, Policy]  # by model

    def __post_init__(self) -> None:
        self.memories: dict[str, Any] = dict.fromkeys(self.policies)
        self.next_s = {model: policy.period_s for model, policy in self.policies.items()}
        self.steps: list[Step] = []

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

    def _ask(self, model: str, policy: Policy) -> None:
        seen = SimulatedObservation(self.sim, model)
        decision = policy.decide(seen, self.memories[model])
        self.memories[model] = decision.memory
        most = self.sim.config.models[self.sim.model_number(model)].max_replicas
        wanted = min(max(decision.replicas, 0), most)
        if wanted != seen.spec_replicas:
            self.steps.append(Step(self.sim.now_s, model, seen.spec_replicas, wanted, decision.reason))
            self.sim.scale(model, wanted)
        self.next_s[model] += policy.period_s
