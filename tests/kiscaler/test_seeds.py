"""One training for each seed: a folder each, and the best of them beside the baselines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from testbed.autoscaling.policies.learned import read_policy
from testbed.cli.main import application
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.kiscaler.evaluation import read_curve
from testbed.kiscaler.on_ray import on_ray, pack, unpack
from testbed.kiscaler.seeds import Training, _summarise, folders_in, train_seeds
from testbed.kiscaler.train_config import TrainConfig
from tests.oracles.cluster_worlds import six_replicas
from tests.pages import figures_of, texts_of


def write_settings(folder: Path, **changes: Any) -> Path:
    """A training that imitates for a moment, is judged, and is over."""
    settings = {
        "cluster": six_replicas(folder),
        "replica_capacity_rps": 200,
        "episode_steps": 10,
        "environments": 1,
        "total_steps": 1,
        "imitated_steps": 600,
        "evaluation_scenarios": 2,
        "baselines": {"all": {"kind": "fixed", "replicas": 6}, "one": {"kind": "fixed", "replicas": 1}},
        **changes,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(settings))
    return folder / "train.yaml"


def kis_train(*arguments: str) -> Result:
    return CliRunner().invoke(application(["train"]), ["train", *arguments])


def nothing(*told: object) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    result = kis_train(str(write_settings(folder)), "--seeds", "1,2", "--out", str(folder / "out"))
    assert result.exit_code == 0, (result.output, result.exception)
    assert "seed 2, 1: reward" in result.output
    assert "median of the seeds: " in result.output
    return folder


def test_each_seed_has_a_training_of_its_own(trained: Path) -> None:
    out = trained / "out"
    assert folders_in(out) == [out / "seed-1", out / "seed-2"]
    curves = [read_curve(folder / "curve.csv") for folder in folders_in(out)]
    assert [len(curve) for curve in curves] == [1, 1]
    networks = [(folder / "policy.onnx").read_bytes() for folder in folders_in(out)]
    assert networks[0] != networks[1]
    assert all(curve[0].seconds > 0 for curve in curves)
    files = {"train.json", "checkpoint.zip", "curve.csv", "curves.png", "baselines.json", "policy.onnx", "policy.json"}
    assert all(files <= {file.name for file in folder.iterdir()} for folder in folders_in(out))
    baselines = json.loads((out / "baselines.json").read_text())
    assert list(baselines) == ["all", "one"]
    assert set(baselines["all"]) == set(curves[0][0]._fields)
    assert baselines["one"]["gpu"] < baselines["all"]["gpu"]


def test_the_best_seeds_policy_is_kept_and_says_so(trained: Path) -> None:
    out = trained / "out"
    rewards = {seed: read_curve(out / f"seed-{seed}" / "curve.csv")[0].reward for seed in (1, 2)}
    best = max(rewards, key=lambda seed: rewards[seed])
    told = read_policy(out / "policy.onnx")  # also: the two files belong together
    assert told.trained["seed"] == told.trained["configuration"]["seed"] == best
    assert told.trained["best_of_seeds"] == [1, 2]
    assert (out / "policy.onnx").read_bytes() == (out / f"seed-{best}" / "policy.onnx").read_bytes()
    summary = json.loads((out / "seeds.json").read_text())
    assert summary["best"] == best
    assert {seed: one["reward"] for seed, one in summary["seeds"].items()} == {str(k): v for k, v in rewards.items()}
    assert [one["baseline"] for one in summary["baselines_passed"]] == ["all", "one"]
    assert (out / "curves.png").exists()


def test_the_page_says_whether_the_best_seed_beats_the_baselines(trained: Path) -> None:
    out = trained / "out"
    rewards = {name: row["reward"] for name, row in json.loads((out / "baselines.json").read_text()).items()}
    own = read_policy(out / "policy.onnx").trained["evaluation"]["reward"]
    page = (out / "report.html").read_text()
    above = [name for name, reward in rewards.items() if own > reward]
    told = {0: "is worse than every baseline", 1: "does not beat the best baseline", 2: "beats every baseline"}
    assert f"The trained policy {told[len(above)]}" in page
    curves, episodes = (set(texts_of(svg)) for svg in figures_of(page))
    assert {"each of 2 seeds", "median", "all", "one"} <= curves
    best = max(rewards, key=lambda name: rewards[name])
    assert {"scenario 1", "scenario 2", "trained", best} <= episodes


def test_every_policy_is_played_in_the_scenarios_that_are_shown(trained: Path) -> None:
    steps = pd.read_csv(trained / "out" / "episodes.csv")
    assert set(steps["policy"]) == {"trained", "all", "one"}
    assert steps.groupby(["scenario", "policy"]).size().tolist() == [10] * 6
    fixed = steps[steps["policy"] == "one"]
    assert set(fixed["asked"]) == {1}
    assert (fixed["missed"] <= fixed["arrived"].groupby(fixed["scenario"]).transform("sum")).all()
    same = steps.pivot_table(index=["scenario", "time_s"], columns="policy", values="arrived")
    assert (same["all"] == same["trained"]).all()  # the same arrivals for every policy


def test_finished_seeds_are_not_trained_again_and_another_configuration_is_refused(trained: Path) -> None:
    config = load_config(trained / "train.yaml", TrainConfig)
    before = {file: file.read_bytes() for file in (trained / "out").glob("seed-*/c*")}
    train_seeds(config, [2], trained / "out", nothing, nothing)
    assert {file: file.read_bytes() for file in before} == before
    assert len(folders_in(trained / "out")) == 2
    with pytest.raises(ConfigError, match="was made with other settings"):
        train_seeds(config.model_copy(update={"max_step": 1}), [1], trained / "out", nothing, nothing)
    with pytest.raises(ConfigError, match="is of one training"):
        train_seeds(config, [1], trained / "out" / "seed-1", nothing, nothing)


def test_seeds_that_have_left_nothing_yet_are_no_seeds_to_choose_from(tmp_path: Path) -> None:
    config = load_config(write_settings(tmp_path), TrainConfig)
    _summarise([Training(config, tmp_path / "seed-0")], {}, tmp_path)
    summary = json.loads((tmp_path / "seeds.json").read_text())
    assert summary["best"] is None
    assert summary["seeds"] == {"0": None}
    assert not (tmp_path / "policy.onnx").exists()


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "from" / "tensorboard").mkdir(parents=True)
    (tmp_path / "from" / "curve.csv").write_text("steps\n1\n")
    (tmp_path / "from" / "tensorboard" / "events").write_bytes(bytes(range(256)))
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "curve.csv").write_text("steps\n")
    unpack(pack(tmp_path / "from"), tmp_path / "to")
    assert (tmp_path / "to" / "curve.csv").read_text() == "steps\n1\n"
    assert (tmp_path / "to" / "tensorboard" / "events").read_bytes() == bytes(range(256))


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--ray needs Ray, .* pip install '\.\[ray\]', or leave --ray out"):
        on_ray("local")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "1,1"], "--seeds 1,1: give whole numbers"),
        (["--seeds", "1;2"], "--seeds 1;2: give whole numbers"),
        (["--seeds", "1,2", "--seed", "3"], "--seed is of one training"),
        (["--ray", "local"], "give --seeds too"),
    ],
)
def test_flags_that_do_not_go_together_are_named(tmp_path: Path, flags: list[str], message: str) -> None:
    result = kis_train(str(write_settings(tmp_path)), "--out", str(tmp_path / "out"), *flags)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_on_ray_the_same_files_come_back(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    result = kis_train(
        str(write_settings(tmp_path)), "--seeds", "1,2", "--ray", "local", "--out", str(tmp_path / "out")
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert [len(read_curve(folder / "curve.csv")) for folder in folders_in(tmp_path / "out")] == [1, 1]
    assert read_policy(tmp_path / "out" / "policy.onnx").trained["best_of_seeds"] == [1, 2]
