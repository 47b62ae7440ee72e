"""One rule for results folders that go on: which settings may be others, and cells that are the same in any process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from loadgen.artifact import ArtifactError
from testbed.errors import ConfigError
from testbed.ray_cluster import load_ray
from testbed.study import HERE, Workers, computed, remember


class Model(BaseModel):
    name: str = "m"
    profile: str = "p.json"


class Config(BaseModel):
    seed: int = 1
    repeats: int = 2
    models: tuple[Model, ...] = (Model(),)
    traffic: dict[str, dict[str, Any]] = {"ramp": {"peak": 3}}
    added_later: bool = False


CHANGE, GROW = ("models.*.profile",), ("repeats", "traffic")


def go_on(folder: Path, **changes: Any) -> None:
    file = folder / "new" / "config.json"
    if not file.exists():
        remember(Config(), file)
    remember(Config(**changes), file, may_change=CHANGE, may_grow=GROW)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"models": (Model(profile="q.json"),)},
        {"repeats": 3},
        {"traffic": {"ramp": {"peak": 3}, "bursts": {"peak": 9}}},
    ],
)
def test_a_study_goes_on_where_nothing_else_changed(tmp_path: Path, changes: dict[str, Any]) -> None:
    go_on(tmp_path, **changes)
    written = Config.model_validate_json((tmp_path / "new" / "config.json").read_text())
    assert written == Config(**changes)  # what was added is remembered
    go_on(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 2}, "seed"),
        ({"models": (Model(name="n", profile="q.json"),)}, "models.0.name"),
        ({"models": (Model(), Model())}, "models"),
        ({"repeats": 1}, "repeats"),
        ({"traffic": {"ramp": {"peak": 4}}}, "traffic.ramp.peak"),
        ({"traffic": {"ramp": {"peak": 3, "base": 1}}}, "traffic.ramp"),
        ({"traffic": {"bursts": {"peak": 3}}}, "traffic.ramp"),
    ],
)
def test_other_settings_are_refused_by_their_key(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    file = tmp_path / "new" / "config.json"
    go_on(tmp_path)
    before = file.read_text()
    with pytest.raises(ConfigError, match=rf"config.json was made with other settings \({key} differs\)"):
        go_on(tmp_path, **changes)
    assert file.read_text() == before


def test_a_key_that_the_folder_does_not_have_yet_has_its_default(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    remember(Config(), file)
    file.write_text(file.read_text().replace('"added_later": false', '"seed": 1'))
    remember(Config(), file)
    with pytest.raises(ConfigError, match="added_later"):
        remember(Config(added_later=True), file)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("{")
    with pytest.raises(ArtifactError, match=r"config.json: not JSON .* choose another folder"):
        remember(Config(), file)


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("workers", [HERE, Workers(2)])
def test_cells_come_in_order_with_their_progress(workers: Workers) -> None:
    shares: list[float] = []
    assert list(computed(square, [3, 1, 2, 5], workers, shares.append)) == [9, 1, 4, 25]
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_no_cells_are_no_work() -> None:
    assert list(computed(square, [], Workers(2), lambda share: None)) == []


def test_on_ray_cells_are_the_same() -> None:
    pytest.importorskip("ray")
    load_ray()
    assert list(computed(square, [3, 1, 2], Workers(ray="local"), lambda share: None)) == [9, 1, 4]
