"""What a real kube-controller-manager decided, which is kept: the simulated HPA still decides the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testbed.autoscaling.hpa.spec import HpaSpec
from tests.conformance.hpa_differential import main, read
from tests.conformance.hpa_stories import STORIES, manifest

KEPT = Path(__file__).parents[2] / "results" / "golden-hpa-differential" / "differential.json"


def test_each_decision_of_the_real_hpa_is_made_again() -> None:
    found = read(KEPT)
    assert {one.name for one in found} == {story.name for story in STORIES}
    assert [one.name for one in found if not one.agrees] == []
    assert all(len(one.real) >= 12 and len(set(one.real)) > 1 for one in found)


def test_what_was_recorded_are_these_stories() -> None:
    specs = {load["name"]: HpaSpec.model_validate(load["spec"]) for load in json.loads(KEPT.read_text())["stories"]}
    assert specs == {story.name: story.spec for story in STORIES}


def test_a_decision_that_differs_is_shown_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(KEPT.read_text())
    told["stories"][1]["syncs"][5]["real"] += 1
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(told))
    assert main([str(wrong)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines if line.endswith("NO |")] == [f"| {told['stories'][1]['name']}"]
    assert lines[-1] == f"{len(STORIES)} stories, {len(STORIES) - 1} agree"


def test_a_story_is_an_object_of_the_api_with_nothing_that_is_a_default() -> None:
    spike = next(story for story in STORIES if story.name == "down-by-pods")
    assert manifest(spike)["spec"]["behavior"] == {
        "scaleDown": {
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 7}],
            "selectPolicy": "Max",
            "stabilizationWindowSeconds": 0,
        }
    }
