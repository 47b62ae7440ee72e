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

from testbed.autoscaling.features import FEATURES, VERSION, Change, FeatureScale, features_of
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policy import Decision
from testbed.config import Strict
from testbed.errors import ConfigError


class PolicyFile(Strict):
    """policy.json."""

    features_version: int
    features: tuple[str, ...]
    sha256: str = Field(description="of policy.onnx")
    reach: int = Field(ge=1, description="largest change of one decision")
    step_s: float = Field(gt=0, description="from one decision to the next")
    window_s: float = Field(gt=0, description="of the features, as in training")
    windows: int = Field(ge=2)
    trained: dict[str, Any] = Field({}, description="provenance: scenarios, seeds, steps, code, and when")


@dataclass(frozen=True)
class Learned:
    """The change with the largest logit, each step_s; nothing changes while there are no metrics, or one is no number.

    per_replica_rps, latency_target_s and ahead_s are of the service that is scaled: what its features are measured in.
    """

    file: Path
    per_replica_rps: float
    latency_target_s: float
    ahead_s: float
    max_replicas: int
    min_replicas: int = 1
    age_s: float = 1.0
    name: str = "learned"

    def __post_init__(self) -> None:
        for name in ("per_replica_rps", "latency_target_s", "ahead_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"policy learned: {name} must be above 0, not {getattr(self, name):g}")
        read_policy(self.file)

    @property
    def period_s(self) -> float:
        """See Policy."""
        return read_policy(self.file).step_s

    def decide(self, seen: Observation, memory: Change | None) -> Decision:
        """See Policy."""
        told = read_policy(self.file)
        last = memory or Change(seen.now_s, 0)
        scale = FeatureScale(
            per_replica_rps=self.per_replica_rps,
            latency_target_s=self.latency_target_s,
            max_replicas=self.max_replicas,
            ahead_s=self.ahead_s,
            window_s=told.window_s,
            windows=told.windows,
            age_s=self.age_s,
        )
        features = features_of(seen, last, scale)
        if features is None:
            return Decision(seen.spec_replicas, last, "no metrics yet, or one is no number")
        (logits,) = _session(self.file, told.sha256).run(None, {"features": features[np.newaxis]})
        if not np.isfinite(logits).all():
            return Decision(seen.spec_replicas, last, "the network's answer is no number")
        change = int(np.argmax(logits[0])) - told.reach
        wanted = min(max(seen.spec_replicas + change, self.min_replicas), self.max_replicas)
        if wanted != seen.spec_replicas:
            last = Change(seen.now_s, wanted - seen.spec_replicas)
        shown = ", ".join(f"{name} {value:.2f}" for name, value in zip(FEATURES, features.tolist(), strict=True))
        return Decision(wanted, last, f"{change:+d} for {shown}")


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
