"""A training with placement: its configuration, its teacher, what leaves it, and the report of what it reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

from testbed.autoscaling.placement_features import feature_names
from testbed.autoscaling.policies.learned import read_policy
from testbed.config import build, load_config
from testbed.errors import ConfigError
from testbed.kiscaler import placement_report
from testbed.kiscaler.placement_env import PlacementEnv
from testbed.kiscaler.placement_report import Episode, Trained, play, table_of
from testbed.kiscaler.train import Evaluation, TrainConfig, export, make_env, scenarios_of
from tests.oracles.two_kinds import profiles, two_kinds

KINDS = {"fast": {"per_replica_rps": 180, "gpu_cost": 1.0}, "slow": {"per_replica_rps": 90, "gpu_cost": 0.3}}


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    files = {}
    for kind, profile in profiles().items():
        files[kind] = str(folder / f"{kind}.json")
        profile.write(folder / f"{kind}.json")
    return {
        "cluster": two_kinds(fast=2, slow=4, profiles=files).model_dump(mode="json"),
        "placement": KINDS,
        "episode_steps": 5,
        **changes,
    }


def environment(config: TrainConfig, *, teacher: bool = False) -> PlacementEnv:
    made = make_env(config, scenarios_of(config), teacher=teacher)
    assert isinstance(made, PlacementEnv)
    return made


def test_the_teacher_names_an_action_that_is_possible(tmp_path: Path) -> None:
    env = environment(build(TrainConfig, settings(tmp_path), "test"), teacher=True)
    _, told = env.reset(seed=1)
    for _ in range(5):
        assert env.action_masks()[told["teacher"]]
        _, _, _, _, told = env.step(np.int64(told["teacher"]))


def test_a_policy_leaves_with_the_features_of_each_kind_and_is_not_in_charge_of_a_cluster(tmp_path: Path) -> None:
    config = build(TrainConfig, settings(tmp_path), "test")
    env = environment(config)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=1, device="cpu")
    export(model.policy, config, Evaluation(0, 0.0, 0.0, 0.0, 0.0), tmp_path)
    told = json.loads((tmp_path / "policy.json").read_text())
    assert told["features_version"] == "placement-1"
    assert told["features"] == list(feature_names(("fast", "slow")))
    trained = Trained(tmp_path / "policy.onnx")
    seen, _ = env.reset(seed=2)
    expected, _ = model.predict(seen, deterministic=True)
    assert trained(env) == int(expected)
    with pytest.raises(ConfigError, match="also chooses the kind of GPU"):
        read_policy(tmp_path / "policy.onnx")


def test_the_report_compares_on_the_same_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build(TrainConfig, settings(tmp_path), "test")
    (tmp_path / "train.json").write_text(json.dumps(config.model_dump(mode="json")))
    model = PPO("MlpPolicy", environment(config), n_steps=8, batch_size=8, seed=1, device="cpu")
    export(model.policy, config, Evaluation(0, 0.0, 0.0, 0.0, 0.0), tmp_path)
    monkeypatch.setattr(placement_report, "TUNING_WORLDS", 1)
    table = placement_report.report(tmp_path, worlds=2).splitlines()
    assert [line.split("|")[1].split(" (")[0].strip() for line in table[2:]] == [
        "trained",
        "cheapest mix",
        "fast only",
        "slow only",
        "fixed mix",
        "cheapest mix that knows the traffic",
        "random",
    ]
    rows = (tmp_path / "placement.csv").read_text().splitlines()
    assert len(rows) == 1 + 7 * 2
    again = play(environment(config), "random", lambda env: 0, placement_report.REPORT_SEED)
    assert again == play(environment(config), "random", lambda env: 0, placement_report.REPORT_SEED)


def test_the_table_has_means_and_paired_differences() -> None:
    episodes = [Episode("a", k, 10.0, -0.1 * k, 0.01, 0.5, 0.0) for k in range(4)]
    episodes += [Episode("b", k, 10.0, -0.1 * k - 0.2, 0.03, 0.4, 0.0) for k in range(4)]
    lines = table_of(episodes).splitlines()
    assert lines[2] == "| a | -0.1500 | 1.00% | 50.0% | 0.000 |  |"
    assert lines[3] == "| b | -0.3500 | 3.00% | 40.0% | 0.000 | +0.2000 (+0.2000..+0.2000) |"


def test_scales_are_given_once(tmp_path: Path) -> None:
    for changes in ({"per_replica_rps": 90}, {"placement": {}}):
        with pytest.raises(ConfigError, match="give either per_replica_rps, or placement"):
            build(TrainConfig, settings(tmp_path, **changes), "test")
    with pytest.raises(ConfigError, match=r"placement\.slow\.gpu_cost"):
        build(TrainConfig, settings(tmp_path, placement={**KINDS, "slow": {"per_replica_rps": 90}}), "test")


def test_what_ships_is_a_placement() -> None:
    config = load_config(Path("testbed/configs/train-placement.yaml"), TrainConfig)
    assert environment(config).action_space.n == 9  # type: ignore[attr-defined]
