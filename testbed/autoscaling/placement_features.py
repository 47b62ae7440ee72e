"""What a policy that chooses kinds of GPU is given: the features of the whole deployment, and some of each kind.

The tables FEATURES (features.py) and KIND_FEATURES are the specification; VERSION is in every policy file. What "the
replicas asked for serve" is in FEATURES, the mix that is asked for serves here; what "the ready replicas serve" is the
mean replica of that mix, times those that are ready.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.features import FEATURES, FeatureScale, Past, bounds, features_of
from testbed.autoscaling.mixes import Mixes
from testbed.autoscaling.observation import Observation

VERSION = "placement-1"
FloatArray = npt.NDArray[np.float32]


class KindState(NamedTuple):
    """Replicas of one kind: asked for, ready, and how many more would find a device now."""

    asked: int
    ready: int
    room: int


class _SeenKind(NamedTuple):
    """One kind among the others."""

    state: KindState
    max_replicas: int
    capacity: float  # share of what is asked for
    cost: float


class KindFeature(NamedTuple):
    """One number of each kind; see Feature."""

    meaning: str
    unit: str
    low: float
    high: float
    value: Callable[[_SeenKind], float]


KIND_FEATURES: Mapping[str, KindFeature] = {
    "asked": KindFeature("replicas asked for", "of max_replicas", 0, 1, lambda k: k.state.asked / k.max_replicas),
    "ready": KindFeature("ready replicas", "of max_replicas", 0, 1, lambda k: k.state.ready / k.max_replicas),
    "coming": KindFeature(
        "asked for and not ready; negative: more are ready than asked for",
        "of max_replicas",
        -1,
        1,
        lambda k: (k.state.asked - k.state.ready) / k.max_replicas,
    ),
    "capacity": KindFeature(
        "what the replicas asked for serve by themselves", "of the sum over kinds", 0, 1, lambda k: k.capacity
    ),
    "cost": KindFeature("what they cost", "of the sum over kinds", 0, 1, lambda k: k.cost),
    "room": KindFeature(
        "replicas that would find a device", "of max_replicas", 0, 1, lambda k: k.state.room / k.max_replicas
    ),
}


def feature_names(kinds: Sequence[str]) -> tuple[str, ...]:
    """Of one row, in its order."""
    return (*FEATURES, *(f"{kind}.{name}" for kind in kinds for name in KIND_FEATURES))


def feature_bounds(kinds: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """float32[len(feature_names(kinds))] each: the least and the greatest value."""
    low, high = bounds()
    of_kind = [(one.low, one.high) for one in KIND_FEATURES.values()] * len(kinds)
    kind_low, kind_high = np.array(of_kind, dtype=np.float32).T
    return np.concatenate([low, kind_low]), np.concatenate([high, kind_high])


def placement_features(
    seen: Observation, states: Sequence[KindState], mixes: Mixes, past: Past, scale: FeatureScale
) -> tuple[FloatArray | None, Past]:
    """float32[len(feature_names(mixes.names))], cut to the ranges; see features_of. states: in the kinds' order."""
    asked = np.array([one.asked for one in states])
    total = max(1, int(asked.sum()))
    of_mix_rps = mixes.capacity_rps(asked.tolist()) / total
    own = replace(scale, per_replica_rps=of_mix_rps or scale.per_replica_rps)
    found, past = features_of(seen, past, own)
    if found is None:
        return None, past
    capacity, cost = (_shares(asked * each) for each in (mixes.rates_rps, mixes.costs))
    kinds = [_SeenKind(*one) for one in zip(states, [scale.max_replicas] * len(states), capacity, cost, strict=True)]
    values = np.array([feature.value(kind) for kind in kinds for feature in KIND_FEATURES.values()], dtype=np.float32)
    row = np.concatenate([found, values])
    return np.clip(row, *feature_bounds(mixes.names)), past


def _shares(values: npt.NDArray[np.float64]) -> list[float]:
    total = float(values.sum())
    return [float(one) / total if total > 0 else 0.0 for one in values]
