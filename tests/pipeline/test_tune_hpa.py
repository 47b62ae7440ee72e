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
from testbed.pipeline.tune_hpa import Outcome, TuneConfig, play, tune_families, tune_hpa
from testbed.simulation.cluster.services import read_services
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


def families(folder: Path) -> dict[str, Any]:
    """A gentle one, and one of two kinds of traffic."""
    wave = {"pattern": "periodic", "parameters": {"mean": 200, "amplitude": 50, "period_s": 60}}
    steps = {"pattern": "fluctuating", "parameters": {"low": 100, "high": 500, "interval_s": 30}}
    told = settings(folder, trials=3, duration_s=60, policies={}, families={"wave": [wave], "steps": [steps, wave]})
    return {key: value for key, value in told.items() if key != "traffic"}


def test_each_family_gets_an_hpa_of_its_own_and_one_that_is_there_is_kept(tmp_path: Path) -> None:
    config = TuneConfig.model_validate(families(tmp_path))
    shares: list[float] = []
    found = tune_families(config, tmp_path / "out", shares.append)
    assert list(found) == ["wave", "steps"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    alone = tune_hpa(config.of_family("steps"), tmp_path / "alone", lambda share: None)
    assert found["steps"] == alone
    both = [found[name]["outcomes"]["tuned"]["gpu_seconds"] for name in found]
    assert both[0] != both[1]
    (tmp_path / "out" / "wave" / "tuned.json").write_text("{}")
    assert tune_families(config, tmp_path / "out", shares.append)["wave"] == {}
    changed = config.model_copy(update={"seed": 2})
    assert tune_families(changed, tmp_path / "out", shares.append)["wave"] != {}


def test_a_trial_plays_every_variant(tmp_path: Path) -> None:
    config = TuneConfig.model_validate(families(tmp_path))
    first, second = config.of_family("steps"), config.of_family("wave")
    services = read_services(config.cluster)
    given = {"kind": "fixed", "replicas": 3}
    both = play(first, services, given, [1])
    steps = play(first.model_copy(update={"variants": ()}), services, given, [1])
    wave = play(second, services, given, [1])
    assert both.gpu_seconds == pytest.approx((steps.gpu_seconds + wave.gpu_seconds) / 2)
    assert both.missed_share == pytest.approx((steps.missed_share + wave.missed_share) / 2)


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
