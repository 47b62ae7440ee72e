"""What could take the incumbent's place: itself with what one replica serves now, or a network that was taught on.

Policies whose numbers come from what one replica serves have `replica_capacity_rps`; a learned one is given features in
that scale and needs no other change. Others (an HPA on queue time, say) follow the metric itself: nothing of
theirs can be set right from a profile.
"""

from __future__ import annotations

import shutil
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from testbed.adaptation.judge import CandidateVerdict, Case, best_of, judge_candidates
from testbed.adaptation.recalibrate import Serves, rescaled
from testbed.adaptation.settings import JudgeSettings, TuningSettings
from testbed.autoscaling.policies.learned import Learned
from testbed.autoscaling.policy import Policy
from testbed.calibration.profile import ServiceProfile
from testbed.errors import ConfigError
from testbed.simulation.cluster.config import ClusterConfig
from workloads.catalog import ServiceConfig
from workloads.files import write_json


class Task(NamedTuple):
    """What is to be thought over, away from the loop. All of it can be handed to another process."""

    cluster: ClusterConfig  # its one model is what is scaled
    old: ServiceProfile
    new: ServiceProfile
    new_file: Path
    incumbent: Policy
    rates: tuple[float, ...]
    interval_s: float
    replicas: int
    settings: JudgeSettings
    tuning: TuningSettings | None


class Finding(NamedTuple):
    """The best candidate, and what was found of it. others: gain of each further candidate, by what it is."""

    candidate: Policy
    what: str
    serves: Serves
    verdict: CandidateVerdict
    others: dict[str, float]


def per_replica_of(policy: Policy) -> float:
    """What one replica serves, as the policy takes it; ConfigError if it takes no such number."""
    known: set[str] = {field.name for field in fields(policy)} if is_dataclass(policy) else set()
    if "replica_capacity_rps" not in known:
        raise ConfigError(
            f"policy {policy.name} has no replica_capacity_rps, so there is nothing that a new profile sets right: "
            "adapt a predictive or a learned policy"
        )
    return float(cast(Any, policy).replica_capacity_rps)


def with_rate(policy: Policy, replica_capacity_rps: float) -> Policy:
    """The same policy, with what one replica serves now."""
    return cast(Policy, replace(cast(Any, policy), replica_capacity_rps=replica_capacity_rps))


def of_file(incumbent: Learned, file: Path, replica_capacity_rps: float) -> Learned:
    """The incumbent with another network: with that one's digest, not its own."""
    return replace(incumbent, file=file, digest="", replica_capacity_rps=replica_capacity_rps)


def deliberate(task: Task) -> Finding | str:
    """Make the candidates, and judge each beside the incumbent; a text says why there is none."""
    served = task.cluster.models[0]
    service = ServiceConfig(
        instances=served.instances, max_batch_size=served.max_batch_size, dynamic_batching=served.dynamic_batching
    )
    before = per_replica_of(task.incumbent)
    serves = rescaled(before, task.old, task.new, service, served.latency_target_s)
    if isinstance(serves, str):
        return serves
    candidates = [with_rate(task.incumbent, serves.replica_capacity_rps)]
    descriptions = [f"replica_capacity_rps {before:.1f} -> {serves.replica_capacity_rps:.1f}"]
    if task.tuning is not None and isinstance(task.incumbent, Learned):
        file = fine_tuned(task.tuning, task.new, task.new_file, serves.replica_capacity_rps)
        candidates.append(of_file(task.incumbent, file, serves.replica_capacity_rps))
        descriptions.append(f"{descriptions[0]}, taught on for {task.tuning.steps} decisions ({file})")
    case = Case(
        task.cluster,
        task.new,
        task.incumbent,
        tuple(candidates),
        task.rates,
        task.interval_s,
        task.replicas,
        task.settings,
    )
    verdicts = judge_candidates(case)
    best = best_of(verdicts)
    others = {
        what: verdict.gain for k, (what, verdict) in enumerate(zip(descriptions, verdicts, strict=True)) if k != best
    }
    return Finding(candidates[best], descriptions[best], serves, verdicts[best], others)


def fine_tuned(
    tuning: TuningSettings, profile: ServiceProfile, profile_file: Path, replica_capacity_rps: float
) -> Path:
    """policy.onnx of the network after further training in scenarios with the new profile, in a new folder beside it.

    ConfigError if the folder is no training's. The old training's folder stays as it is.
    """
    from testbed.config_file import load_config  # noqa: PLC0415 - with what follows
    from testbed.kiscaler.train import train  # noqa: PLC0415 - torch, for who has asked for it
    from testbed.kiscaler.train_config import TrainConfig  # noqa: PLC0415 - gymnasium, likewise

    checkpoint = tuning.folder / "checkpoint.zip"
    if not checkpoint.exists():
        raise ConfigError(f"{checkpoint} does not exist: give the folder of a training (`kis train`)")
    before = load_config(tuning.folder / "train.json", TrainConfig)
    served = before.cluster.models[0]
    profiles = dict.fromkeys(served.profiles, profile_file)
    cluster = before.cluster.model_copy(update={"models": (served.model_copy(update={"profiles": profiles}),)})
    taken = _steps_of(tuning.folder)
    config = before.model_copy(
        update={
            "cluster": cluster,
            "replica_capacity_rps": replica_capacity_rps,
            "baselines": {},  # of the old service
            "total_steps": taken + tuning.steps,
            "evaluate_every": max(1, tuning.steps // 2),
        }
    )
    folder = profile_file.parent / f"{profile_file.stem}-training"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(checkpoint, folder / checkpoint.name)
    write_json(folder / "from.json", {"training": str(tuning.folder), "profile": profile.model})
    return train(config, folder, lambda evaluation: None, lambda share: None)


def _steps_of(folder: Path) -> int:
    """Decisions that the training has taken."""
    from testbed.kiscaler.evaluation import read_curve  # noqa: PLC0415 - gymnasium, for who has asked for it

    curve = read_curve(folder / "curve.csv")
    if not curve:
        raise ConfigError(f"{folder / 'curve.csv'} has no evaluation yet: let the training go on for a while")
    return curve[-1].steps
