"""The cross-entropy method: its update, the linear policy, and generations that are compared in the same scenarios."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from testbed.kiscaler import env as env_module
from testbed.kiscaler import train as train_module
from testbed.kiscaler.build import make_env, scenarios_of
from testbed.kiscaler.evaluation import EVALUATION_SEED, Evaluation, read_curve
from testbed.kiscaler.export import export
from testbed.kiscaler.methods.cem import (
    CANDIDATES,
    SCENARIOS,
    CrossEntropyMethod,
    Distribution,
    first_distribution,
    logits_of,
    updated,
)
from testbed.kiscaler.train import train
from testbed.kiscaler.train_config import TrainConfig
from tests.kiscaler.test_train import settings

OPTIMUM = np.array([3.0, -2.0, 0.5, 1.0])
GENERATION = CANDIDATES * SCENARIOS  # episodes, in one environment


def test_the_elite_is_the_best_quarter_and_noise_is_added_to_its_variance() -> None:
    candidates = np.array([[0, 9], [1, 9], [2, 9], [5, 4], [3, 9], [7, 4], [6, 9], [8, 9]], dtype=float)
    returns = np.array([-5.0, -4.0, -3.0, -0.1, -6.0, -0.2, -7.0, -8.0])
    mean, deviation = updated(candidates, returns, noise=3.0)
    assert mean.tolist() == [6.0, 4.0]
    assert deviation.tolist() == [2.0, np.sqrt(3.0)]


def found(noise: float, deviation: float = 1.0) -> np.ndarray:
    """The mean after 40 generations, for the reward -|parameters - OPTIMUM|^2."""
    rng, distribution = np.random.default_rng(1), Distribution(np.zeros(4), np.full(4, deviation))
    for generation in range(40):
        candidates = distribution.mean + distribution.deviation * rng.standard_normal((48, 4))
        returns = -((candidates - OPTIMUM) ** 2).sum(axis=1)
        distribution = updated(candidates, returns, noise * (1 - generation / 40))
    return distribution.mean


def test_it_finds_the_optimum_of_a_quadratic() -> None:
    np.testing.assert_allclose(found(noise=0.1), OPTIMUM, atol=0.1)


def test_without_noise_it_would_be_narrow_before_it_is_there() -> None:
    assert np.abs(found(noise=0.0, deviation=0.05) - OPTIMUM).max() > 1.0
    np.testing.assert_allclose(found(noise=0.1, deviation=0.05), OPTIMUM, atol=0.1)


def test_logits_are_those_of_each_candidate_at_what_it_sees() -> None:
    parameters = np.arange(12.0).reshape(2, 6)  # two candidates, two features, two actions
    seen = np.array([[1.0, 10.0], [2.0, 0.0]], dtype=np.float32)
    assert logits_of(parameters, seen).tolist() == [[0 + 10 + 2, 3 + 40 + 5], [12 + 0 + 8, 18 + 0 + 11]]


def test_it_begins_with_no_change_whatever_it_sees() -> None:
    seen = np.random.default_rng(1).random((50, 19), dtype=np.float32)
    means = np.tile(first_distribution(19, max_step=2).mean, (50, 1))
    assert set(logits_of(means, seen).argmax(axis=1)) == {2}


def config_of(folder: Path, **changes: Any) -> TrainConfig:
    every = 6 * GENERATION + 3  # of 10 decisions an episode: within the first generation, and within the second
    told = {"method": "cem", "evaluate_every": every, "total_steps": 16 * GENERATION, "step_s": 2, **changes}
    return TrainConfig.model_validate(settings(folder, **told))


def test_what_is_exported_is_the_linear_policy(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    learner = CrossEntropyMethod(config, DummyVecEnv([lambda: make_env(config, scenarios_of(config))]), tmp_path)
    learner.begin(lambda share: None)
    rng = np.random.default_rng(1)
    learner._distribution = Distribution(rng.standard_normal(5 * 20), np.ones(5 * 20))
    export(learner.network(), config, Evaluation(0, 0, 0, 0, 0), tmp_path)
    seen = rng.random((64, 19), dtype=np.float32)
    (logits,) = onnxruntime.InferenceSession(tmp_path / "policy.onnx").run(None, {"features": seen})
    rows = learner._distribution.mean.reshape(5, 20)
    np.testing.assert_allclose(logits, seen @ rows[:, :19].T + rows[:, 19], atol=1e-5)
    assert logits.argmax(axis=1).tolist() == [learner.choose(one) for one in seen]


def test_the_candidates_of_a_generation_are_played_in_the_same_scenarios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, really = Counter[int](), env_module.begin

    def begin(scenarios: Any, seed: int) -> Any:
        drawn[seed] += 1
        return really(scenarios, seed)

    monkeypatch.setattr(env_module, "begin", begin)
    monkeypatch.setattr(train_module, "SubprocVecEnv", DummyVecEnv)
    config = config_of(tmp_path, environments=2, total_steps=2 * 10 * GENERATION, evaluate_every=100_000)
    train(config, tmp_path / "out", lambda evaluation: None, lambda share: None)
    learned_in = {seed: times for seed, times in drawn.items() if not 0 <= seed - EVALUATION_SEED < 2}
    often = [times for times in learned_in.values() if times > 1]
    assert often == [CANDIDATES] * 2 * SCENARIOS  # the others are an environment's own, at the end of an episode


def test_an_interrupt_changes_nothing_of_the_result(tmp_path: Path) -> None:
    config = config_of(tmp_path)

    def interrupt(evaluation: Evaluation) -> None:
        if 1 < evaluation.steps < config.total_steps:
            raise InterruptedError

    train(config, tmp_path / "whole", lambda evaluation: None, lambda share: None)
    for _ in range(2):
        with pytest.raises(InterruptedError):
            train(config, tmp_path / "parts", interrupt, lambda share: None)
    train(config, tmp_path / "parts", interrupt, lambda share: None)
    whole, parts = (
        [row._replace(seconds=0.0) for row in read_curve(tmp_path / name / "curve.csv")] for name in ("whole", "parts")
    )
    assert whole == parts
    states = [np.load(tmp_path / name / "checkpoint.zip") for name in ("whole", "parts")]
    assert int(states[0]["generation"]) == 1  # and the end was within the second
    assert np.abs(states[0]["mean"] - first_distribution(19, config.max_step).mean).min() > 0
    for name in states[0].files:
        np.testing.assert_array_equal(states[0][name], states[1][name])
    trained = json.loads((tmp_path / "parts" / "policy.json").read_text())["trained"]
    assert trained["method"] == "cem"
