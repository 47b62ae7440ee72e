"""Candidates: the incumbent with another number, and a network that was taught on in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testbed.adaptation.candidate import fine_tuned, of_file, per_replica_of, with_rate
from testbed.adaptation.settings import TuningSettings
from testbed.autoscaling.policies import Fixed, Predictive
from testbed.autoscaling.policies.learned import Learned
from testbed.autoscaling.policy_file import read_pair
from testbed.errors import ConfigError
from tests.oracles.cluster_worlds import flat_profile, six_replicas

COLUMNS = "steps,reward,slo_violation_rate,gpu,churn,seconds\n"


def test_the_incumbent_with_another_number():
    policy = Predictive(replica_capacity_rps=200.0, provisioning_delay_s=3.0, max_replicas=4)
    assert per_replica_of(with_rate(policy, 120.0)) == 120.0
    with pytest.raises(ConfigError, match="fixed-2 has no replica_capacity_rps"):
        per_replica_of(Fixed(2))


def test_a_network_that_was_taught_on_is_taken_for_itself():
    """It was asked for by the incumbent's digest, refused as another policy, and never judged."""
    golden = Path(__file__).parents[2] / "results" / "golden-kiscaler" / "training"
    incumbent = Learned(
        file=golden / "policy.onnx",
        replica_capacity_rps=75.0,
        latency_target_s=0.2,
        provisioning_delay_s=4.6,
        max_replicas=6,
    )
    taught = of_file(incumbent, golden / "seed-1" / "policy.onnx", 50.0)
    assert (taught.digest, taught.replica_capacity_rps) == (read_pair(taught.file).digest, 50.0)
    assert taught.digest != incumbent.digest
    assert taught.name


def test_teaching_on_continues_a_checkpoint_with_the_new_profile_in_a_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from testbed.kiscaler import train as training
    from testbed.kiscaler.train_config import TrainConfig

    before = tmp_path / "training"
    before.mkdir()
    config = TrainConfig.model_validate(
        {"cluster": six_replicas(tmp_path), "replica_capacity_rps": 90.0, "total_steps": 1000}
    )
    (before / "train.json").write_text(config.model_dump_json())
    (before / "checkpoint.zip").write_bytes(b"a checkpoint")
    (before / "curve.csv").write_text(f"{COLUMNS}1000,-1,0,0,0,9\n1216,-0.5,0,0,0,11\n")
    called: list[Any] = []

    def train(config: Any, folder: Path, *_: Any) -> Path:
        called.append((config, (folder / "checkpoint.zip").read_bytes()))
        return folder / "policy.onnx"

    monkeypatch.setattr(training, "train", train)
    new = tmp_path / "adaptation" / "profile-m-at-100.json"
    file = fine_tuned(TuningSettings(folder=before, steps=500), flat_profile(), new, 60.0)
    ((given, checkpoint),) = called
    assert file == tmp_path / "adaptation" / "profile-m-at-100-training" / "policy.onnx"
    assert checkpoint == b"a checkpoint"
    assert (given.total_steps, given.replica_capacity_rps) == (1716, 60.0)
    assert set(given.cluster.models[0].profiles.values()) == {new}
    assert json.loads((before / "train.json").read_text())["replica_capacity_rps"] == 90.0  # as it was
    with pytest.raises(ConfigError, match="give the folder of a training"):
        fine_tuned(TuningSettings(folder=tmp_path), flat_profile(), new, 60.0)
    (before / "curve.csv").write_text(COLUMNS)
    with pytest.raises(ConfigError, match="no evaluation yet"):
        fine_tuned(TuningSettings(folder=before), flat_profile(), new, 60.0)


def test_who_does_not_teach_needs_no_torch():
    unwanted = "{'torch', 'stable_baselines3', 'gymnasium'}"
    code = f"import sys, testbed.adaptation.adaptive; assert not {unwanted} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
