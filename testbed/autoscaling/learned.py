"""A policy that was learned: a network as ONNX, and a JSON file that says what it expects and where it comes from.

    policy.onnx      features float32[n, k] -> logits float32[n, 2 * reach + 1], one for each change of -reach..reach
    policy.json      PolicyFile; its hash is of the bytes of policy.onnx

It runs in onnxruntime, without torch and without pickle. Features of another version, another file than the one that
was exported, or a scale that is not the policy's own are refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from testbed.autoscaling.features import FEATURES, VERSION, FeatureScale, Past, features_of
from testbed.autoscaling.forecast import SMOOTHED
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.placement_features import VERSION as PLACEMENT_VERSION
from testbed.autoscaling.policy import Decision
from testbed.config import Strict
from testbed.errors import ConfigError


class PolicyFile(Strict):
    """policy.json."""

    features_version: int | str
    features: tuple[str, ...]
    sha256: str = Field(description="of policy.onnx")
    reach: int = Field(ge=1, description="largest change of one decision")
    step_s: float = Field(gt=0, description="from one decision to the next, and the windows' length")
    prices: tuple[float, float] = Field(description="least and largest price of a miss that it was trained with")
    trained: dict[str, Any] = Field({}, description="provenance: scenarios, seeds, steps, code, and when")


@dataclass(frozen=True)
class Learned:
    """The change with the largest logit, each step_s; nothing changes while there are no metrics, or one is no number,
    nor in the first steps.

    per_replica_rps, latency_target_s and ahead_s are of the service that is scaled: what its features are measured in.
    price: of a step with every request missed, in steps of all replicas; the larger, the fewer misses and the more
    GPU-seconds.
    """

    file: Path
    per_replica_rps: float
    latency_target_s: float
    ahead_s: float
    max_replicas: int
    min_replicas: int = 1
    age_s: float = 1.0
    price: float = 10.0
    name: str = "learned"

    def __post_init__(self) -> None:
        for name in ("per_replica_rps", "latency_target_s", "ahead_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"policy learned: {name} must be above 0, not {getattr(self, name):g}")
        low, high = read_policy(self.file).prices
        if not low <= self.price <= high:
            raise ConfigError(
                f"policy learned: price is {self.price:g}, it was trained with {low:g} to {high:g}: choose one of those"
            )

    @property
    def period_s(self) -> float:
        """See Policy."""
        return read_policy(self.file).step_s

    def decide(self, seen: Observation, memory: Past | None) -> Decision:
        """See Policy."""
        told = read_policy(self.file)
        past = memory or Past(seen.now_s, 0)
        scale = FeatureScale(
            per_replica_rps=self.per_replica_rps,
            latency_target_s=self.latency_target_s,
            max_replicas=self.max_replicas,
            ahead_s=self.ahead_s,
            step_s=told.step_s,
            price=self.price,
            age_s=self.age_s,
        )
        features, past = features_of(seen, past, scale)
        if features is None:
            return Decision(seen.spec_replicas, past, "no metrics yet, or one is no number")
        if len(past.rates) < SMOOTHED:  # the first window may have begun before the traffic did
            return Decision(seen.spec_replicas, past, "too little is known yet")
        (logits,) = _session(self.file, told.sha256).run(None, {"features": features[np.newaxis]})
        if not np.isfinite(logits).all():
            return Decision(seen.spec_replicas, past, "the network's answer is no number")
        change = int(np.argmax(logits[0])) - told.reach
        wanted = min(max(seen.spec_replicas + change, self.min_replicas), self.max_replicas)
        if wanted != seen.spec_replicas:
            past = past._replace(change_s=seen.now_s, change=wanted - seen.spec_replicas)
        shown = ", ".join(f"{name} {value:.2f}" for name, value in zip(FEATURES, features.tolist(), strict=True))
        return Decision(wanted, past, f"{change:+d} for {shown}")


@lru_cache(maxsize=32)
def read_policy(file: Path) -> PolicyFile:
    """policy.json beside policy.onnx, checked against it and against this code; ConfigError in one line."""
    beside = file.with_suffix(".json")
    for path in (file, beside):
        if not path.exists():
            raise ConfigError(
                f"no policy {path}: a policy is an .onnx file and a .json file of the same name beside it"
            )
    try:
        told = PolicyFile.model_validate(json.loads(beside.read_text()))
    except (ValueError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = str(error) if first is None else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(f"{beside}: {what}: export the policy again") from None
    if told.trained.get("control") is not None:
        raise ConfigError(
            f"{beside}: a control ({told.trained['control']}), to compare a training with: it scales nothing; give a "
            "policy that was trained without `control`"
        )
    if told.features_version == PLACEMENT_VERSION:
        raise ConfigError(
            f"{file} also chooses the kind of GPU (features {PLACEMENT_VERSION}): it runs in its environment only, "
            "choose a policy that was trained without `placement`"
        )
    if told.features_version != VERSION or told.features != tuple(FEATURES):
        raise ConfigError(
            f"{beside} expects features of version {told.features_version} ({', '.join(told.features)}), this code has "
            f"version {VERSION} ({', '.join(FEATURES)}): train it again, or use the code that it was trained with"
        )
    if hashlib.sha256(file.read_bytes()).hexdigest() != told.sha256:
        raise ConfigError(f"{file} is not the file that {beside.name} was written for (its hash differs): export again")
    session = _session(file, told.sha256)
    ports = [(one.name, list(one.shape[1:])) for one in (*session.get_inputs(), *session.get_outputs())]
    expected = [("features", [len(FEATURES)]), ("logits", [2 * told.reach + 1])]
    if ports != expected:
        raise ConfigError(f"{file} has the ports {ports}, expected are {expected}: export the policy again")
    return told


@lru_cache(maxsize=32)
def _session(file: Path, sha256: str) -> Any:
    """Loaded once for each content. onnxruntime is imported by who has such a policy only."""
    import onnxruntime  # noqa: PLC0415 - half a second that no other policy should pay

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a network of a few hundred numbers
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever a foreign file makes of onnxruntime
        raise ConfigError(f"{file}: onnxruntime cannot load it ({' '.join(str(error).split())[:200]})") from None
