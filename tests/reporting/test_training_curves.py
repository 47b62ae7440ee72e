"""Learning curves: the median where all seeds have been judged, and from where on it is better than a baseline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from testbed.reporting.training import (
    Passed,
    baselines_passed,
    median_of,
    passed,
    read_curves,
    save_curves,
    sentence,
)

BASELINES = {
    "hpa": {"steps": 0, "reward": -0.5, "slo_violation_rate": 0.02, "gpu": 0.6, "churn": 0.1, "seconds": 0},
    "oracle": {"steps": 0, "reward": -0.1, "slo_violation_rate": 0.0, "gpu": 0.5, "churn": 0.1, "seconds": 0},
}


def write(folder: Path, rewards: list[float], baselines: bool = True, pace_s: float = 60.0) -> Path:
    folder.mkdir()
    rows = [f"{1000 * k},{reward},0.01,0.5,0.1,{pace_s * k}" for k, reward in enumerate(rewards)]
    (folder / "curve.csv").write_text("\n".join(["steps,reward,slo_violation_rate,gpu,churn,seconds", *rows]) + "\n")
    if baselines:
        (folder / "baselines.json").write_text(json.dumps(BASELINES))
    return folder


def test_the_median_is_of_the_evaluations_that_all_seeds_have(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / "a", [-1.0, -0.9, -0.3, -0.2]),
        write(tmp_path / "b", [-2.0, -0.4, -0.3], pace_s=90.0),
        write(tmp_path / "c", [-3.0, -0.6, -0.7, -0.1]),
    ]
    median = median_of(read_curves(folders))
    np.testing.assert_allclose(median["reward"], [-2.0, -0.6, -0.3])
    np.testing.assert_allclose(median["steps"], [0, 1000, 2000])
    np.testing.assert_allclose(median["seconds"], [0, 60, 120])


def test_a_baseline_is_passed_where_the_curve_stays_above_it(tmp_path: Path) -> None:
    curve = read_curves([write(tmp_path / "a", [-0.9, -0.4, -0.6, -0.3, -0.2])])[0]
    hpa, oracle = passed(curve, BASELINES)
    assert hpa == Passed("hpa", -0.5, 3000, 3.0, -0.2)
    assert str(hpa) == "above hpa (reward -0.500) from 3000 decisions (3.0 min) on"
    assert oracle.steps is None
    assert str(oracle) == "no better than oracle at every evaluation: best reward -0.200, oracle -0.100"
    assert passed(curve, {"poor": {"reward": -2.0}})[0].steps == 0


def test_curves_are_drawn_as_far_as_they_are(tmp_path: Path) -> None:
    folders = [write(tmp_path / "a", [-0.9, -0.4]), write(tmp_path / "b", [-0.8], baselines=False), tmp_path / "none"]
    save_curves(folders, tmp_path / "curves.png")
    assert [one.steps for one in baselines_passed(folders)] == [
        None,
        None,
    ]  # the second seed's second evaluation is to come
    assert imread(tmp_path / "curves.png").shape[:2] == (660, 1200)
    save_curves([tmp_path / "none"], tmp_path / "nothing.png")
    assert baselines_passed([tmp_path / "none"]) == []
    assert not (tmp_path / "nothing.png").exists()


def test_in_how_many_decisions_a_policy_acts_is_told_where_it_was_counted(tmp_path: Path) -> None:
    old = write(tmp_path / "old", [-0.9, -0.4])
    assert np.isnan(read_curves([old])[0]["acting"]).all()
    lines = (old / "curve.csv").read_text().splitlines()
    new = ["steps,reward,slo_violation_rate,gpu,churn,seconds,acting", *(f"{line},0.125" for line in lines[1:])]
    (old / "curve.csv").write_text("\n".join(new) + "\n")
    assert read_curves([old])[0]["acting"].tolist() == [0.125, 0.125]
    (old / "curve.csv").write_text("\n".join(line.rsplit(",", 5)[0] for line in lines))
    with pytest.raises(KeyError):  # of the others none may be missing
        read_curves([old])


def judged(reward: float, **changes: float) -> dict[str, float]:
    return {**BASELINES["hpa"], "reward": reward, **changes}


def test_one_that_beats_the_baselines_is_told_with_what_it_saves() -> None:
    rivals = {"hpa": judged(-0.5), "fixed": judged(-0.9), "oracle": judged(-0.1)}
    text = sentence(judged(-0.4, gpu=0.54, slo_violation_rate=0.03), rivals, ["oracle"])
    assert text == (
        "The trained policy beats every baseline that does not know the arrivals: reward \u22120.400 against "
        '\u22120.500 of "hpa"; it holds 10.0 % fewer devices and misses 1.00 points more.'
    )


def test_one_that_is_worse_than_all_is_not_to_be_used() -> None:
    """Such a policy was written with its path as the last word."""
    rivals = {"hpa": judged(-0.5), "all": judged(-0.37), "oracle": judged(-0.1)}
    text = sentence(judged(-0.616), rivals, ["oracle"])
    assert 'is worse than every baseline, even than the worst of them, "hpa": reward \u22120.616 against' in text
    assert text.endswith('Do not use it: train longer, or use "all".')
    between = sentence(judged(-0.4), rivals, ["oracle"])
    assert between.startswith("The trained policy does not beat the best baseline: reward \u22120.400 against")
    assert sentence(judged(-0.4), {}, []).endswith("there is no baseline to compare it with.")
