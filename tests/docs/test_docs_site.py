"""The documentation site: it builds without a warning, needs no other host, and its search works from a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

from testbed.cli.main import COMMANDS, application
from tests.docs.blocks import ROOT

sys.path.insert(0, str(ROOT / "docs" / "hooks"))
from reference_commands import page as commands_page
from reference_configuration import MODELS
from source import cell, first_sentence

CHROMIUM = shutil.which("chromium")
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    here = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loads(HTMLParser):
    """What a page makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADED.get(tag, ""))
        if address and dict(attrs).get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(address)


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert len(loads.addresses) > 3
        assert [address for address in loads.addresses if re.match(r"(https?:)?//", address)] == [], page
    for style in site.rglob("*.css"):
        assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)|@import[^;]*//", style.read_text()) == [], style


def test_every_page_is_in_llms_txt(site: Path) -> None:
    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): .+", (site / "llms.txt").read_text(), flags=re.MULTILINE)
    pages = {str(page.relative_to(site).with_suffix(".md")) for page in site.rglob("*.html")} - {"404.md"}
    assert set(links) == pages
    whole = (site / "llms-full.txt").read_text()
    for link in links:
        assert (site / link).read_text().strip() in whole


def test_every_command_and_flag_is_on_its_page() -> None:
    page = commands_page()
    sections = dict(re.findall(r"^### kis ([\w-]+)$(.*?)(?=^##|\Z)", page, flags=re.DOTALL | re.MULTILINE))
    assert set(sections) == set(COMMANDS)
    for name, command in typer.main.get_command(application()).commands.items():  # type: ignore[attr-defined]
        flags = {flag for param in command.params for flag in param.opts if flag.startswith("--")}
        assert [flag for flag in sorted(flags) if f"`{flag}`" not in sections[name]] == []


def test_every_command_with_a_configuration_file_has_a_table() -> None:
    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    with_file = {f"kis {name}" for name, each in commands.items() if any(p.name == "config" for p in each.params)}
    with_file -= {"kis repository", "kis study"}  # a file of kis serve; a table for each kind
    assert with_file <= set(MODELS)


def test_text_of_the_source_in_a_table() -> None:
    assert cell("a|b <c> `d|<e>` 2**k") == r"a\|b \<c> `d|<e>` 2\*\*k"
    assert first_sentence("One thing. Another.") == "One thing."


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_search_works_in_a_page_that_was_opened_as_a_file(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.locator("input.md-search__input").click()
        page.locator("input.md-search__input").press_sequentially("inter-batch gap")
        result = page.locator(".md-search-result__link").first
        result.wait_for(timeout=30_000)
        assert result.get_attribute("href", timeout=5_000)
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
