"""`kis demo` behind its first step, which test_loop.py runs for real: a page with what each step found."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from testbed.autoscaling.policy_file import read_pair
from testbed.pipeline import demo as under_test
from testbed.reporting.drawing import save_png
from testbed.study import Workers
from tests.pipeline.recording_reporter import RecordingReporter

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "results" / "golden-emulated-slow" / "profile-emulated.json"


def measured(folder: Path, *_: Any) -> str:
    """As if a real Triton had been measured there."""
    (folder / "measured" / "figures").mkdir(parents=True, exist_ok=True)
    shutil.copy(PROFILE, folder / "measured" / "profile-emulated.json")
    save_png(Figure(), folder / "measured" / "figures" / "run-01.png")
    return "emulated: it was measured."


def test_an_hpa_is_tuned_and_meets_kiscaler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = under_test._config

    def shorter(name: str, kind: type[Any], **overrides: Any) -> Any:
        fewer = {"tune.yaml": {"trials": 3, "check_seeds": 3}, "compare.yaml": {"seeds": 3}}[name]
        return shipped(name, kind, duration_s=100, **overrides, **fewer)

    monkeypatch.setattr(under_test, "_measured", measured)
    monkeypatch.setattr(under_test, "_config", shorter)
    reporter = RecordingReporter()
    page = under_test.demo(tmp_path, reporter, Workers(1))
    assert [phase for phase in reporter.phases if phase.startswith("step ")] == [
        "step 1 of 3: a real Triton is measured, its profile fitted, other traffic simulated and compared",
        "step 2 of 3: an HPA and a rule are tuned for a wave of traffic, in the simulator",
        "step 3 of 3: both, KIScaler and fixed numbers of replicas, on the wave and on other traffic",
    ]
    text = " ".join(re.sub("<[^>]*>", " ", page.read_text()).split())
    assert "Emulated: it was measured." in text
    assert "HPA" in text
    assert "In simulation, over 12 runs of 4 kinds of traffic, kiscaler holds" in text
    assert "<b>r1-n1-b8-d0ms</b>: a service" in page.read_text()  # a picture names them
    assert page.read_text().count("data:image/png;base64,") == 4
    for file in ("tuned/report.html", "compared/report.html"):
        assert (tmp_path / file).exists()
        assert f'href="{file}"' in page.read_text()


def test_what_ships_of_the_demo_can_be_read() -> None:
    config = under_test._config("compare.yaml", under_test.EvaluateConfig)
    packaged = Path(config.policies["kiscaler"]["file"])
    assert read_pair(packaged) == read_pair(ROOT / "results" / "golden-kiscaler" / "training" / "policy.onnx")
    for model in ("emulated", "emulated-slow"):
        golden = ROOT / "results" / f"golden-{model}" / "profile-emulated.json"
        assert (ROOT / "testbed" / "examples" / f"{model}.json").read_bytes() == golden.read_bytes()
    assert under_test._config("measure.yaml", under_test.CalibrateConfig).studies[0].model == "emulated"


def entries(lock: str) -> set[str]:
    """Of a lock: each package with its hashes."""
    return set(re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip()))


def test_its_lock_is_a_part_of_the_whole_one_without_torch() -> None:
    part = entries("requirements-demo.lock")
    assert part < entries("requirements.lock")
    assert not [entry for entry in part if entry.startswith(("torch", "nvidia-cu", "triton=="))]
    assert [entry for entry in part if entry.startswith("nvidia-pytriton==")]
