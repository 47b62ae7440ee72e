"""Every code block of README.md and docs/ is run or validated, or says why not; and what pages name is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import yaml

from testbed.autoscaling.build import build_policy
from testbed.cli.main import COMMANDS, application
from testbed.config_file import load_config
from testbed.errors import ConfigError
from tests.docs.blocks import COMMAND, PAGES, ROOT, Block, Line, blocks_of, words
from tests.docs.running import missing_line

sys.path.insert(0, str(ROOT / "docs" / "hooks"))
from reference_configuration import MODELS

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
LINES = [(block, line) for block in BLOCKS if block.kind == "shell" for line in block.lines]
GENERATED = ("docs/gallery.md", "docs/reference/commands.md", "docs/reference/configuration.md")
OF_OTHERS = ("docs/inference_load_modes.md",)  # perf_analyzer's


def done_with(block: Block, line: Line | None = None) -> str:
    """run, validated or not run; of a line, or of a block that has none."""
    if line is not None:
        return "run" if line.reason is None else "not run"
    if block.kind == "yaml":
        return "validated"
    return {"python": "not run" if block.reason else "run", "file": "written", "text": "shown"}[block.kind]


def test_every_block_is_run_or_validated_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(done_with(block, line) for block, line in LINES)
    counts += Counter(done_with(block) for block in BLOCKS if block.kind != "shell")
    with capsys.disabled():
        print("\nblocks and commands of the pages:", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    assert counts["run"] > 20
    assert counts["validated"] + counts["written"] > 10


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.kind == "text"], ids=lambda block: block.place)
def test_what_is_only_shown_has_no_commands(block: Block) -> None:
    """A block with commands and their output is of `console`."""
    assert [line for line in block.code.splitlines() if COMMAND.match(line.removeprefix("$ "))] == []


@pytest.mark.parametrize(("block", "line"), LINES, ids=lambda value: getattr(value, "place", ""))
def test_a_command_can_be_typed(block: Block, line: Line) -> None:
    """Its flags, targets, modules and files exist, also where it is not run."""
    first, *rest = words(line.command)
    if first.endswith("kis"):
        check_kis(rest)
    if first == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert [word for word in rest if "=" not in word and word not in targets] == []
    if first.endswith("python") and rest[0] == "-m":
        assert find_spec(rest[1]) is not None
    titles = {each.title for each in blocks_of(ROOT / block.place.partition(":")[0])}
    files = [word for word in rest if re.match(r"(testbed|loadgen|manifests|tests|docs)/", word)]
    made = [word for word in files if word.startswith("manifests/adapter/local")]
    assert [word for word in files if word not in (*titles, *made) and not list(ROOT.glob(word))] == []


def check_kis(arguments: list[str]) -> None:
    """ValueError of typer's for an unknown flag or an argument too many."""
    if not arguments or arguments[0].startswith("-") or arguments[0] == "COMMAND":
        return
    assert arguments[0] in COMMANDS
    commands = typer.main.get_command(application([arguments[0]])).commands  # type: ignore[attr-defined]
    commands[arguments[0]].make_context(arguments[0], list(arguments[1:]))


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.kind == "yaml"], ids=lambda block: block.place)
def test_yaml_fits_what_reads_it(block: Block, tmp_path: Path) -> None:
    content = yaml.safe_load(block.code)
    if "resources" in content:
        folders = [*content["resources"], *content.get("components", [])]
        for folder in folders:  # relative to an overlay of the reader's, beside manifests/
            assert (ROOT / "docs" / folder / "kustomization.yaml").is_file(), folder
        return
    assert block.config is not None, f"{block.place}: say before it what reads it: <!-- config: kis ... -->"
    command, _, folder = block.config.partition(" in ")
    file = tmp_path / "config.yaml"
    extends = re.sub(r"extends: ", f"extends: {ROOT / folder}/", block.code)
    file.write_text(extends)
    load_config(file, MODELS[command])


@pytest.mark.parametrize(
    "block",
    [each for each in BLOCKS if each.kind == "file" and each.language == "yaml"],
    ids=lambda block: block.place,
)
def test_a_configuration_of_a_page_fits_the_command_that_is_given_it(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / block.place.partition(":")[0]
    users = [
        line
        for each in blocks_of(page)
        if each.kind == "shell"
        for line in each.lines
        if str(block.title) in line.command
    ]
    assert users, f"{block.place}: no command of the page reads {block.title}"
    for name in ("testbed", "manifests", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "trace.csv").write_text("0\n1\n2\n")
    for each in blocks_of(page):
        if each.kind == "file" and each.language == "yaml":
            (tmp_path / str(each.title)).write_text(each.code)
    monkeypatch.chdir(tmp_path)
    if "apiVersion" in yaml.safe_load(block.code):
        fits_as_an_autoscaler(block, words(users[0].command))
        return
    name = words(users[0].command)[1]
    model = MODELS["kis simulate --cluster" if "--cluster" in users[0].command else f"kis {name}"]
    load_config(Path(str(block.title)), model)
    Path(str(block.title)).write_text(block.code + "\nno_such_key: 1\n")
    with pytest.raises(ConfigError, match="no_such_key"):
        load_config(Path(str(block.title)), model)


def fits_as_an_autoscaler(block: Block, command: list[str]) -> None:
    """With what the command says of its metrics."""
    named = dict(word.split("=", 1) for flag, word in pairwise(command) if flag == "--metric")
    settings = {"manifest": block.title, "metrics": named}
    build_policy(settings, 8, None)
    Path(str(block.title)).write_text(block.code + "\nno_such_key: 1\n")
    with pytest.raises(ConfigError, match="no_such_key"):
        build_policy(settings, 8, None)


def test_every_page_that_anything_names_is_there() -> None:
    """In code, configurations, manifests, tests, results and pages."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    read = (".py", ".md", ".yaml", ".yml", ".j2", ".toml", ".sh")
    texts = {name: (ROOT / name).read_text() for name in listed if name.endswith(read) and (ROOT / name).is_file()}
    named = {(page, name) for name, text in texts.items() for page in re.findall(r"(?<![\w/])docs/[\w/-]+\.md\b", text)}
    assert len(named) > 30
    there = {page for page, _ in named if (ROOT / page).is_file() or page in GENERATED + OF_OTHERS}
    assert sorted(f"{name}: {page}" for page, name in named if page not in there and name != "CHANGELOG.md") == []


def test_what_is_shown_is_found_whatever_its_numbers_and_line_breaks() -> None:
    printed = "  0:03  look at the\nmachine\n┃ P95 ┃\n│ 12.5 │\nreport: results/x\n"
    assert missing_line(("look at the machine", "...", "P95", "9.1", "report: results/x"), printed) is None
    assert missing_line(("P95", "look at the machine"), printed) == "look at the machine"
    assert missing_line(("report: results/y",), printed) == "report: results/y"
