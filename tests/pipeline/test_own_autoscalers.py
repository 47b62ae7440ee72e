"""A file with an autoscaler of Kubernetes, wherever a policy is configured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.evaluate_config import EvaluateConfig
from tests.oracles.cluster_worlds import six_replicas

THEIRS = "gpu_util"
HPA = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "triton"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "triton"},
        "maxReplicas": 5,
        "metrics": [
            {
                "type": "Pods",
                "pods": {"metric": {"name": THEIRS}, "target": {"type": "AverageValue", "averageValue": "60"}},
            }
        ],
    },
}
NAMED = {"manifest": "mine.yaml", "metrics": {THEIRS: "gpu_utilisation_pct"}}


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """In a folder with the manifest, which the configuration names as seen from there."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(HPA))
    traffic = {"m": {"pattern": "constant", "parameters": {"rate": 100}}}
    return {"cluster": six_replicas(folder), "traffic": traffic, "duration_s": 30, **changes}


def written(folder: Path, told: dict[str, Any]) -> Path:
    (folder / "c.yaml").write_text(yaml.safe_dump(told))
    return folder / "c.yaml"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(application(), list(arguments))
    assert result.exit_code in (0, 1), result.output
    return result.output + str(result.exception or "")


def is_theirs(policy: dict[str, Any]) -> bool:
    metric = policy["spec"]["metrics"][0]
    return (policy["kind"], policy["name"], metric["name"]) == ("hpa", "mine", "gpu_utilisation_pct")


def test_a_configuration_names_the_file_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, settings(tmp_path, policies={"m": NAMED})), ClusterRunConfig)
    (tmp_path / "mine.yaml").unlink()
    assert is_theirs(config.policies["m"])
    assert ClusterRunConfig.model_validate(config.model_dump(mode="json")) == config


def test_an_evaluation_takes_one_for_each_traffic(tmp_path: Path) -> None:
    fixed = {"kind": "fixed", "replicas": 2}
    policies = {"fixed": fixed, "own": NAMED, "both": {"per_traffic": {"m": NAMED}}}
    told = settings(tmp_path, policies=policies, baseline="fixed", seeds=2)
    config = load_config(written(tmp_path, told), EvaluateConfig)
    assert is_theirs(config.settings_of("own", "m"))
    assert is_theirs(config.settings_of("both", "m"))


def test_the_command_line_takes_the_file_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.pipeline.cluster_run.write_report", lambda folder: None)
    file = str(written(tmp_path, settings(tmp_path)))
    monkeypatch.chdir(tmp_path)
    typed = ["simulate", "--cluster", file, "--out", "run", "--policy", "mine.yaml"]
    assert "--metric 'gpu_util=gpu_utilisation_pct'" in run(*typed)
    assert not (tmp_path / "run").exists()
    run(*typed, "--metric", "gpu_util=gpu_utilisation_pct")
    kept = json.loads((tmp_path / "run" / "cluster.json").read_text())
    assert is_theirs(kept["policies"]["m"])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["models"]["m"]["policy"] == "mine"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--metric", "a=queue_time_ms"], "--metric goes with a file as --policy"),
        (["--metric", "a=queue_time_ms", "--policy", "fixed:replicas=2"], "--metric goes with a file as --policy"),
        (["--metric", "a", "--policy", "mine.yaml"], "--metric a: give THEIRS=OURS"),
        (["--policy", "none.yaml"], "none.yaml: No such file"),
    ],
)
def test_flags_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], said: str) -> None:
    file = str(written(tmp_path, settings(tmp_path)))
    monkeypatch.chdir(tmp_path)
    assert said in run("simulate", "--cluster", file, "--out", "run", *flags)


def test_a_search_competes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.reporting.reports.write_report", lambda folder: folder / "report.html")
    told = settings(tmp_path, candidates={"hpa": {"kind": "hpa"}}, trials=1, seeds=1, check_seeds=3)
    file = str(written(tmp_path, told))
    monkeypatch.chdir(tmp_path)
    said = ["--policy", "mine.yaml", "--metric", "gpu_util=gpu_utilisation_pct"]
    assert "given" in run("tune", file, "--out", "out", *said)
    assert is_theirs(json.loads((tmp_path / "out" / "tuned.json").read_text())["policies"]["given"])


def test_what_is_wrong_in_it_names_the_file(tmp_path: Path) -> None:
    told = settings(tmp_path, policies={"m": {"manifest": "mine.yaml"}})
    with pytest.raises(ConfigError, match=r"mine\.yaml: spec\.metrics\.0: 'gpu_util' is none of the testbed's metrics"):
        load_config(written(tmp_path, told), ClusterRunConfig)


def test_the_page_says_where_it_missed_and_why(tmp_path: Path) -> None:
    """A burst begins 20 s before the end: until then its metric shows nothing of it."""
    spec = {**HPA["spec"], "maxReplicas": 1}  # type: ignore[dict-item]
    bursts = {"pattern": "bursty", "parameters": {"base": 20, "spike": 2000, "spike_s": 20, "every_s": 60}}
    told = settings(tmp_path, traffic={"m": bursts}, policies={"m": NAMED}, duration_s=60)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**HPA, "spec": spec}))
    run("simulate", "--cluster", str(written(tmp_path, told)), "--out", str(tmp_path / "run"))
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["models"]["m"]["post_mortem"]
    worst = found["episodes"][0]
    assert (worst["start_s"], worst["end_s"], worst["cause"]) == (40, 60, "below")
    for page in ("report.html", "report.md"):
        text = (tmp_path / "run" / page).read_text()
        assert worst["why"].split(":")[0] in text
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Where it missed, and why" in page
    assert "shaded and numbered" in page
