"""`kis adapt`: a drifting service in KISim, with and without adaptation; and what a fault `slow_down` does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from testbed.errors import ConfigError
from testbed.pipeline.adaptation import adapt, read_rows, summarise
from testbed.pipeline.adaptation_config import AdaptRunConfig
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import simulate_cluster
from testbed.study import Workers
from tests.oracles.cluster_worlds import six_replicas

RESULTS = Path(__file__).parents[2] / "results"


def settings(folder: Path, **changed: Any) -> dict[str, Any]:
    run = {
        "cluster": six_replicas(folder),
        "traffic": {"m": {"pattern": "constant", "parameters": {"rate": 350}}},
        "policies": {"m": {"kind": "predictive", "replica_capacity_rps": 180, "provisioning_delay_s": 3}},
        "faults": [{"at_s": 150, "slow_down": 1.4}],
        "duration_s": 500,
        "seed": 2,
    }
    return {"run": {**run, **changed}, "quiet_runs": 2, "adaptation": {"judge": {"scenarios": 5, "duration_s": 100}}}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("adapt")
    told: list[float] = []
    found = adapt(AdaptRunConfig.model_validate(settings(folder)), folder / "out", told.append)
    assert told[-1] == 1.0
    return folder / "out", found


def test_drift_is_found_measured_and_recovered_from(adapted: tuple[Path, dict[str, Any]]):
    _, found = adapted
    assert found["alarms_before_drift"] == 0
    assert 0 < found["alarm_after_s"] <= 40
    assert found["factor"]["value"] == pytest.approx(1.4, rel=0.03)
    assert found["promoted_after_s"] is not None
    over = found["slo_violation_rate"]
    assert over["not_adapted"] > 5 * over["adapted"]
    assert over["adapted"] < over["before"] + 0.01
    assert found["quiet"] == {"runs": 2, "seconds": 500.0, "without_a_step": 2, "promoted": 0}


def test_the_figures_are_in_the_logs(adapted: tuple[Path, dict[str, Any]], tmp_path: Path):
    folder, found = adapted
    for name in found["logs"]:
        shutil.copy(folder / name, tmp_path / name)
    assert summarise(tmp_path) == found
    assert len(read_rows(folder / "plain.csv")) == 100
    assert (
        folder / json.loads((folder / "adaptation.jsonl").read_text().splitlines()[1])["figures"]["profile"]
    ).exists()


FILES = ("adaptation.jsonl", "adapted.csv", "plain.csv", "quiet.jsonl", "adaptation.json")


def test_the_same_run_again_in_two_processes_gives_the_same_files(adapted: tuple[Path, dict[str, Any]], tmp_path: Path):
    folder, _ = adapted
    config = AdaptRunConfig.model_validate_json((folder / "adapt.json").read_text())
    adapt(config, tmp_path, lambda share: None, Workers(2))
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_one_that_was_interrupted_goes_on_with_what_it_has(adapted: tuple[Path, dict[str, Any]], tmp_path: Path):
    folder, _ = adapted
    config = AdaptRunConfig.model_validate_json((folder / "adapt.json").read_text())
    for name in ("adapt.json", "adaptation.jsonl", "adapted.csv", "plain.csv"):
        shutil.copy(folder / name, tmp_path / name)
    first, second = (folder / "quiet.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "quiet.jsonl").write_text(first.replace('"run": 0', '"run": 7') + second[:20])
    adapt(config, tmp_path, lambda share: None)
    kept, made = (tmp_path / "quiet.jsonl").read_text().splitlines(keepends=True)
    assert '"run": 7' in kept  # not made again
    assert made == second
    other = config.run.model_copy(update={"seed": 3})
    with pytest.raises(ConfigError, match=r"other settings \(run.seed differs\)"):
        adapt(config.model_copy(update={"run": other}), tmp_path, lambda share: None)


@pytest.mark.parametrize("name", ["golden-adaptation", "golden-adaptation-kiscaler"])
def test_the_golden_evidence_is_in_its_logs(tmp_path: Path, name: str):
    golden = RESULTS / name
    for one in ("adapt.json", "adaptation.jsonl", "adapted.csv", "plain.csv", "quiet.jsonl"):
        shutil.copy(golden / one, tmp_path / one)
    assert summarise(tmp_path) == json.loads((golden / "adaptation.json").read_text())


@pytest.mark.parametrize(
    ("faults", "told"),
    [([], "give one fault"), ([{"at_s": 1, "crash": "m"}], "give one fault")],
)
def test_what_does_not_drift_is_refused(tmp_path: Path, faults: list[dict[str, Any]], told: str):
    with pytest.raises(ValidationError, match=told):
        AdaptRunConfig.model_validate(settings(tmp_path, faults=faults))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"at_s": 1}, "a fault is one of"),
        ({"at_s": 1, "crash": "m", "slow_down": 2}, "a fault is one of"),
        ({"at_s": 1, "crash": "m", "model": "m"}, "goes with"),
        ({"at_s": 1, "slow_down": 0}, "greater than 0"),
        ({"at_s": 1, "slow_down": 2, "model": "other"}, "the cluster serves m"),
    ],
)
def test_faults_that_are_none_are_refused(tmp_path: Path, fault: dict[str, Any], told: str):
    with pytest.raises(ValidationError, match=told):
        ClusterRunConfig.model_validate(settings(tmp_path, faults=[fault])["run"])


def test_a_slow_down_is_a_fault_of_any_cluster_run(tmp_path: Path):
    runs = {}
    for name, faults in (("same", []), ("slow", [{"at_s": 0, "slow_down": 2.0}])):
        told = {
            **settings(tmp_path, faults=faults, duration_s=20)["run"],
            "policies": {"m": {"kind": "fixed", "replicas": 6}},
        }
        runs[name] = simulate_cluster(ClusterRunConfig.model_validate(told), tmp_path / name)["models"]["m"]
    assert runs["slow"]["p50_ms"] > 1.8 * runs["same"]["p50_ms"]
