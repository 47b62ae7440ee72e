"""The report of a small synthetic results folder, as text and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import write_demo, write_run

from testbed.reporting.compare import recompute
from testbed.reporting.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARRIVALS_NS = np.arange(1, 201) * 40_000_000


class _Page(HTMLParser):
    """Attributes of all tags, and the text that a reader sees, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
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
    monkeypatch.setattr("testbed.reporting.pictures.save_png", lambda figure, file, **_: Path(file).touch())


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
    assert [link for link in page.links if not link.startswith("#")] == []
    assert not {"link", "img", "iframe"} & set(page.tags)
    html = (demo / "report.html").read_text()
    assert html.count("plotly.js v") == 1
    figures = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    assert len(figures) == 1 + 2 + 4 + 3 * 6
    assert not any("<" in figure for figure in figures)  # whatever a figure says, it cannot end its script
    assert "url(http" not in html[: html.index("</style>")]


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
    before_library = html[: html.index("plotly.js v")]
    assert "alert(1)</script>" not in before_library
    assert "</script><b>" not in html
    assert "<i>note" not in html
    page = _Page(html)
    assert "img" not in page.tags
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


def drawn_in_browser(page: Path, profile: Path) -> tuple[int, int]:
    """How many figures the page has, and how many of them chromium has drawn; fails on any message of its console."""
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000"
    browser = subprocess.run(
        [CHROMIUM, *options.split(), f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert [line for line in browser.stderr.splitlines() if "CONSOLE" in line] == []
    figures = browser.stdout.split('data-figure="')[1:]
    return len(figures), sum('class="main-svg"' in figure for figure in figures)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_draws_what_is_open_without_complaint(demo, tmp_path):
    # overview, two groups, two profiles of two figures, and three a run: of six runs the worst of each group is open
    assert drawn_in_browser(demo / "report.html", tmp_path) == (1 + 2 + 4 + 3 * 6, 1 + 2 + 4 + 3 * 2)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_opening_a_run_draws_its_figures(demo, tmp_path):
    html = (demo / "report.html").read_text()
    opening = "<script>for (const run of document.querySelectorAll('details')) run.open = true</script></body>"
    opened = tmp_path / "opened.html"
    opened.write_text(html.replace("</body>", opening))
    figures, drawn = drawn_in_browser(opened, tmp_path / "profile")
    assert figures == drawn == 1 + 2 + 4 + 3 * 6
