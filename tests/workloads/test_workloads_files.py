"""A file is replaced in one step: whoever is killed in the middle leaves the old file whole."""

from __future__ import annotations

import ast
import json
import os
import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from loadgen.artifact import write_table
from testbed.run_dir import Device, RunDir, RunManifest
from workloads.catalog import ServiceConfig
from workloads.files import replacing, write_json, write_text_atomically

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def killed_before_the_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(source: object, target: object) -> None:
        raise Killed

    monkeypatch.setattr(os, "replace", die)


def test_json_is_indented_and_ends_its_line(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None]})

    assert (tmp_path / "a.json").read_text() == '{\n  "a": [1, null]\n}\n'


def test_a_model_is_written_as_pydantic_writes_it(tmp_path: Path) -> None:
    class Named(BaseModel):
        name: str

    write_json(tmp_path / "a.json", Named(name="Zürich"))

    assert (tmp_path / "a.json").read_text() == '{\n  "name": "Zürich"\n}\n'


def test_a_kill_before_the_rename_leaves_the_old_json(tmp_path: Path, killed_before_the_rename: None) -> None:
    (tmp_path / "a.json").write_text('{"old": 1}')

    with pytest.raises(Killed):
        write_json(tmp_path / "a.json", {"new": 2})

    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"old": 1}')

    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"fine": 1, "not": object()})

    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


def test_a_block_that_raises_in_the_middle_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("old")

    def write_half() -> None:
        with replacing(tmp_path / "rows.csv") as temporary:
            temporary.write_text("ne")
            raise Killed

    with pytest.raises(Killed):
        write_half()

    assert (tmp_path / "rows.csv").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_a_kill_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(tmp_path / "a.parquet", pa.table({"a": [1]}), "some", 1, {})
    before = (tmp_path / "a.parquet").read_bytes()

    def die_in_the_middle(table: pa.Table, where: Path, **options: object) -> None:
        where.write_bytes(b"PAR")
        raise Killed

    monkeypatch.setattr("pyarrow.parquet.write_table", die_in_the_middle)

    with pytest.raises(Killed):
        write_table(tmp_path / "a.parquet", pa.table({"a": [2]}), "some", 1, {})

    assert (tmp_path / "a.parquet").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


def test_a_kill_leaves_the_old_manifest(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run = RunDir(tmp_path).create()
    run.write_manifest(_manifest("before"))
    request.getfixturevalue("killed_before_the_rename")

    with pytest.raises(Killed):
        run.write_manifest(_manifest("after"))

    assert run.manifest.run_id == "before"


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "token", "secret", mode=0o600)

    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_no_json_is_written_in_place() -> None:
    """`path.write_text(json.dumps(...))` and the like, in any form; workloads/files.py has the one way."""
    found = [
        f"{file.relative_to(ROOT)}:{call.lineno}"
        for package in ("workloads", "loadgen", "testbed")
        for file in sorted((ROOT / package).rglob("*.py"))
        if file != ROOT / "workloads" / "files.py"
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and _writes_in_place(call)
    ]

    assert found == []


def _manifest(run_id: str) -> RunManifest:
    return RunManifest(
        run_id=run_id,
        kind="simulated",
        state="complete",
        model="resnet50",
        weights="random, seed 0: timing only",
        device=Device(kind="cpu", name="some"),
        service=ServiceConfig(),
        pattern="constant",
        seed=1,
        duration_s=1.0,
    )


def _writes_in_place(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("write_text", "write_bytes"):
        return False
    calls = [one.func for argument in call.args for one in ast.walk(argument) if isinstance(one, ast.Call)]
    names = [one.attr for one in calls if isinstance(one, ast.Attribute)]
    return any(name in ("dumps", "model_dump_json") for name in names)


@given(
    st.recursive(
        st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.booleans(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    write_json(file, value)
    assert json.loads(file.read_text()) == value


def test_numbers_of_an_array_and_rows_of_a_table_share_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1, -2.5e-7, None], "rows": [{"x": 1, "y": "z"}, {"x": [2]}], "none": []})
    assert (tmp_path / "x.json").read_text() == (
        '{\n  "a": [1, -2.5e-07, null],\n  "rows": [\n    {"x": 1, "y": "z"},\n    {\n      "x": [2]\n    }\n  ],\n'
        '  "none": []\n}\n'
    )
