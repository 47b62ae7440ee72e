"""A policy that was learned: a network as ONNX, and a JSON file that says what it expects and where it comes from.

    policy.onnx      features float32[n, k] -> logits float32[n, 2 * reach + 1], one for each change of -reach..reach
    policy.json      policy_file.PolicyFile; its hash is of the bytes of policy.onnx

It runs in onnxruntime, without torch and without pickle. Features of another version, another file than the one that
was exported, or a scale that is not the policy's own are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from testbed.autoscaling.features import FEATURES, VERSION, FeatureScale, Past, features_of, features_with
from testbed.autoscaling.forecast import SMOOTHED
from testbed.autoscaling.observation import Observation
from testbed.autoscaling.policy import Decision, policy
from testbed.autoscaling.policy_file import PolicyFile, read_pair
from testbed.autoscaling.policy_network import answer, session_of
from testbed.autoscaling.search import ServedService, Trial
from testbed.errors import ConfigError


class _Loaded(NamedTuple):
    """A policy that was read and checked. session: onnxruntime's."""

    description: PolicyFile
    session: Any


@policy("learned")
@dataclass(frozen=True)
class Learned:
    """The change with the largest logit, each step_s; nothing changes while there are no metrics, or one is no number,
    nor in the first steps.

    replica_capacity_rps, latency_target_s and provisioning_delay_s are of the service that is scaled: what its features
    are measured in. slo_penalty: of a step with every request missed, in steps of all replicas; the larger, the fewer
    misses and the more GPU-seconds. step_s: between two decisions; None: as it was trained. Its features count in
    steps, so a service whose pods take twenty times as long is to it as one that it was trained on, with steps twenty
    times as long. digest: of the policy's files (Pair.digest), others are refused; empty: as they are
    when it is made. It stays that policy, whatever is trained into the same files later.
    """

    told: ClassVar[str] = (
        "a training in the simulator; requests a second that a replica serves within the target; latency target; "
        "start-up time; arrivals, from answers and queues; queue time; replicas"
    )

    corrects: ClassVar[str | None] = None  # kind of the policy whose proposals its network corrects

    file: Path
    replica_capacity_rps: float
    latency_target_s: float
    provisioning_delay_s: float
    max_replicas: int
    min_replicas: int = 1
    metrics_delay_s: float = 1.0
    slo_penalty: float = 10.0
    step_s: float | None = None
    name: str = "learned"
    digest: str = ""

    def __post_init__(self) -> None:
        for name in ("replica_capacity_rps", "latency_target_s", "provisioning_delay_s", "step_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"policy learned: {name} must be above 0, not {value:g}")
        if not self.digest:
            object.__setattr__(self, "digest", read_pair(self.file).digest)
        base = self._known.description.base
        if base != self.corrects:
            kind = "learned" if base is None else "corrected"
            raise ConfigError(
                f"{self.file} was trained to {f'correct a {base}' if base else 'decide alone'}: give kind {kind}"
            )
        low, high = self._known.description.slo_penalties
        if not low <= self.slo_penalty <= high:
            raise ConfigError(
                f"policy learned: slo_penalty is {self.slo_penalty:g}, it was trained with {low:g} to {high:g}: "
                "choose one of those"
            )

    @classmethod
    def first_tried(cls, service: ServedService) -> list[dict[str, Any]]:
        """See testbed.autoscaling.search."""
        return [
            {"slo_penalty": penalty, "capacity": capacity, "step": 0.4, "min_replicas": 1}
            for penalty in (3.0, 10.0, 30.0)
            for capacity in (0.9, 1.0)
        ]

    @classmethod
    def suggested(cls, trial: Trial, service: ServedService, given: Mapping[str, Any]) -> dict[str, Any]:
        """See testbed.autoscaling.search."""
        if "file" not in given:
            raise ConfigError("policy learned: give file, the policy.onnx of a training, to search its settings")
        low, high = read_policy(Path(str(given["file"]))).slo_penalties
        return {
            "slo_penalty": trial.suggest_float("slo_penalty", low, high, log=low > 0),
            "replica_capacity_rps": service.replica.target_rps * trial.suggest_float("capacity", 0.7, 1.3),
            "latency_target_s": service.replica.latency_target_s,
            "provisioning_delay_s": service.provisioning_delay_s,
            "min_replicas": trial.suggest_int("min_replicas", 1, service.max_replicas),
            "metrics_delay_s": service.metrics_delay_s,
            "step_s": max(1.0, service.provisioning_delay_s * trial.suggest_float("step", 0.15, 0.6, log=True)),
        }

    @property
    def period_s(self) -> float:
        """See Policy."""
        return self._known.description.step_s if self.step_s is None else self.step_s

    @property
    def _known(self) -> _Loaded:
        return _loaded(self.file, self.digest)

    @property
    def scale(self) -> FeatureScale:
        """What its features are measured in."""
        return FeatureScale(
            replica_capacity_rps=self.replica_capacity_rps,
            latency_target_s=self.latency_target_s,
            max_replicas=self.max_replicas,
            provisioning_delay_s=self.provisioning_delay_s,
            step_s=self.period_s,
            slo_penalty=self.slo_penalty,
            metrics_delay_s=self.metrics_delay_s,
        )

    def change(self, features: npt.NDArray[np.float32]) -> int | None:
        """The network's answer; None: it is no number, or none."""
        description, session = self._known
        try:
            logits = answer(session, features)
        except ValueError:
            return None
        return int(np.argmax(logits)) - description.max_step if np.isfinite(logits).all() else None

    def decide(self, observation: Observation, memory: Any) -> Decision:
        """See Policy."""
        past, scale = memory or Past(observation.now_s, 0), self.scale
        features, past = features_of(observation, past, scale)
        if features is None:
            return Decision(observation.spec_replicas, past, "no metrics yet, or one is no number")
        if len(past.rates) < SMOOTHED:  # the first window may have begun before the traffic did
            return Decision(observation.spec_replicas, past, "too little is known yet")
        change = self.change(features)
        if change is None:
            return Decision(observation.spec_replicas, past, "the network's answer is no number")
        wanted = min(max(observation.spec_replicas + change, self.min_replicas), self.max_replicas)
        if wanted != observation.spec_replicas:
            past = past._replace(change_s=observation.now_s, change=wanted - observation.spec_replicas)
        seen = dict(zip(FEATURES, features.tolist(), strict=True))
        return Decision(wanted, past, f"{change:+d}: {explained(seen, observation.spec_replicas, scale, past)}")


def explained(seen: Mapping[str, float], spec: int, scale: FeatureScale, past: Past) -> str:
    """What the network saw and what it was told to expect, in the service's own units. seen: its features, by name.

    Example: `210/s, 91 % of what 3 replicas serve; in 5 s 231/s on a line, 260/s by a season seen 2.1 times; 12 wait`.
    """
    served = scale.replica_capacity_rps * max(1, spec)
    replicas = f"{spec} replica{'' if spec == 1 else 's'}"
    ahead_s = scale.provisioning_delay_s + scale.metrics_delay_s
    text = f"{seen['level'] * served:.0f}/s, {100 * seen['level']:.0f} % of what {replicas} serve; in {ahead_s:.3g} s "
    text += f"{seen['trend'] * served:.0f}/s on a line"
    if seen["strength"] > 0:
        text += f", {seen['season'] * served:.0f}/s by a season seen {4 * seen['cycles']:.1f} times"
    return f"{text}; {past.waiting:.0f} wait"


def read_policy(file: Path) -> PolicyFile:
    """policy.json beside policy.onnx, checked against it and against this code; ConfigError in one line."""
    return _loaded(file, read_pair(file).digest).description


@lru_cache(maxsize=32)
def _loaded(file: Path, digest: str) -> _Loaded:
    """Read once for each content: a policy that runs stays what it was when it was made. See Pair for the digest."""
    pair, beside = read_pair(file), file.with_suffix(".json")
    description = pair.description
    if pair.digest != digest:
        raise ConfigError(f"{file} is another policy by now than the one asked for (digest {digest[:12]}): begin anew")
    if description.trained.get("control") is not None:
        raise ConfigError(
            f"{beside}: a control ({description.trained['control']}), to compare a training with: it scales nothing; "
            "give a policy that was trained without `control`"
        )
    known = tuple(features_with(description.base))
    if description.features_version != VERSION or description.features != known:
        raise ConfigError(
            f"{beside} expects features of version {description.features_version} "
            f"({', '.join(description.features)}), this code has version {VERSION} ({', '.join(known)}): train it "
            "again, or use the code that it was trained with"
        )
    try:
        session = session_of(pair.network)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}: export the policy again") from None
    ports = [(port.name, list(port.shape[1:])) for port in (*session.get_inputs(), *session.get_outputs())]
    expected = [("features", [len(known)]), ("logits", [2 * description.max_step + 1])]
    if ports != expected:
        raise ConfigError(f"{file} has the ports {ports}, expected are {expected}: export the policy again")
    try:
        logits = answer(session, np.zeros(len(known), np.float32))  # once now, rather than first in a running service
        if logits.shape != (2 * description.max_step + 1,):
            raise ValueError(f"its answer has the shape {logits.shape}")
    except ValueError as error:
        raise ConfigError(f"{file}: {error}: export the policy again") from None
    return _Loaded(description, session)
