"""What every learning method must do; PPO's own tests are beside this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from stable_baselines3 import PPO
from typer.testing import CliRunner, Result

from testbed.autoscaling.build import build_policy
from testbed.cli.main import application
from testbed.kiscaler.evaluation import Evaluation, read_curve
from testbed.kiscaler.learner import METHODS
from testbed.kiscaler.train import train
from testbed.kiscaler.train_config import TrainConfig
from tests.autoscaling.test_learned import Scene
from tests.kiscaler.test_train import RESULTS, settings

OTHERS = sorted(set(METHODS.known()) - {"ppo"})


def kis_train(folder: Path, *flags: str) -> Result:
    (folder / "train.yaml").write_text(yaml.safe_dump(settings(folder, total_steps=900, evaluate_every=300)))
    return CliRunner().invoke(application(["train"]), ["train", str(folder / "train.yaml"), *flags])


@pytest.mark.parametrize("method", OTHERS)
def test_a_training_by_the_flags_leaves_a_policy_and_a_page_that_name_the_method(tmp_path: Path, method: str) -> None:
    result = kis_train(tmp_path, "--method", method, "--imitated-steps", "0", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, (result.output, result.exception)
    title = METHODS.find(method).title
    assert f"{title}: 0 baselines, 900 decisions of its own" in result.output
    for page in ("report.html", "report.md"):
        assert title in (tmp_path / "out" / page).read_text()
    assert [row.steps for row in read_curve(tmp_path / "out" / "curve.csv")] == [1, 301, 601, 900]
    assert json.loads((tmp_path / "out" / "policy.json").read_text())["trained"]["method"] == method
    given = {"replica_capacity_rps": 90, "latency_target_s": 0.1, "provisioning_delay_s": 4}
    policy = build_policy({"kind": "learned", "file": str(tmp_path / "out" / "policy.onnx"), **given}, 6, None)
    memory = None
    for k in range(6):
        replicas, memory, reason = policy.decide(Scene(rate=140.0, now_s=100.0 + 5.0 * k), memory)[:3]
    assert 1 <= replicas <= 6
    assert "140/s" in reason


@pytest.mark.parametrize("method", OTHERS)
def test_each_seed_has_a_training_of_its_own(tmp_path: Path, method: str) -> None:
    result = kis_train(tmp_path, "--method", method, "--seeds", "1,2", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, (result.output, result.exception)
    assert "teacher" not in result.output  # though the file says how much to imitate
    checkpoints = [(tmp_path / "out" / f"seed-{seed}" / "checkpoint.zip").read_bytes() for seed in (1, 2)]
    assert checkpoints[0] != checkpoints[1]
    trained = json.loads((tmp_path / "out" / "policy.json").read_text())["trained"]
    assert (trained["method"], trained["best_of_seeds"]) == (method, [1, 2])


@pytest.mark.parametrize("method", OTHERS)
def test_an_interrupted_training_goes_on_and_a_finished_one_does_not_begin_again(tmp_path: Path, method: str) -> None:
    config = TrainConfig.model_validate(settings(tmp_path, method=method, total_steps=900, evaluate_every=300))

    def interrupt(evaluation: Evaluation) -> None:
        if evaluation.steps > 300:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(config, tmp_path / "out", interrupt, lambda share: None)
    found: list[Evaluation] = []
    train(config, tmp_path / "out", found.append, lambda share: None)
    assert [evaluation.steps for evaluation in found] == [601, 900]
    assert [row.steps for row in read_curve(tmp_path / "out" / "curve.csv")] == [1, 301, 601, 900]
    shares: list[float] = []
    train(config, tmp_path / "out", found.append, shares.append)
    assert not shares
    assert len(found) == 2


def test_only_what_imitates_is_shown_anything(tmp_path: Path) -> None:
    shown = {name: TrainConfig.model_validate(settings(tmp_path, method=name)).shown_steps for name in METHODS.known()}
    assert shown == {"ppo": 600, "dqn": 0, "cem": 0}
    assert TrainConfig.model_validate(settings(tmp_path, base="rule")).shown_steps == 600  # what to add to it


def test_an_unknown_method_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="unknown learning method 'dqm': did you mean 'dqn'"):
        TrainConfig.model_validate(settings(tmp_path, method="dqm"))


def test_a_checkpoint_of_before_there_were_methods_is_read() -> None:
    model = PPO.load(RESULTS / "golden-kiscaler" / "training" / "seed-1" / "checkpoint.zip", device="cpu")
    assert model.lr_schedule(1.0) == pytest.approx(3e-4)


def test_a_configuration_is_read_without_the_libraries_of_its_method() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'stable_baselines3', 'gymnasium')));"
        "from testbed.kiscaler.train_config import METHODS; print(*METHODS.known())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["cem", "dqn", "ppo"]
