"""An HPA is found in the simulator, and told as what a cluster takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.errors import ConfigError
from testbed.pipeline.tune_hpa import Outcome, TuneConfig, tune_hpa
from tests.oracles.cluster_worlds import six_replicas


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": six_replicas(folder),
        "traffic": {"m": {"pattern": "periodic", "parameters": {"mean": 400, "amplitude": 300, "period_s": 120}}},
        "policies": {"m": {"kind": "hpa", "metric": "in_flight_requests", "target": 0.1, "max_replicas": 6}},
        "flags": {"sync_period_s": 5, "downscale_stabilization_s": 10},
        "window_s": 5,
        "duration_s": 240,
        "allowed_missed": 0.05,
        "trials": 25,
        "seeds": 1,
        "check_seeds": 2,
        **changes,
    }


def test_one_that_keeps_everything_running_is_improved_on(tmp_path: Path) -> None:
    shares: list[float] = []
    found = tune_hpa(TuneConfig.model_validate(settings(tmp_path)), tmp_path / "out", shares.append)
    untuned, tuned = (Outcome(**found["outcomes"][name]) for name in ("untuned", "tuned"))
    assert tuned.gpu_seconds < 0.9 * untuned.gpu_seconds  # that one has all six replicas all the time
    assert tuned.missed_share < 0.10
    assert shares[-1] == 1.0
    text = (tmp_path / "out" / "hpa.yaml").read_text()
    assert f"untuned: P95 {untuned.p95_ms:.1f} ms" in text
    body = yaml.safe_load(text)
    assert body["kind"] == "HorizontalPodAutoscaler"
    assert body["spec"]["maxReplicas"] == 6
    assert body["spec"]["metrics"][0]["pods"]["metric"]["name"] == found["policies"]["tuned"]["metric"]
    assert len((tmp_path / "out" / "trials.csv").read_text().splitlines()) == 26
    assert json.loads((tmp_path / "out" / "tuned.json").read_text()) == found


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    config = TuneConfig.model_validate(settings(tmp_path, trials=3))
    results = [tune_hpa(config, tmp_path / name, lambda share: None) for name in ("one", "other")]
    assert results[0] == results[1]


def test_what_is_missed_costs_more_than_a_replica() -> None:
    good, bad = Outcome(0.009, 1000.0, 20.0, 3), Outcome(0.03, 800.0, 40.0, 3)
    assert good.cost(0.01) == 1000.0
    assert bad.cost(0.01) > 1000.0


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    wrong = TuneConfig.model_validate(settings(tmp_path, policies={"m": {"kind": "fixed", "replicas": 3}}))
    with pytest.raises(ConfigError, match="kind 'fixed'; give the HPA to improve on, or none"):
        tune_hpa(wrong, tmp_path / "out", lambda share: None)
    with pytest.raises(ValidationError, match="metrics: qps is none of"):
        TuneConfig.model_validate(settings(tmp_path, metrics=["qps"]))


def test_the_command_shows_both_and_where_the_yaml_is(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tmp_path, trials=2, policies={})))
    arguments = ["tune-hpa", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out"), "--target-ms", "60"]
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    assert "untuned" in result.output
    assert "hpa.yaml" in result.output.replace("\n", "")
    assert "target of 60 ms" in (tmp_path / "out" / "hpa.yaml").read_text()
