"""A service whose requests are answered as they come: what policies of arrivals see of it, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.observation import Window

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


def play(policy: Any, rate: Rate, until_s: float, start: int = 1) -> dict[float, int]:
    """Replicas asked for, by the second of the decision."""
    asked, memory, replicas = {}, None, start
    for k in range(1, int(until_s / policy.period_s) + 1):
        now_s = k * policy.period_s
        replicas, memory, _ = policy.decide(Answered(now_s, replicas, rate), memory)
        asked[now_s] = replicas
    return asked


def numbers_in(memory: Any) -> int:
    """How many it consists of; TypeError if it holds anything else."""
    if isinstance(memory, tuple):
        return sum(map(numbers_in, memory))
    if not isinstance(memory, int | float):
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
