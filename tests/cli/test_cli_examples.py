"""The examples in the help of each command: they can be typed, and what is printed looks as they show."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
from test_cli import kis

from testbed.cli.console import console
from testbed.cli.example import FOLDER, read_example
from testbed.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
WIDTH = 78  # of a terminal of 80 columns, within the help's margins
NUMBER = re.compile(r"[-+\u2212]?\d[\d,.]*")
PROGRESS = re.compile(r"\s*\d+:\d\d  (\d+ %|the simulator is compiled)")  # only where it takes long
RUN = [command for command in COMMANDS if read_example(command).flags is not None]


def shape(line: str) -> str:
    """A line with any numbers in it, wherever its columns are."""
    return " ".join(re.sub("─+", "─", NUMBER.sub("#", line)).split())


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not PROGRESS.match(line)]


def follows(shown: list[str], printed: list[str]) -> str | None:
    """The first line that is shown and was not printed, in that order; `...`: whatever else was. None: all were."""
    at, may_skip = 0, False
    for line in shown:
        if line == "...":
            may_skip = True
            continue
        wanted, cut = shape(line.removesuffix("...")), line.endswith("...")
        last = len(printed) if may_skip else at + 1
        fits = (one.startswith(wanted) if cut else one == wanted for one in map(shape, printed[at:last]))
        place = next((number for number, fit in enumerate(fits, start=at) if fit), None)
        if place is None:
            return line
        at, may_skip = place + 1, False
    return None


def test_every_command_has_an_example_that_fits_a_terminal() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(COMMANDS)
    for command in COMMANDS:
        example = read_example(command)
        assert example.typed.split()[:2] == ["kis", command]
        assert example.printed
        assert max(map(len, example.text.splitlines())) <= WIDTH, command


@pytest.mark.parametrize("command", COMMANDS)
def test_the_files_of_an_example_are_there(command: str) -> None:
    words = shlex.split(read_example(command).typed)
    files = [word for word in words if word.startswith(("testbed/", "results/golden-"))]
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_there_are_examples_that_are_run() -> None:
    assert len(RUN) >= 10


@pytest.mark.parametrize("command", RUN)
def test_what_an_example_prints_looks_as_its_help_shows(command: str, tmp_path: Path) -> None:
    example = read_example(command)
    (tmp_path / "testbed").symlink_to(ROOT / "testbed")
    if "results/golden-bert" in example.typed:
        shutil.copytree(ROOT / "results/golden-bert", tmp_path / "results/golden-bert")
    if command == "archive":  # of what is there
        assert kis("restore", "results/golden-bert", cwd=tmp_path).returncode == 0
    typed = shlex.split(example.typed.replace("\\\n", " "))[1:]
    with patch.object(console, "_width", WIDTH):
        done = kis(*typed, *shlex.split(str(example.flags)), cwd=tmp_path)
    assert done.stderr == ""
    missing = follows(lines_of("\n".join(example.printed)), lines_of(done.stdout))
    assert missing is None, f"not printed: {missing}\n{done.stdout}"
    assert done.returncode in (0, 1)


def test_the_comparison_can_fail() -> None:
    printed = ["  0:00  simulate 4,771 requests", "a table", "12 ms", "results/20261128-162029-x"]
    assert follows(["  0:01  simulate 3 requests", "...", "results/20260101-120000-x"], printed) is None
    assert follows(["  0:01  simulate 3 requests", "results/1-2-x"], printed) == "results/1-2-x"
    assert follows(["  0:01  simulate 3 ...", "...", "9 s"], printed) == "9 s"
