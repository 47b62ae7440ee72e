"""A second --out at a folder that has results: one rule for all commands."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import typer
from test_cli import kis

from testbed.cli.main import application
from testbed.cli.out import LEFT, out_folder, runs_and_minutes
from testbed.errors import ConfigError
from testbed.pipeline.calibrate import how_long
from testbed.pipeline.time_limit import TimeLimit
from testbed.run_dir import RunDir

PROFILE = str(resources.files("testbed") / "examples" / "emulated.json")
SIMULATE = ("simulate", "--profile", PROFILE, "--duration", "5", "--out", "out")
PLAN = ("plan", "--profile", PROFILE, "--target-ms", "500", "--duration", "5", "--max-replicas", "1", "--out", "out")
CLUSTER = ("simulate", "--cluster", "testbed/configs/cluster.yaml", "--duration", "20", "--out", "out")


def is_left(folder: Path, command: str) -> None:
    for marker in LEFT[command].markers:
        (folder / marker).parent.mkdir(parents=True, exist_ok=True)
        (folder / marker).write_text("{}")


def test_every_command_with_results_has_its_rule() -> None:
    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    with_out = {name for name, one in commands.items() if any("--out" in param.opts for param in one.params)}
    assert with_out - {"serve"} == {name.partition(" ")[0] for name in LEFT}  # serve leaves logs


@pytest.mark.parametrize("command", LEFT)
def test_results_that_are_there_are_said_or_refused_at_once(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert out_folder(tmp_path, command) == tmp_path  # an empty folder
    assert capsys.readouterr().out == ""
    is_left(tmp_path, command)
    if LEFT[command].again == "refuses":
        with pytest.raises(ConfigError, match="already holds a run"):
            out_folder(tmp_path, command)
        return
    assert out_folder(tmp_path, command) == tmp_path
    assert capsys.readouterr().out.startswith(f"{tmp_path} has results: ")


@pytest.mark.parametrize(("command", "other"), [("plan", "calibrate"), ("calibrate", "plan"), ("replay", "evaluate")])
def test_another_commands_results_are_never_mixed_with(command: str, other: str, tmp_path: Path) -> None:
    is_left(tmp_path, other)
    with pytest.raises(ConfigError, match=f"has results of kis {other}:"):
        out_folder(tmp_path, command)


@pytest.mark.parametrize("arguments", [("replay", "--server", "127.0.0.1:9"), ("measure", "--model", "emulated")])
def test_what_measures_refuses_before_it_asks_a_server_or_looks_at_the_machine(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    is_left(tmp_path / "out", "replay")
    done = kis(*arguments, "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kis: out already holds a run: choose another folder")


@pytest.mark.parametrize("arguments", [SIMULATE, PLAN, CLUSTER], ids=["simulate", "plan", "cluster"])
def test_a_simulation_is_replaced_by_the_same_and_refuses_another(arguments: tuple[str, ...], tmp_path: Path) -> None:
    first = kis(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "has results" not in first.stdout
    again = kis(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("out has results: the same settings give the same ones again, in their place\n")
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").glob("*.json")}
    other = kis(*arguments, "--set", "spike=150", "--pattern", "bursty", cwd=tmp_path)
    assert other.returncode == 2
    assert "was made with other settings" in other.stderr
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").glob("*.json")} == before


def test_a_simulation_never_replaces_a_real_run(tmp_path: Path) -> None:
    kis(*SIMULATE, cwd=tmp_path)
    run = RunDir(tmp_path / "out")
    run.write_manifest(run.manifest.model_copy(update={"kind": "real"}))
    done = kis(*SIMULATE, cwd=tmp_path)
    assert done.returncode == 2
    assert "already holds a run" in done.stderr
    assert run.manifest.kind == "real"


def test_a_campaign_that_goes_on_announces_what_is_left() -> None:
    plan = {"a": 60.0, "b": 120.0, "c": 180.0}
    assert how_long(TimeLimit(None, plan), []) == "about 6 min in all"
    assert how_long(TimeLimit(None, plan), ["a", "c"]) == "2 runs kept, about 2 min left"


def test_a_study_of_real_runs_that_goes_on_announces_what_is_left() -> None:
    assert runs_and_minutes(3, [60.0, 60.0, 60.0]) == "3 real runs, at least 3 min"
    assert runs_and_minutes(3, [60.0]) == "3 real runs, 2 of them kept, at least 1 min"
    assert runs_and_minutes(3, []) == "3 real runs, all kept"
