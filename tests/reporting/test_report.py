"""The report of a small synthetic results folder, as text and in a browser."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import write_demo, write_run
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.errors import ConfigError, ReportError
from testbed.reporting import added
from testbed.reporting.compare import recompute
from testbed.reporting.reports import REPORTS, report_of, write_report
from tests.pages import figures_of, texts_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARRIVALS_NS = np.arange(1, 201) * 40_000_000


class _Page(HTMLParser):
    """Attributes of all tags, and the text that a reader sees, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.alts: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._hidden = 0
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._hidden += tag in ("script", "style")
        self.text += " " if tag in ("td", "tr", "p", "li", "h1", "h2", "h3", "dt", "dd", "section") else ""
        self.links += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        self.alts += [value for key, value in attrs if key == "alt"]

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.text += data


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = write_demo(tmp_path_factory.mktemp("results") / "demo")
    assert write_report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(demo) -> _Page:
    return _Page((demo / "report.html").read_text())


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the text: drawing takes most of the time."""
    monkeypatch.setattr("testbed.reporting.report.save_png", lambda figure, file: Path(file).touch())
    monkeypatch.setattr("testbed.reporting.report.svg_address", lambda figure: "data:,")


def a_pair(folder: Path, slower: float = 1.02, **manifest) -> None:
    latency_s = np.random.default_rng(5).gamma(4, 0.01, len(ARRIVALS_NS))
    for run_id, kind, factor in (("real", "real", 1), ("sim", "simulated", slower)):
        counterpart = {"simulates": manifest.get("run_id", "real")} if kind == "simulated" else {}
        completed_s = ARRIVALS_NS / 1e9 + latency_s * factor
        write_run(folder / "runs", run_id, ARRIVALS_NS, completed_s, kind=kind, **counterpart, **manifest)


def test_the_comparison_beside_the_page_can_be_recomputed(demo):
    assert recompute(demo).text == (demo / "comparison.json").read_text()


def test_what_is_not_valid_comes_before_everything_else(page, demo):
    head = page.text[: page.text.index("Summary")]
    alarm, claim = head.index("1 OF 6 RUNS NOT VALID"), head.index("the simulated P95 latency is off by")
    assert alarm < claim
    assert "INVALID resnet50-bursty-r1-n1-b8-d0ms-s11: lag P99 is 14.2 ms" in head
    text = (demo / "report.md").read_text()
    assert text.index("**INVALID** resnet50-bursty") < text.index("## Summary")


def test_the_claim_has_the_numbers_of_the_comparison(page, demo):
    groups = json.loads((demo / "comparison.json").read_text())["summary"]["groups"]
    cpu = next(group for group in groups if group["model"] == "resnet50")
    assert f"off by {cpu['median_abs_p95_error_pct']:.1f} % in the median" in page.text
    assert f"{cpu['worst_abs_p95_error_pct']:.1f} % at worst" in page.text


def test_an_emulated_device_is_labelled_wherever_it_shows(page, demo):
    assert page.text.count("emulated T4") >= 5
    for found in re.finditer("emulated T4", page.text):
        around = page.text[max(0, found.start() - 10) : found.end() + 13]
        assert "EMULATED" in around
    for line in (demo / "report.md").read_text().splitlines():
        assert "emulated T4" not in line or "EMULATED" in line
    assert "EMULATED Example CPU" not in page.text
    rows = json.loads((demo / "comparison.json").read_text())["runs"]
    assert {row["model"]: row["emulated"] for row in rows} == {"emulated": True, "resnet50": False}


def test_random_weights_and_fitting_runs_are_named(page):
    assert "random, seed 0: timing only" in page.text
    assert "Real runs without a simulated counterpart: resnet50-fit-constant" in page.text
    assert "tritonserver" in page.text


def test_nothing_is_loaded_from_elsewhere(page, demo):
    assert [link for link in page.links if not link.startswith(("#", "data:image/svg+xml;base64,"))] == []
    assert not {"link", "iframe", "object"} & set(page.tags)
    html = (demo / "report.html").read_text()
    assert "url(http" not in html[: html.index("</style>")]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy  # no other script may run
    for drawn in figures_of(html):
        assert not re.findall(r'href="(?!#)', drawn)
        assert "<script" not in drawn


def test_every_figure_is_on_the_page_and_says_what_it_shows(page, demo):
    figures = figures_of((demo / "report.html").read_text())
    assert page.tags.count("img") == len(figures) == 1 + 2 + 2 + 6  # overview, groups, profiles, runs
    assert all(len(alt) > 20 for alt in page.alts)
    texts = [" ".join(texts_of(figure)) for figure in figures]
    assert sum("EMULATED" in text for text in texts) == 1 + 1 + 1 + 3  # overview; its group, profile and runs
    assert sum("NOT VALID" in text for text in texts) == 1 + 1 + 1


def test_the_markdown_shows_the_pictures_that_are_there(demo):
    shown = re.findall(r"\]\((figures/[^)]+)\)", (demo / "report.md").read_text())
    assert len(shown) == 1 + 2 + 6 + 2  # overview, groups, runs, profiles
    assert sorted(shown) == sorted(f"figures/{file.name}" for file in (demo / "figures").iterdir())


def test_each_run_names_its_folders(page, demo):
    for run in (demo / "runs").iterdir():
        assert f"runs/{run.name}" in page.text or run.name == "resnet50-fit-constant"


@pytest.mark.usefixtures("blank_pictures")
def test_names_are_text_and_not_markup(tmp_path):
    name = "<script>alert(1)</script>|`x`"
    a_pair(tmp_path, model=name, pattern="</script><b>", weights="<img src=http://example.org>", notes=("<i>note",))
    html = write_report(tmp_path).read_text()
    assert "alert(1)</script>" not in html
    assert "</script><b>" not in html
    assert "<i>note" not in html
    page = _Page(html)
    assert "http://example.org" not in page.links
    assert name in page.text
    text = (tmp_path / "report.md").read_text()
    assert "<script>" not in text
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\|\`x\`" in text


@pytest.mark.usefixtures("blank_pictures")
def test_what_is_missing_is_said_to_be_missing(tmp_path):
    a_pair(tmp_path, versions={})
    page = _Page(write_report(tmp_path).read_text())
    assert "the spread of repeated real runs was not measured" in page.text
    assert "utilisation not measured not measured" in page.text
    assert "Versions: not measured" in page.text
    assert "NOT VALID" not in page.text


@pytest.mark.usefixtures("blank_pictures")
def test_without_a_valid_held_out_run_nothing_is_claimed(tmp_path):
    a_pair(tmp_path, held_out=False)
    page = _Page(write_report(tmp_path).read_text())
    assert "no valid held-out run, so nothing is claimed" in page.text
    assert "1 not held out" in page.text


def test_a_run_that_answered_nothing_still_has_a_report(tmp_path):
    for run_id, kind in (("real", "real"), ("sim", "simulated")):
        completed_s = np.full(len(ARRIVALS_NS), np.nan)
        more = {"simulates": "real"} if kind == "simulated" else {}
        write_run(tmp_path / "runs", run_id, ARRIVALS_NS, completed_s, kind=kind, **more)
    page = _Page(write_report(tmp_path).read_text())
    assert "1 no request answered" in page.text


def test_writing_again_gives_the_same_page(tmp_path):
    a_pair(tmp_path)
    first = write_report(tmp_path).read_bytes()
    (tmp_path / "figures" / "run-99.png").write_bytes(b"of a run that is gone")
    assert write_report(tmp_path).read_bytes() == first
    assert not (tmp_path / "figures" / "run-99.png").exists()


def test_a_figure_of_ones_own_adds_itself_to_a_report(tmp_path, monkeypatch):
    a_pair(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from matplotlib.figure import Figure\n"
        "from testbed.reporting.added import added_to\n"
        "@added_to('calibration', 'Runs & their <folder>')\n"
        "def runs_of(folder):\n"
        "    figure = Figure()\n"
        "    figure.suptitle(folder.name)\n"
        "    return figure\n"
    )
    monkeypatch.setattr(added, "_ADDED", {})
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("mine")
    page = _Page(write_report(tmp_path).read_text())
    sys.modules.pop("mine")
    assert "Runs & their <folder>" in page.text
    assert "![Runs &amp; their &lt;folder&gt;](figures/runs_of.png)" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "figures" / "runs_of.png").exists()


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.name)
def test_a_report_is_found_by_its_marker(tmp_path, report):
    marker = tmp_path / report.marker.replace("*", "some-run")
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    (tmp_path / "runs" / "one").mkdir(parents=True, exist_ok=True)
    (tmp_path / "runs" / "one" / "run.json").touch()  # experiments and devices have runs too
    assert report_of(tmp_path) is report


def test_a_folder_of_no_kind_is_told_in_one_line(tmp_path):
    with pytest.raises(ReportError, match="is no results folder: expected one of") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert all(report.command in str(caught.value) for report in REPORTS)
    told = CliRunner().invoke(application(), ["report", str(tmp_path / "nothing")])
    assert isinstance(told.exception, ConfigError)


def in_browser(page: str, profile: Path) -> str:
    """The page as chromium has it after its script ran; fails on any message of its console."""
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000"
    browser = subprocess.run(
        [CHROMIUM, *options.split(), f"--user-data-dir={profile}", "--dump-dom", page],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert [line for line in browser.stderr.splitlines() if "CONSOLE" in line] == []
    return browser.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_opens_the_run_of_an_address_without_complaint(demo, tmp_path):
    # of six runs the worst of each group is open; the script opens the one that the address names
    html = (demo / "report.html").read_text()
    closed = next(name for name in re.findall(r'<details id="([^"]+)">', html))
    shown = in_browser(f"{(demo / 'report.html').as_uri()}#{closed}", tmp_path)
    assert len(re.findall(r"<details[^>]* open", html)) == 2
    assert len(re.findall(r"<details[^>]* open", shown)) == 3
    assert f'<details id="{closed}" open' in shown
