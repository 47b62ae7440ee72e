"""An index over results folders, and the gallery of the committed ones: from what is in the folders alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import EMULATED, write_demo, write_run
from typer.testing import CliRunner

from loadgen.validity import Verdict
from testbed.cli.main import application
from testbed.errors import ConfigError
from testbed.reporting.gallery import main, write_gallery
from testbed.reporting.index import write_index
from testbed.reporting.overview import cards_of, has_page_of_its_own, thumbnail, write_overview
from testbed.reporting.reports import write_report
from tests.golden import RESULTS
from tests.reporting.test_devices_report import folder_of

SMALL = ("golden-gpu-devices", "golden-gpu-sharing", "golden-evaluation-azure")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three committed campaigns, as they are checked out."""
    for name in SMALL:
        shutil.copytree(RESULTS / name, tmp_path / "results" / name, ignore=shutil.ignore_patterns("runs", "logs"))
        (tmp_path / "results" / name / "report.html").unlink(missing_ok=True)
    (tmp_path / "results" / "notes").mkdir()
    return tmp_path / "results"


def words(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def test_a_folder_of_results_gets_an_index(results: Path) -> None:
    (results / SMALL[0] / "report.html").touch()
    told = CliRunner().invoke(application(), ["report", str(results)])
    assert told.exit_code == 0, told.output
    page = (results / "index.html").read_text()
    assert f'href="{SMALL[0]}/report.html"' in page
    assert page.count('<img src="data:image/png;base64,') == len(SMALL)
    text = words(page)
    assert "3 results folders" in text
    assert "P95 latency on cpu (Intel(R) Xeon(R) Processor, 16 cores) is 16.2 (12.3 to 19.7) times" in text
    assert "kiscaler holds 26.0 % fewer GPU-seconds" in text
    assert "2026-11-27 22:10 UTC · NVIDIA H200" in text
    for name in SMALL[1:]:
        assert f"No page yet: kis report {results / name} writes it." in text
    assert len(page) < 100_000


def test_a_folder_that_was_never_reported_says_so(tmp_path: Path) -> None:
    folder_of(tmp_path / "devices")
    (card,) = cards_of(tmp_path)
    assert (card.found, card.page, card.pictures) == ("", None, ())
    write_report(tmp_path / "devices")
    (card,) = cards_of(tmp_path)
    assert "times" in card.found
    assert card.page == "report.html"
    assert [picture.name for picture in card.pictures] == ["ecdf.png"]


def test_the_kind_of_a_folder_and_its_emulated_device_are_told(tmp_path: Path) -> None:
    write_demo(tmp_path / "20260102-0304-calibrate")
    (card,) = cards_of(tmp_path)
    assert card.question.startswith("How near is the simulator to the real server")
    assert "emulated T4 (EMULATED)" in card.devices
    assert card.when == "2025-06-15 15:06 UTC"  # of the first real run, not what the folder is named after


AFTER_S = np.arange(1, 401) * 0.025 + 0.0125  # of 400 requests, each 12.5 ms late


def run_in(folder: Path, name: str, **more: Any) -> None:
    write_run(folder, name, np.arange(1, 401) * 25_000_000, AFTER_S, **more)


def test_one_run_is_measured_or_simulated_as_its_manifest_says_and_its_card_what_came_of_it(tmp_path: Path) -> None:
    late = Verdict(valid=False, reasons=("the client was late",))
    run_in(tmp_path, "a-replay", device=EMULATED)
    run_in(tmp_path, "b-late", verdict=late)
    run_in(tmp_path, "c-locust", verdict=None)
    run_in(tmp_path, "d-simulate", kind="simulated")
    told = {card.folder: (card.devices, card.found) for card in cards_of(tmp_path)}
    answered = "400 requests: 400 answered, P95 12.50 ms"
    assert told == {
        "a-replay": (("emulated T4 (EMULATED)",), f"{answered}, VALID."),
        "b-late": (("Example CPU, 2 cores",), f"{answered}, INVALID: the client was late."),
        "c-locust": (("Example CPU, 2 cores",), f"{answered}, NOT JUDGED."),
        "d-simulate": (("simulated",), f"{answered}."),
    }


def test_the_newest_comes_first_and_what_is_committed_last(tmp_path: Path) -> None:
    for name, start in (("golden-a", 9), ("golden-b", 10), ("older", 1), ("newer", 2), ("20250101-0101-replay", None)):
        run_in(tmp_path, name, start_unix_ns=None if start is None else (1_750_000_000 + 86_400 * start) * 10**9)
    order = [card.folder for card in cards_of(tmp_path)]
    assert order == ["newer", "older", "20250101-0101-replay", "golden-a", "golden-b"]


def test_a_folder_of_several_with_a_page_of_its_own_is_listed_with_it(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo" / "measured")
    assert cards_of(tmp_path) == []
    write_index(tmp_path / "demo", "kis demo", [])
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").touch()
    told = CliRunner().invoke(application(), ["report", str(tmp_path)])
    assert told.exit_code == 0, told.output
    page = (tmp_path / "index.html").read_text()
    assert 'href="demo/index.html"' in page
    assert 'href="site' not in page
    assert "1 results folder: measured." in words(page)


def test_a_kind_of_study_that_is_not_known_is_said_to_be_so(tmp_path: Path) -> None:
    for name, kind in (("gone", "testbed.pipeline.studies.gone:Gone"), ("wrong", "no-such-kind")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text(json.dumps({"kind": kind}))
    told = CliRunner().invoke(application(), ["report", str(tmp_path)])
    assert told.exit_code == 0, told.output
    text = words((tmp_path / "index.html").read_text())
    assert "No module named" in text
    assert "Unknown kind of study" in text


def test_a_run_json_of_another_tool_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "run.json").write_text("{}")
    assert [card.found for card in cards_of(tmp_path)] == [""]


def test_a_thumbnail_is_small_and_keeps_its_shape() -> None:
    small = thumbnail(RESULTS / "golden-evaluation" / "pareto.png")
    assert max(small.width / 240, small.height / 160) == pytest.approx(1, abs=0.01)
    assert len(small.address) < 40_000


def test_anew_is_of_one_folder(results: Path) -> None:
    told = CliRunner().invoke(application(), ["report", str(results), "--anew"])
    assert isinstance(told.exception, ConfigError)


def test_the_gallery_shows_what_is_committed(results: Path, tmp_path: Path) -> None:
    page = write_gallery(tmp_path / "out", results)
    text = page.read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [f"## {name}" for name in sorted(SMALL)]
    shown = re.findall(r"\]\(([^)]+\.png)\)", text)
    assert len(shown) == len(set(shown)) == 5  # of devices there is one
    assert sorted(shown) == sorted(f"gallery/{file.name}" for file in (tmp_path / "out" / "gallery").iterdir())
    assert "kis report results/golden-gpu-devices" in text


def test_without_campaigns_there_is_no_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="has no golden-"):
        write_gallery(tmp_path, tmp_path / "nothing")
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: ")


def test_a_page_that_is_no_index_of_ours_is_left_alone(tmp_path: Path) -> None:
    """`kis report` of a demo's folder overwrote its page."""
    assert not has_page_of_its_own(tmp_path)
    write_overview(tmp_path)
    assert not has_page_of_its_own(tmp_path)
    write_index(tmp_path, "a demo", [])
    assert has_page_of_its_own(tmp_path)
