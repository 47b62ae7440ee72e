"""A service whose requests are answered as they come: what policies of arrivals see of it, step by step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.metrics import ReplicaCapacity
from testbed.autoscaling.observation import Window
from testbed.autoscaling.search import ServedService

Rate = Callable[[float], float]


@dataclass
class Answered:
    """rate: requests a second at a time; waiting: in the queues."""

    now_s: float
    spec_replicas: int
    rate: Rate
    waiting: float = 0.0
    pods: list[PodState] = field(default_factory=list)

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        """See Observation."""
        end_s = self.now_s - metrics_delay_s
        if end_s < seconds:
            return None
        rate = float(np.mean([self.rate(end_s - seconds * (k + 0.5) / 20) for k in range(20)]))
        one = np.ones(1)
        return Window(
            end_s - seconds, end_s, ("pod",), rate * seconds * one, 0 * one, self.waiting * one, one, one, one
        )


def ready(name: str, start_s: float, ready_s: float) -> PodState:
    """A pod that serves."""
    return PodState(name, "Running", True, ready_s, start_s)


def play(policy: Any, rate: Rate, until_s: float, start: int = 1, pods: Sequence[PodState] = ()) -> dict[float, int]:
    """Replicas asked for, by the second of the decision. pods: what is known of start-ups; others serve at once."""
    asked, memory, replicas = {}, None, start
    for k in range(1, int(until_s / policy.period_s) + 1):
        now_s = k * policy.period_s
        replicas, memory, _ = policy.decide(Answered(now_s, replicas, rate, pods=serving(replicas, pods)), memory)[:3]
        asked[now_s] = replicas
    return asked


def serving(count: int, known: Sequence[PodState] = ()) -> list[PodState]:
    """So many, the known ones among them."""
    return [*known, *(ready(f"pod-{k}", 0.0, 0.0) for k in range(count - len(known)))]


def numbers_in(memory: Any) -> int:
    """How many it consists of; TypeError if it holds anything else."""
    if isinstance(memory, tuple):
        return sum(map(numbers_in, memory))
    if memory is not None and not isinstance(memory, int | float):
        raise TypeError(f"{memory!r} is no plain value")
    return 1


def seconds_of_a_decision(policy: Any, rate: Rate) -> float:
    """CPU time of one with a full memory, the median of some."""
    memory, took = None, []
    for k in range(1, 400):
        before = time.process_time()
        memory = policy.decide(Answered(policy.period_s * k, 3, rate), memory).memory
        took.append(time.process_time() - before)
    return float(np.median(took[-50:]))


class Middle:
    """A trial that suggests what lies in the middle, or last."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return math.sqrt(low * high) if log else (low + high) / 2

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return (low + high) // 2

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[-1]


SERVICE = ServedService(ReplicaCapacity(1, 8, 90.0, 75.0, 0.2), 6, 4.0, 1.0, 5.0)
