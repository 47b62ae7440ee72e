"""`kis evaluate`: a configuration in, a row a run and the report out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.pipeline.evaluate import EvaluateConfig
from tests.oracles.cluster_worlds import six_replicas


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "cluster": six_replicas(folder),
        "traffic": {
            "wave": {"pattern": "periodic", "parameters": {"mean": 400, "amplitude": 300, "period_s": 120}},
            "ramp": {"pattern": "ramp", "parameters": {"low": 50, "peak": 600, "rise_s": 60}, "duration_s": 90},
        },
        "policies": {
            "all": {"kind": "fixed", "replicas": 6},
            "one": {"kind": "fixed", "replicas": 1},
            "oracle": {"kind": "oracle", "per_replica_rps": 180, "ahead_s": 4},
        },
        "baseline": "all",
        "seeds": 3,
        "duration_s": 120,
        **changes,
    }


def test_every_policy_has_the_same_arrivals_and_the_oracle_is_on_the_front(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings(tmp_path)))
    result = CliRunner().invoke(application(), ["evaluate", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "oracle" in result.output
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert len(found["rows"]) == 2 * 3 * 3
    by_pair: dict[tuple[str, int], set[int]] = {}
    for row in found["rows"]:
        by_pair.setdefault((row["traffic"], row["seed"]), set()).add(row["requests"])
    assert all(len(requests) == 1 for requests in by_pair.values())
    assert len({requests.pop() for requests in by_pair.values()}) == 6  # and each seed its own
    told = found["policies"]
    assert told["one"]["slo_miss"] > 0.3 > told["oracle"]["slo_miss"]
    assert told["oracle"]["saving_low_pct"] > 20
    assert set(found["pareto_front"]) >= {"oracle", "all"}
    assert (tmp_path / "out" / "pareto.png").stat().st_size > 10_000
    assert "| oracle |" in (tmp_path / "out" / "report.md").read_text()


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="baseline 'hpa' is none of the policies all, one, oracle"):
        EvaluateConfig.model_validate(settings(tmp_path, baseline="hpa"))
