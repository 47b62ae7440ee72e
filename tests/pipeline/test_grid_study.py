"""`kis study`: a kind of study is one file, ours or a user's; it goes on with what it has."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from testbed.cli.main import application
from testbed.config_file import load_config
from testbed.errors import ConfigError
from testbed.grid_study import STUDIES, run_study
from testbed.pipeline.studies.rate_sweep import RateSweep
from testbed.study import Workers
from tests.oracles.cluster_worlds import flat_profile

YOURS = """
from functools import partial
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure
from pydantic import Field

from testbed.grid_study import GridStudy


class Squares(GridStudy):
    name: ClassVar[str] = "squares"
    title: ClassVar[str] = "numbers & their <squares>"
    may_grow: ClassVar[tuple[str, ...]] = ("most",)

    most: int = Field(3, description="largest number")
    calls: Path = Field(description="a line for each cell that is run")

    def cells(self):
        return [{"n": n} for n in range(self.most)]

    def run(self, cell):
        with self.calls.open("a") as lines:
            lines.write(f"{cell['n']}\\n")
        return {"square": float(cell["n"] ** 2), "root": None, "word": "a|b"}

    def figures(self, rows):
        return {"Squares": partial(drawn, len(rows))}


def drawn(rows):
    figure = Figure()
    figure.suptitle(f"{rows} rows")
    return figure
"""


@pytest.fixture
def yours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The configuration of a study of a user's kind."""
    (tmp_path / "my_studies.py").write_text(YOURS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(STUDIES, "_by_name", dict(STUDIES._by_name))
    file = tmp_path / "squares.yaml"
    file.write_text("kind: my_studies:Squares\ncalls: calls.txt\n")
    yield file
    sys.modules.pop("my_studies", None)


def kis(*arguments: object) -> Any:
    return CliRunner().invoke(application(), [str(argument) for argument in arguments])


def test_a_kind_of_study_of_ones_own_is_one_file(yours: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = kis("study", yours, "--workers", 1, "--out", out)
    assert done.exit_code == 0, done.output
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    assert "numbers &amp; their &lt;squares&gt;" in page
    assert "| --: | --: | --: | --- |" in text
    assert "| 2 | 4 | \u2013 | a\\|b |" in text
    assert (out / "figures" / "figure-1.png").exists()
    (out / "report.md").unlink()
    assert kis("report", out).exit_code == 0
    assert (out / "report.md").read_text() == text


def test_it_goes_on_with_the_cells_that_it_lacks(yours: Path, tmp_path: Path) -> None:
    out, calls = tmp_path / "out", tmp_path / "calls.txt"
    study = load_config(yours, STUDIES.find("my_studies:Squares"))
    run_study(study, out, lambda share: None)
    whole = (out / "rows.jsonl").read_text()
    (out / "rows.jsonl").write_text(whole[:-10])  # an interrupt in the middle of a line
    shares: list[float] = []
    rows = run_study(study.model_copy(update={"most": 4}), out, shares.append)
    assert rows["square"].tolist() == [0, 1, 4, 9]
    assert calls.read_text().split() == ["0", "1", "2", "2", "3"]
    assert shares == [0.75, 1.0]
    with pytest.raises(ConfigError, match="most differs"):
        run_study(study.model_copy(update={"most": 2}), out, shares.append)


def test_keys_are_changed_on_the_command_line(yours: Path, tmp_path: Path) -> None:
    done = kis("study", yours, "--set", "most=5", "--workers", 1, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 5
    refused = kis("study", yours, "--set", "most", "--out", tmp_path / "other")
    assert "give KEY=VALUE, the value as in YAML" in str(refused.exception)


def test_workers_change_nothing(tmp_path: Path) -> None:
    flat_profile([0.010] * 8).write(tmp_path / "profile.json")
    study = RateSweep(kind="rate-sweep", profile=tmp_path / "profile.json", rates=(20, 80), seeds=2, duration_s=5)
    alone = run_study(study, tmp_path / "alone", lambda share: None)
    together = run_study(study, tmp_path / "together", lambda share: None, Workers(2))
    assert alone.equals(together)
    assert alone[["rate_rps", "seed"]].to_numpy().tolist() == [[20, 0], [80, 0], [20, 1], [80, 1]]
    assert alone["p95_ms"][0] < alone["p95_ms"][1]


def test_the_report_needs_no_import_of_the_kind(tmp_path: Path) -> None:
    flat_profile([0.010] * 8).write(tmp_path / "profile.json")
    study = RateSweep(kind="rate-sweep", profile=tmp_path / "profile.json", rates=(20,), seeds=1, duration_s=2)
    run_study(study, tmp_path / "out", lambda share: None)
    code = "import pathlib, sys; from testbed.reporting.reports import write_report as w; w(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("most: 3\n", "kind is missing"),
        ("kind: rate-swep\n", "did you mean 'rate-sweep'?"),
        ("kind: rate-sweep\nprofile: p.json\nrates: [1]\nsed: 3\n", "did you mean 'seeds'?"),
        ("kind: rate-sweep\nprofile: p.json\nratez: [1]\n", "did you mean 'rates'?"),
        ("kind: no_such_module:Study\n", "is its folder on PYTHONPATH?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    command = [sys.executable, "-m", "testbed.cli", "study", str(tmp_path / "study.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_cells_that_are_the_same_are_refused(tmp_path: Path) -> None:
    flat_profile([0.010] * 8).write(tmp_path / "profile.json")
    study = RateSweep(kind="rate-sweep", profile=tmp_path / "profile.json", rates=(20, 20), seeds=1, duration_s=2)
    with pytest.raises(ConfigError, match="two of its cells are the same"):
        run_study(study, tmp_path / "out", lambda share: None)
    assert not (tmp_path / "out").exists()


def test_rows_are_lines_of_json(tmp_path: Path) -> None:
    flat_profile([0.010] * 8).write(tmp_path / "profile.json")
    study = RateSweep(kind="rate-sweep", profile=tmp_path / "profile.json", rates=(20,), seeds=1, duration_s=2)
    run_study(study, tmp_path / "out", lambda share: None)
    (line,) = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert json.loads(line)["cell"] == {"rate_rps": 20.0, "seed": 0}
