"""Metrics that no policy is told for a while: what an HPA does then, and KEDA's fallback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.pipeline.cluster_config import ClusterRunConfig
from testbed.pipeline.cluster_run import simulate_cluster
from tests.pipeline.test_cluster_run import settings

OUTAGE = {"at_s": 100, "lose_metrics_s": 100}


def changes(folder: Path, name: str, faults: list[dict[str, Any]], **policy: Any) -> list[tuple[float, int]]:
    """(second, replicas) of each change of a run with little traffic, in which 1 pod is enough of 3."""
    keda = {"kind": "keda", "metric": "in_flight_requests", "threshold": 20, "min_replicas": 1, **policy}
    given = settings(folder, policies={"m": keda}, duration_s=300, faults=faults)
    given["traffic"] = {"m": {"pattern": "constant", "parameters": {"rate": 100}}}
    given["cluster"]["models"][0]["replicas"] = 3
    given["policies"]["m"]["flags"] = {"downscale_stabilization_s": 150}
    simulate_cluster(ClusterRunConfig.model_validate(given), folder / name)
    steps = yaml.safe_load((folder / name / "decisions.json").read_text())
    return [(step["time_s"], step["wanted"]) for step in steps]


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.pipeline.cluster_run.write_report", lambda folder: None)


def test_a_policy_keeps_its_size_while_it_is_told_nothing(tmp_path: Path) -> None:
    """Until 165 s the size of the first sync, at 15 s, is within the window of 150 s. The sync of 180 s scales down, or
    that of 210 s, the first after the outage."""
    assert changes(tmp_path, "told", []) == [(180.0, 1)]
    assert changes(tmp_path, "lost", [OUTAGE]) == [(210.0, 1)]


def test_keda_falls_back_in_a_run(tmp_path: Path) -> None:
    """A poll and a sync at 105 s fail; the sync of 120 s is the third failure, and falls back to 5."""
    fallback = {"failure_threshold": 2, "replicas": 5}
    assert changes(tmp_path, "run", [OUTAGE], fallback=fallback)[0] == (120.0, 5)


def test_a_fault_is_one_thing(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tmp_path, faults=[{**OUTAGE, "lose_node": "node-0"}])))
    with pytest.raises(ConfigError, match=r"a fault is one of .* `lose_metrics_s: <seconds>`"):
        load_config(tmp_path / "c.yaml", ClusterRunConfig)
