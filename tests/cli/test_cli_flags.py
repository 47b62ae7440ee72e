"""Flags that come from a configuration model: what is typed, what it becomes, and what the help says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import typer
from pydantic import Field
from test_cli import kis
from typer.testing import CliRunner

from testbed.cli.flags import Given, Short, configured, flags
from testbed.cli.main import COMMANDS, application
from testbed.config import ClientConfig, Strict, TrafficConfig
from testbed.errors import ConfigError

CONFIGURED = [name for name in COMMANDS if name not in ("compare", "report", "archive", "restore")]


class Part(Strict):
    """A part of it."""

    name: str = "x"
    size: int = 1


class Example(Strict):
    """A configuration with keys of all kinds."""

    count: int = Field(3, ge=1, description="how many")
    limit_s: float | None = Field(None, description="none: no limit")
    mode: Literal["slow", "fast"] = Field("slow", description="of travel")
    file: Path | None = Field(None, description="to read")
    wanted: bool = Field(False, description="is it?")
    gpus: tuple[int, ...] = Field((0,), description="which")
    parts: tuple[Part, ...] = Field((), description="some")
    client: ClientConfig = ClientConfig()
    traffic: TrafficConfig | None = Field(None, description="none: none")


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Example]:
    """What a command gets of a file and of what was typed."""

    def run(text: str, *arguments: str) -> Example:
        found: list[Example] = []

        @flags(Example, usual=["client.workers", Short("--ms", "limit_s", "", lambda texts: float(texts[-1]) / 1e3)])
        def command(given: Given, out: str = "") -> None:
            found.append(configured(Example, file, given))

        file = tmp_path / "example.yaml"
        file.write_text(text)
        made = typer.Typer()
        made.command()(command)
        done = CliRunner().invoke(made, list(arguments))
        if done.exception is not None:
            raise done.exception
        return found[0]

    return run


def test_a_flag_overrides_the_same_key_of_the_file_and_no_other(read: Callable[..., Example]) -> None:
    config = read("count: 7\nclient: {workers: 2, timeout_s: 5}", "--client.timeout-s", "1e1", "--mode", "fast")
    assert (config.count, config.mode) == (7, "fast")
    assert config.client == ClientConfig(workers=2, timeout_s=10)


def test_nothing_typed_leaves_unset_what_the_file_does_not_set(read: Callable[..., Example]) -> None:
    assert read("count: 7").model_fields_set == {"count"}


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        (["--limit-s", "2.5"], "limit_s", 2.5),
        (["--limit-s", "null"], "limit_s", None),
        (["--ms", "250"], "limit_s", 0.25),
        (["--workers", "4"], "client", ClientConfig(workers=4)),
        (["--client.workers", "4"], "client", ClientConfig(workers=4)),
        (["--gpus", "1", "--gpus", "2"], "gpus", (1, 2)),
        (["--gpus", "[1, 2]"], "gpus", (1, 2)),
        (["--gpus", "1,2"], "gpus", (1, 2)),
        (["--parts", "{name: a}", "--parts", "{size: 2}"], "parts", (Part(name="a"), Part(size=2))),
        (["--file", "here.csv"], "file", Path("here.csv")),
        (["--traffic.parameters", "low=2", "--traffic.parameters", "mode=on"], "traffic", {"low": 2, "mode": "on"}),
        (["--traffic.parameters", "{spike: 200}"], "traffic", {"spike": 200}),
        (["--traffic.lengths", "{tokens: [16, 64]}"], "traffic", {}),
    ],
)
def test_what_is_typed_becomes_the_value(
    read: Callable[..., Example], typed: list[str], key: str, value: object
) -> None:
    found = getattr(read("limit_s: 9\ngpus: [5]", *typed), key)
    assert (found.parameters if isinstance(found, TrafficConfig) else found) == value


def test_what_is_yes_or_no_can_be_typed_both_ways(read: Callable[..., Example]) -> None:
    assert read("count: 7", "--wanted").wanted
    assert not read("wanted: true", "--no-wanted").wanted
    assert read("wanted: true").wanted


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--count", "none"], "--count: Input should be a valid integer"),
        (["--count", "0"], "--count: Input should be greater than or equal to 1 (got 0)"),
        (["--mode", "quick"], "--mode: Input should be 'slow' or 'fast' (got 'quick')"),
        (["--client.max-in-flight", "0"], "--client.max-in-flight: Input"),
        (["--parts", "{sise: 2}"], "--parts: unknown key 'parts.0.sise': did you mean 'size'?"),
        (["--parts", "{size: x}"], "--parts: parts.0.size: Input should be"),
        (["--parts", "[a"], "[a is not YAML"),
        (["--traffic.parameters", "spike"], "--traffic.parameters spike: give NAME=VALUE"),
    ],
)
def test_a_wrong_flag_is_told_as_one(read: Callable[..., Example], typed: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read("count: 7", *typed)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_wrong_in_the_file_is_told_of_the_file(read: Callable[..., Example]) -> None:
    with pytest.raises(ConfigError, match=r"example.yaml: client.workers: .* \(got 0\)"):
        read("client: {workers: 0}", "--client.timeout-s", "3")


def parameters_of(name: str) -> Iterator[typer.models.ParameterInfo]:
    command = typer.main.get_command(application([name])).commands[name]  # type: ignore[attr-defined]
    yield from command.params


@pytest.mark.parametrize("name", CONFIGURED)
def test_every_flag_of_every_command_has_a_help(name: str) -> None:
    lacking = [
        parameter.opts[0]
        for parameter in parameters_of(name)
        if not (parameter.help or "").partition("[default")[0].strip("\\ ")
    ]
    assert set(lacking) <= {"--kubeconfig"}


def test_the_help_shows_the_usual_flags_first_and_every_flag_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, _, text = kis("measure", "--help").stdout.partition("─ Options")
    order = ["--replicas", "--pattern", "--out", "serve: ", "--serve.weights", "traffic: ", "--traffic.keep"]
    assert sorted(order, key=text.index) == order
    assert "…" not in text
    assert "[default: 1024]" in text
    assert "One of http, http_shm, grpc, null." in " ".join(text.replace("│", "").split())


def test_the_help_is_in_groups_and_imports_nothing_heavy() -> None:
    script = "import sys; from testbed.cli.main import main\ntry: main()\nfinally: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    groups = ["Measure", "Simulate", "Decide", "Deploy", "Results"]
    assert sorted(groups, key=done.stdout.index) == groups
    for heavy in ("torch", "gymnasium", "kubernetes", "numpy", "pandas", "numba", "pydantic"):
        assert f"'{heavy}'" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_imports_nothing_that_takes_long(command: str) -> None:
    """Counted, not timed: a second of imports before a help is read is a second too many."""
    script = "import sys; from testbed.cli.main import main\ntry: main()\nfinally: print(sorted(sys.modules))"
    command_line = [sys.executable, "-c", script, command, "--help"]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    heavy = ("torch", "matplotlib", "numba", "pandas", "pyarrow", "scipy", "kubernetes", "tritonclient", "onnxruntime")
    assert [name for name in heavy if f"'{name}'" in modules] == []


@pytest.mark.parametrize(("words", "found"), [("kis evalu", "evaluate"), ("kis adapter --depl", "--deployments")])
def test_a_shell_completes_commands_and_flags(words: str, found: str) -> None:
    asked = {"_KIS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    script = "import sys; sys.argv = ['kis']\nfrom testbed.cli.main import main\nmain()"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **asked})
    assert found in done.stdout.split()
