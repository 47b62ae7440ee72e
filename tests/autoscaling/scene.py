"""What a policy sees in its stories: a constant number of requests in flight, a clock that steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from testbed.autoscaling.hpa.pods import PodState
from testbed.autoscaling.observation import Window


@dataclass
class Scene:
    """A deployment whose pods are ready at once and share what is in flight."""

    now_s: float
    spec_replicas: int
    in_flight: Callable[[float], float]
    pods: list[PodState] = field(init=False)

    def __post_init__(self) -> None:
        self.pods = [
            PodState(f"pod-{k}", "Running", True, 0.0, 0.0, requests_m={"server": 1000})
            for k in range(self.spec_replicas)
        ]

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        end_s = self.now_s - metrics_delay_s
        if end_s < seconds:
            return None
        n = max(1, self.spec_replicas)
        times = np.linspace(end_s - seconds, end_s, 50)
        each = np.full(n, float(np.mean([self.in_flight(t) for t in times])) / n)
        names = tuple(f"pod-{k}" for k in range(n))
        return Window(
            end_s - seconds, end_s, names, each * seconds, each * 0.01, each, each, np.minimum(each, 1.0), each / 10
        )


class Flowing(Scene):
    """Nothing waits: all that comes is answered at once."""

    def window(self, seconds: float, metrics_delay_s: float) -> Window | None:
        window = super().window(seconds, metrics_delay_s)
        return None if window is None else replace(window, waiting=0 * window.waiting)


def play(
    policy: Any, in_flight: Callable[[float], float], until_s: float, start: int = 1, scene: type[Scene] = Scene
) -> list[tuple[float, int]]:
    """(second, replicas) of each change."""
    replicas, memory, changes, now_s = start, None, [], policy.period_s
    while now_s <= until_s:
        replicas_before = replicas
        replicas, memory, _ = policy.decide(scene(now_s, replicas, in_flight), memory)[:3]
        if replicas != replicas_before:
            changes.append((round(now_s, 6), replicas))
        now_s += policy.period_s
    return changes


def size_at(changes: list[tuple[float, int]], time_s: float, start: int) -> int:
    return ([start] + [count for at, count in changes if at <= time_s])[-1]
