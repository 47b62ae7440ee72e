"""What a learned policy is given: one row of numbers, from what a cluster exposes. The same in training and deployed.

The table FEATURES is the specification; its version is in every policy file, and another one is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.forecast import SMOOTHED, Season, season_of, season_peak, smooth, trend_of
from testbed.autoscaling.observation import Observation, Window

VERSION = 2
REMEMBERED = 300  # steps of arrivals


@dataclass(frozen=True)
class FeatureScale:
    """What the numbers are measured in. replica_capacity_rps: that one replica serves within the target.

    slo_penalty: of a step in which every request is missed, in steps of all replicas: how much the policy is to care.
    """

    replica_capacity_rps: float
    latency_target_s: float
    max_replicas: int
    provisioning_delay_s: float  # from asked for to serving: how far forecasts look
    step_s: float  # from one decision to the next, and the length of a window
    slo_penalty: float = 10.0
    metrics_delay_s: float = 1.0


class Past(NamedTuple):
    """What a policy remembers: its last change (when, and by how many replicas), the arrivals of each step (requests a
    second, the newest last, REMEMBERED at most), and what waited at the end of the last one."""

    change_s: float
    change: int
    rates: tuple[float, ...] = ()
    waiting: float = 0.0


@dataclass(frozen=True)
class _Inputs:
    """What the features are computed from."""

    scale: FeatureScale
    now_s: float
    spec: int
    ready: int
    window: Window
    past: Past
    level: float  # arrivals now, smoothed
    trend: float  # arrivals when a pod asked for now would serve
    peaks: tuple[float, float, float]  # of the last 15, 60 and all remembered steps, smoothed
    season: Season | None
    to_come: float  # the season's

    @property
    def serving(self) -> int:
        return max(1, self.ready)

    def of_asked(self, rate_rps: float) -> float:
        """Share of what the replicas that are asked for can serve."""
        return rate_rps / (self.scale.replica_capacity_rps * max(1, self.spec))


class Feature(NamedTuple):
    """One number: what it is, in which unit, and the range that it is cut to."""

    meaning: str
    unit: str
    low: float
    high: float
    value: Callable[[_Inputs], float]


def _queue_time(seen: _Inputs) -> float:
    """Mean over the requests of all pods; with nothing answered, what waits decides."""
    answered = float(seen.window.requests.sum())
    if answered == 0:
        return 0.0 if seen.window.waiting.sum() == 0 else math.inf
    return float(seen.window.queue_s.sum()) / answered / seen.scale.latency_target_s


ASKED = "of what the replicas asked for serve"
FEATURES: Mapping[str, Feature] = {
    "asked": Feature("replicas asked for", "of max_replicas", 0, 1, lambda s: s.spec / s.scale.max_replicas),
    "one": Feature("one replica", "of those asked for", 0, 1, lambda s: 1 / max(1, s.spec)),
    "coming": Feature(
        "asked for and not ready; negative: more are ready than asked for",
        "of max_replicas",
        -1,
        1,
        lambda s: (s.spec - s.ready) / s.scale.max_replicas,
    ),
    "load": Feature(
        "requests that arrived a second",
        "of what the ready replicas serve",
        0,
        4,
        lambda s: s.level / (s.scale.replica_capacity_rps * s.serving),
    ),
    "level": Feature("requests that arrived a second", ASKED, 0, 4, lambda s: s.of_asked(s.level)),
    "trend": Feature(
        "the same when a pod asked for now would serve, on a line", ASKED, 0, 4, lambda s: s.of_asked(s.trend)
    ),
    "season": Feature(
        "the most until a pod asked for at the next step would serve, if the season repeats; without one: level",
        ASKED,
        0,
        4,
        lambda s: s.of_asked(s.to_come),
    ),
    "strength": Feature(
        "how like the last season the newest one is",
        "1",
        0,
        1,
        lambda s: 0.0 if s.season is None else s.season.strength,
    ),
    "cycles": Feature(
        "seasons remembered", "of four", 0, 1, lambda s: 0.0 if s.season is None else s.season.cycles / 4
    ),
    "peak_15": Feature("largest arrivals of 15 steps", ASKED, 0, 4, lambda s: s.of_asked(s.peaks[0])),
    "peak_60": Feature("largest arrivals of 60 steps", ASKED, 0, 4, lambda s: s.of_asked(s.peaks[1])),
    "peak": Feature("largest arrivals remembered", ASKED, 0, 4, lambda s: s.of_asked(s.peaks[2])),
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
        lambda s: s.past.waiting / (s.scale.replica_capacity_rps * s.serving) / s.scale.latency_target_s,
    ),
    "ahead": Feature(
        "from asked for to serving", "of 20 steps", 0, 1, lambda s: s.scale.provisioning_delay_s / (20 * s.scale.step_s)
    ),
    "since_change": Feature(
        "since the policy's last change",
        "of ten start-ups",
        0,
        1,
        lambda s: (s.now_s - s.past.change_s) / (10 * s.scale.provisioning_delay_s),
    ),
    "last_change": Feature(
        "replicas of that change", "of max_replicas", -1, 1, lambda s: s.past.change / s.scale.max_replicas
    ),
    "slo_penalty": Feature("how much to care, log10", "of 2", 0, 1, lambda s: math.log10(s.scale.slo_penalty) / 2),
}


def features_of(seen: Observation, past: Past, scale: FeatureScale) -> tuple[npt.NDArray[np.float32] | None, Past]:
    """float32[len(FEATURES)], in its order, cut to the ranges, and the past with this step; None: there are no metrics
    yet, or one is no number."""
    window = seen.window(scale.step_s, scale.metrics_delay_s)
    if window is None:
        return None, past
    rate = window.arrivals_rps(past.waiting)
    if not math.isfinite(rate):
        return None, past
    past = past._replace(rates=(*past.rates[1 - REMEMBERED :], rate), waiting=float(window.waiting.sum()))
    known = _inputs_of(seen, window, past, scale)
    values = np.array([feature.value(known) for feature in FEATURES.values()], dtype=np.float64)
    if np.isnan(values).any():
        return None, past
    low, high = bounds()
    return np.clip(values, low, high).astype(np.float32), past


def _inputs_of(seen: Observation, window: Window, past: Past, scale: FeatureScale) -> _Inputs:
    rates = np.array(past.rates)
    ahead = math.ceil((scale.provisioning_delay_s + scale.metrics_delay_s) / scale.step_s) + 1
    level = float(rates[-SMOOTHED:].mean())
    smoothed = smooth(rates) if len(rates) >= SMOOTHED else np.array([level])
    season = season_of(smoothed, ahead + SMOOTHED)
    return _Inputs(
        scale=scale,
        now_s=seen.now_s,
        spec=seen.spec_replicas,
        ready=sum(1 for pod in seen.pods if pod.ready and not pod.deleting),
        window=window,
        past=past,
        level=level,
        trend=trend_of(rates, (scale.provisioning_delay_s + scale.metrics_delay_s) / scale.step_s),
        peaks=(float(smoothed[-15:].max()), float(smoothed[-60:].max()), float(smoothed.max())),
        season=season,
        to_come=level if season is None else season_peak(smoothed, season, ahead + SMOOTHED),
    )


PROPOSED = Feature(
    "replicas that the corrected policy proposes, less those asked for", "of max_replicas", -1, 1, lambda s: 0.0
)


def features_with(base: str | None) -> Mapping[str, Feature]:
    """Of a network: FEATURES, and the proposal of the policy that it corrects, if it does."""
    return FEATURES if base is None else {**FEATURES, "proposed": PROPOSED}


def with_proposal(
    features: npt.NDArray[np.float32], proposed: int, spec: int, scale: FeatureScale
) -> npt.NDArray[np.float32]:
    """float32[n + 1]: the features, and what is proposed."""
    return np.append(features, np.float32((proposed - spec) / scale.max_replicas))


def bounds(base: str | None = None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """float32[n] each: the least and the greatest value of every feature of a network (features_with)."""
    features = features_with(base).values()
    low = np.array([feature.low for feature in features], dtype=np.float32)
    high = np.array([feature.high for feature in features], dtype=np.float32)
    return low, high
