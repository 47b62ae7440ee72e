"""Training leaves a policy that runs without torch and answers as the trained one; it goes on where it stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from stable_baselines3 import PPO
from typer.testing import CliRunner

from testbed.autoscaling.build import build_policy
from testbed.autoscaling.features import FEATURES
from testbed.cli.main import application
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.kiscaler.build import make_env, scenarios_of
from testbed.kiscaler.evaluation import evaluate
from testbed.kiscaler.train import train
from testbed.kiscaler.train_config import TrainConfig
from testbed.study import refuse_others
from tests.oracles.cluster_worlds import GPU, flat_profile

RESULTS = Path(__file__).parents[2] / "results"


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    flat_profile((0.020, 0.024, 0.028, 0.032)).write(folder / "profile.json")
    served = {
        "name": "m",
        "profiles": {GPU: str(folder / "profile.json")},
        "max_batch_size": 4,
        "max_replicas": 6,
        "latency_target_s": 0.1,
        "pod": {"container_start_s": 1.0},
    }
    return {
        "cluster": {"gpu_kinds": {GPU: {}}, "pools": [{"gpus": 6, "gpu_kind": GPU}], "models": [served]},
        "replica_capacity_rps": 90,
        "episode_steps": 10,
        "environments": 1,
        "imitated_steps": 600,
        "total_steps": 1800,
        "evaluate_every": 900,
        "evaluation_scenarios": 2,
        **changes,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "train.yaml").write_text(yaml.safe_dump(settings(folder)))
    result = CliRunner().invoke(application(), ["train", str(folder / "train.yaml"), "--out", str(folder / "out")])
    assert result.exit_code == 0, result.output
    assert "reward" in result.output
    return folder


def test_the_exported_network_answers_as_the_trained_one(trained: Path) -> None:
    model = PPO.load(trained / "out" / "checkpoint.zip", device="cpu")
    session = onnxruntime.InferenceSession(trained / "out" / "policy.onnx")
    features = np.random.default_rng(1).random((64, len(FEATURES)), dtype=np.float32)
    (logits,) = session.run(None, {"features": features})
    with torch.no_grad():
        expected = model.policy.get_distribution(torch.from_numpy(features)).distribution.logits.numpy()
    rows = list(csv.DictReader((trained / "out" / "curve.csv").open()))
    best = max(rows, key=lambda row: float(row["reward"]))
    if best is rows[-1]:  # the checkpoint is of the last evaluation, the network of the best
        np.testing.assert_allclose(logits - logits.max(1)[:, None], expected - expected.max(1)[:, None], atol=1e-4)
    assert logits.shape == (64, 5)


def test_it_is_a_policy_like_any_other(trained: Path) -> None:
    given = {
        "file": str(trained / "out" / "policy.onnx"),
        "replica_capacity_rps": 90,
        "latency_target_s": 0.1,
        "provisioning_delay_s": 4,
    }
    policy = build_policy({"kind": "learned", **given}, 6, None)
    assert policy.period_s == 5.0


def test_a_finished_training_is_not_begun_again_and_an_interrupted_one_goes_on(trained: Path) -> None:
    curve = (trained / "out" / "curve.csv").read_text()
    config = TrainConfig.model_validate(settings(trained))
    train(config, trained / "out", lambda found: None, lambda share: None)
    assert (trained / "out" / "curve.csv").read_text() == curve
    with pytest.raises(ConfigError, match=r"other settings \(max_step differs\)"):
        train(config.model_copy(update={"max_step": 1}), trained / "out", lambda found: None, lambda share: None)


@pytest.mark.parametrize("folder", ["training/seed-1", "training/seed-2", "training/seed-3", "control"])
def test_a_configuration_with_earlier_names_is_read(folder: str) -> None:
    file = RESULTS / "golden-kiscaler" / folder / "train.json"
    config = load_config(file, TrainConfig)
    assert config.evaluation_scenarios == 60
    assert config.baselines["oracle"] == {
        "kind": "oracle",
        "replica_capacity_rps": "scenario",
        "provisioning_delay_s": "scenario",
    }
    refuse_others(config, json.loads(file.read_text()), file)


def test_the_scenarios_that_judge_are_the_same_each_time(trained: Path) -> None:
    config = TrainConfig.model_validate(settings(trained))
    env = make_env(config, scenarios_of(config))
    once, again = (evaluate(env, lambda seen: config.max_step, 2) for _ in range(2))
    assert once == again
    assert evaluate(env, lambda seen: 2 * config.max_step, 2) != once
