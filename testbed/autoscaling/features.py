"""What a learned policy is given: one row of numbers, from what a cluster exposes. The same in training and in charge.

The table FEATURES is the specification; its version is in every policy file, and another one is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.demand import Demand, demand_of
from testbed.autoscaling.observation import Observation, Window

VERSION = 1


@dataclass(frozen=True)
class FeatureScale:
    """What the numbers are measured in. per_replica_rps: that one replica serves within the target."""

    per_replica_rps: float
    latency_target_s: float
    max_replicas: int
    ahead_s: float  # from asked for to serving: how far the trend is drawn out
    window_s: float = 5.0
    windows: int = 6
    age_s: float = 1.0


class Change(NamedTuple):
    """The last change that the policy made: when, and by how many replicas."""

    time_s: float
    replicas: int


@dataclass(frozen=True)
class _Seen:
    """What the features are computed from."""

    scale: FeatureScale
    now_s: float
    spec: int
    ready: int
    demand: Demand
    window: Window
    last: Change

    @property
    def serving(self) -> int:
        return max(1, self.ready)


class Feature(NamedTuple):
    """One number: what it is, in which unit, and the range that it is cut to."""

    meaning: str
    unit: str
    low: float
    high: float
    value: Callable[[_Seen], float]


def _queue_time(seen: _Seen) -> float:
    """Mean over the requests of all pods; with nothing answered, what waits decides."""
    answered = float(seen.window.requests.sum())
    if answered == 0:
        return 0.0 if seen.window.waiting.sum() == 0 else math.inf
    return float(seen.window.queue_s.sum()) / answered / seen.scale.latency_target_s


FEATURES: Mapping[str, Feature] = {
    "ready": Feature("ready replicas", "of max_replicas", 0, 1, lambda s: s.ready / s.scale.max_replicas),
    "coming": Feature(
        "asked for and not ready; negative: more are ready than asked for",
        "of max_replicas",
        -1,
        1,
        lambda s: (s.spec - s.ready) / s.scale.max_replicas,
    ),
    "arrivals": Feature(
        "requests that arrived a second",
        "of what max_replicas serve",
        0,
        2,
        lambda s: s.demand.rate_rps / (s.scale.per_replica_rps * s.scale.max_replicas),
    ),
    "to_come": Feature(
        "the same when a pod asked for now would serve, by a line through the last windows",
        "of what max_replicas serve",
        0,
        2,
        lambda s: s.demand.expected_rps(s.scale.ahead_s) / (s.scale.per_replica_rps * s.scale.max_replicas),
    ),
    "load": Feature(
        "requests that arrived a second",
        "of what the ready replicas serve",
        0,
        4,
        lambda s: s.demand.rate_rps / (s.scale.per_replica_rps * s.serving),
    ),
    "load_to_come": Feature(
        "the same when a pod asked for now would serve, for the replicas asked for",
        "of what they serve",
        0,
        4,
        lambda s: s.demand.expected_rps(s.scale.ahead_s) / (s.scale.per_replica_rps * max(1, s.spec)),
    ),
    "utilisation": Feature(
        "busy share of the pods' devices, mean",
        "1",
        0,
        1,
        lambda s: float(s.window.utilisation.mean()) if len(s.window.pods) else 0.0,
    ),
    "queue_time": Feature("time in the queue, mean", "of the latency target", 0, 4, _queue_time),
    "waiting": Feature(
        "time that the ready replicas need for what waits",
        "of the latency target",
        0,
        20,
        lambda s: s.demand.waiting / (s.scale.per_replica_rps * s.serving) / s.scale.latency_target_s,
    ),
    "since_change": Feature(
        "seconds since the policy's last change",
        "of ten start-ups",
        0,
        1,
        lambda s: (s.now_s - s.last.time_s) / (10 * s.scale.ahead_s),
    ),
    "last_change": Feature(
        "replicas of that change", "of max_replicas", -1, 1, lambda s: s.last.replicas / s.scale.max_replicas
    ),
}


def features_of(seen: Observation, last: Change, scale: FeatureScale) -> npt.NDArray[np.float32] | None:
    """float32[len(FEATURES)], in its order, cut to the ranges; None: there are no metrics yet, or one is no number."""
    demand = demand_of(seen, scale.window_s, scale.windows, scale.age_s)
    window = seen.window(scale.window_s, scale.age_s)
    if demand is None or window is None:
        return None
    ready = sum(1 for pod in seen.pods if pod.ready and not pod.deleting)
    known = _Seen(scale, seen.now_s, seen.spec_replicas, ready, demand, window, last)
    values = np.array([one.value(known) for one in FEATURES.values()], dtype=np.float64)
    if np.isnan(values).any():
        return None
    low, high = bounds()
    return np.clip(values, low, high).astype(np.float32)


def bounds() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """float32[len(FEATURES)] each: the least and the greatest value of every feature."""
    low = np.array([one.low for one in FEATURES.values()], dtype=np.float32)
    high = np.array([one.high for one in FEATURES.values()], dtype=np.float32)
    return low, high
