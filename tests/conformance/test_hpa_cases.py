"""The recorded cases, where they are at hand, and that the runner can fail."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conformance.hpa import main

# Not part of the project: beside the checkout, or wherever the variable says.
CASES = Path(os.environ.get("KIS_HPA_CASES", Path(__file__).parents[3] / "shared" / "hpa_cases"))


@pytest.mark.skipif(not CASES.is_dir(), reason="no folder of recorded HPA cases")
def test_every_recorded_case_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(CASES)]) == 0, capsys.readouterr().out


def test_a_wrong_expectation_is_named_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = {"current_replicas": 3, "desired_replicas": 1, "min_replicas": 2, "max_replicas": 8, "name": "below min"}
    right = {**case, "expected": {"replicas": 2, "reason": "TooFewReplicas"}}
    wrong = {**case, "expected": {"replicas": 1, "reason": "TooFewReplicas"}}
    cases = {"convert_desired_replicas_no_behavior": [right, wrong], "unheard_of": [case]}
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "1 passed, 2 failed"
    assert "below min: replicas: expected 1, got 2" in out
    assert "unheard_of" in out


def test_a_folder_without_cases_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no cases" in capsys.readouterr().err
