"""A training that goes on does not begin its scenarios again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from testbed.kiscaler import env as env_module
from testbed.kiscaler import train as train_module
from testbed.kiscaler.evaluation import EVALUATION_SEED
from testbed.kiscaler.learner import resume_seed
from testbed.kiscaler.train import train
from testbed.kiscaler.train_config import TrainConfig
from tests.kiscaler.test_train import settings


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the scenarios that were drawn to learn from, one after the other, all in this process."""
    seeds, really = list[int](), env_module.begin

    def begin(scenarios: Any, seed: int) -> Any:
        if not EVALUATION_SEED <= seed < EVALUATION_SEED + 2:
            seeds.append(seed)
        return really(scenarios, seed)

    monkeypatch.setattr(env_module, "begin", begin)
    monkeypatch.setattr(train_module, "SubprocVecEnv", DummyVecEnv)
    return seeds


def go_on(folder: Path, out: Path, drawn: list[int], steps: int) -> list[int]:
    """Train up to so many steps; the scenarios that it drew for that."""
    drawn.clear()
    told = settings(folder, imitated_steps=0, environments=2, evaluate_every=600, total_steps=steps)
    (out / "train.json").unlink(missing_ok=True)  # only total_steps is another
    train(TrainConfig.model_validate(told), out, lambda found: None, lambda share: None)
    return list(drawn)


def test_the_scenarios_after_a_resume_are_others_and_the_same_after_each_resume_from_there(
    tmp_path: Path, drawn: list[int]
) -> None:
    first, again = tmp_path / "out", tmp_path / "again"
    begun = go_on(tmp_path, first, drawn, 600)
    shutil.copytree(first, again)
    resumed = go_on(tmp_path, first, drawn, 1200)
    assert len(begun) > 40
    assert len(resumed) > 40
    assert not set(begun) & set(resumed)
    assert go_on(tmp_path, again, drawn, 1200) == resumed


def test_the_seed_after_a_resume_is_of_the_training_and_of_how_far_it_was() -> None:
    seeds = {resume_seed(seed, steps) for seed in range(10) for steps in range(0, 100_000, 1_000)}
    assert len(seeds) == 1000
    assert max(seeds) < 2**31
    assert resume_seed(3, 5_000) == resume_seed(3, 5_000)
