"""The moving picture in README.md: made of a recording, line by line, without a script."""

from __future__ import annotations

import re
import runpy
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "hooks" / "terminal_recording.py"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def under_test() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def appears_at(svg: str) -> list[float]:
    """Percent of the period at which each line is there."""
    return [float(found) for found in re.findall(r"@keyframes l\d+\{.*?\}([\d.]+)%,100%", svg)]


def test_a_command_is_recorded_with_its_times_and_drawn(under_test: dict[str, Any], tmp_path: Path) -> None:
    cast = tmp_path / "a.cast"
    slow = tmp_path / "slow.sh"
    slow.write_text(f"echo 'first <one>'; sleep .3; echo '  0:01  {'second ' * 20}'")
    under_test["record"](cast, ["sh", str(slow)])
    *typed, first, second, rest = under_test["lines_of"](cast.read_text())
    assert " ".join(line.text for line in typed) == f"$ sh {slow}"
    assert first.text == "first <one>"
    assert second.text.startswith("  0:01  second second")
    assert rest.text.startswith("        second")  # beside the time
    assert rest.at_s == second.at_s >= first.at_s + 0.3
    svg = under_test["draw"]([*typed, first, second, rest])
    assert [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")][-3] == "first <one>"


def test_lines_appear_in_order_and_the_last_rows_are_in_sight_at_the_end(under_test: dict[str, Any]) -> None:
    lines = [under_test["Line"](3.0 * number, f"line {number}") for number in range(40)]
    svg = under_test["draw"](lines)
    appears = appears_at(svg)
    assert len(appears) == 40
    assert all(earlier < later for earlier, later in pairwise(appears))
    assert "117 s, 5 times as fast" in svg
    moved = float(re.findall(r"100%\{transform:translateY\((-\d+)px\)\}", svg)[-1])
    assert moved == -under_test["LINE_PX"] * (40 - under_test["ROWS"])
    assert "<script" not in svg


def test_a_command_that_fails_leaves_no_recording(under_test: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="failed"):
        under_test["record"](tmp_path / "a.cast", [sys.executable, "-c", "raise SystemExit(3)"])
    assert not (tmp_path / "a.cast").exists()


def test_the_picture_that_the_readme_shows_is_the_one_of_the_recording(under_test: dict[str, Any]) -> None:
    assets = ROOT / "docs" / "assets"
    lines = under_test["lines_of"]((assets / "demo.cast").read_text())
    assert (assets / "demo.svg").read_text() == under_test["draw"](lines)
    assert "docs/assets/demo.svg" in (ROOT / "README.md").read_text()
