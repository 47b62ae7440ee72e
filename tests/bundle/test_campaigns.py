"""Campaigns on a lent machine: each within its time, and what it left is packed whatever became of it."""

from __future__ import annotations

import sys
import tarfile
import time
from importlib import resources
from pathlib import Path

import pytest

from testbed.bundle.campaigns import CampaignPlan, Stage, run
from testbed.config import CalibrateConfig
from testbed.config_file import load_config
from testbed.pipeline.devices_config import DevicesConfig

CONFIGS = Path(str(resources.files("testbed") / "configs"))
# Writes what a campaign would, into the folder after --out; then does what the test says.
SCRIPT = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
(folder / "runs" / "one" / "raw").mkdir(parents=True)
(folder / "runs" / "one" / "run.json").write_text("{{}}")
(folder / "runs" / "one" / "raw" / "rows").write_text("streamed")
(folder / "report.html").write_text("a page")
print("begun", flush=True)
{}
"""


def stage(name: str, then: str, most_s: float = 20.0) -> Stage:
    return Stage(name=name, most_s=most_s, command=(sys.executable, "-c", SCRIPT.format(then)))


def members(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return {member.name for member in tar.getmembers() if member.isfile()}


def test_what_a_campaign_left_is_packed_without_pages_and_streamed_rows(tmp_path: Path) -> None:
    plan = CampaignPlan(stages=(stage("good", ""), stage("bad", "sys.exit(3)")))
    ended = run(plan, 100, tmp_path / "out", tmp_path / "work")
    assert [(one.name, one.status) for one in ended] == [("good", 0), ("bad", 3)]
    for one in ended:
        assert one.archive is not None
        assert members(one.archive) == {f"{one.name}/runs/one/run.json", f"{one.name}/console.log"}
    assert "begun" in (tmp_path / "work" / "good" / "console.log").read_text()
    assert members(tmp_path / "out" / "machine.tar.xz") == {"machine/machine.txt"}


def test_a_campaign_whose_time_is_up_is_interrupted_and_keeps_what_it_has(tmp_path: Path) -> None:
    then = "try: time.sleep(60)\nexcept KeyboardInterrupt: (folder / 'kept').write_text('in time')"
    (ended,) = run(CampaignPlan(stages=(stage("long", then, most_s=2),)), 100, tmp_path / "out", tmp_path / "work")
    assert ended.status == 124
    assert ended.archive is not None
    assert "long/kept" in members(ended.archive)


def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.bundle.campaigns.KILL_AFTER_S", 1.0)
    deaf = stage("deaf", "signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)", most_s=2)
    begun = time.monotonic()
    (ended,) = run(CampaignPlan(stages=(deaf,)), 100, tmp_path / "out", tmp_path / "work")
    assert ended.status == 124
    assert time.monotonic() - begun < 50


def test_without_time_a_campaign_is_not_begun(tmp_path: Path) -> None:
    (ended,) = run(CampaignPlan(stages=(stage("late", "", most_s=100),)), 20, tmp_path / "out", tmp_path / "work")
    assert (ended.status, ended.archive) == (None, None)
    assert not (tmp_path / "work" / "late").exists()


def test_a_command_that_is_not_there_ends_its_campaign_only(tmp_path: Path) -> None:
    plan = CampaignPlan(stages=(Stage(name="none", most_s=20, command=("no-such-command",)), stage("good", "")))
    ended = run(plan, 100, tmp_path / "out", tmp_path / "work")
    assert [one.status for one in ended] == [127, 0]
    assert "no-such-command" in (tmp_path / "work" / "none" / "console.log").read_text()


@pytest.mark.parametrize("name", ["gpu-day", "gpu-day-cpu"])
def test_the_shipped_plans_name_shipped_campaigns(name: str) -> None:
    for one in load_config(CONFIGS / f"{name}.yaml", CampaignPlan).stages:
        assert one.command[0] == "kis"
        file = CONFIGS / Path(one.command[2]).name
        load_config(file, DevicesConfig if one.command[1] == "devices" else CalibrateConfig)


@pytest.mark.parametrize("name", ["golden-gpu", "golden-gpu-fp32", "golden-gpu-sharing"])
def test_the_shipped_campaigns_are_of_a_gpu(name: str) -> None:
    assert load_config(CONFIGS / f"{name}.yaml", CalibrateConfig).device == "gpu"
