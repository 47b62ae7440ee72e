"""A kind of study in one file: what is run for each of its cells, and which figures are drawn of them.

    class RateSweep(GridStudy):
        name: ClassVar[str] = "rate-sweep"
        rates: tuple[float, ...] = Field(description="requests/s")          # fields are keys of its configuration
        def cells(self): return [{"rate_rps": rate} for rate in self.rates]
        def run(self, cell): return {"p95_ms": ...}

In a file of testbed/pipeline/studies/ it is known by its name, anywhere else by its place, `my_module:MyStudy`, or as
an entry point of the group `kis.studies`; its folder is on PYTHONPATH then. Figures that are drawn under
`rc_context(testbed.reporting.drawing.LOOK)` look as the others do.

`kis study FILE.yaml`, whose `kind` names it, runs what is not there yet, in any number of processes or on Ray, goes on
after an interrupt, and writes a page with the table and the figures.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from pydantic import Field

from loadgen.artifact import ArtifactError, read_json_lines
from testbed.config import Strict
from testbed.errors import ConfigError
from testbed.study import HERE, Workers, computed, remember
from workloads.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = Mapping[str, Any]  # JSON values; two cells of a study differ
CONFIG, ROWS = "study.json", "rows.jsonl"
AGAIN = "remove it to run its cells again"


class GridStudy(Strict, ABC):
    """A configuration, and what is done with it.

    title: of its page. note: what its numbers are, in a sentence. may_grow: keys that may be raised when it goes on.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    note: ClassVar[str] = ""
    may_grow: ClassVar[tuple[str, ...]] = ()

    kind: str = Field(description="kind of study: a name, or my_module:MyStudy")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if "name" in cls.__dict__:
            STUDIES.add(cls.name, cls)

    @abstractmethod
    def cells(self) -> Sequence[Cell]:
        """In the order in which they are run and listed."""

    @abstractmethod
    def run(self, cell: Cell) -> Mapping[str, float | str | None]:
        """Figures of a cell, by name with unit; the same cell gives the same ones. None: there is none."""

    def figures(self, rows: pd.DataFrame) -> Mapping[str, Callable[[], Figure]]:
        """By caption. rows: a row a cell, its keys and its figures as columns."""
        return {}


STUDIES: Registry[type[GridStudy]] = Registry.of_subclasses(GridStudy, "kind of study", ConfigError, "kis.studies")


def run_study(
    study: GridStudy, folder: Path, on_progress: Callable[[float], None], workers: Workers = HERE
) -> pd.DataFrame:
    """Run the cells that are not there yet; a row a cell, in their order. The files are the same for any workers.

    ConfigError if the folder is of other settings, or a cell is there twice.
    """
    cells = list(study.cells())
    if len(set(map(_key, cells))) < len(cells):
        raise ConfigError(f"study {study.kind}: two of its cells are the same: name in each what differs")
    place = f"{type(study).__module__}:{type(study).__qualname__}"  # who reads the folder need not know the name
    remember(study.model_copy(update={"kind": place}), folder / CONFIG, may_grow=study.may_grow)
    rows = {_key(row["cell"]): row for row in _written(folder / ROWS)}
    missing = [cell for cell in cells if _key(cell) not in rows]
    share_kept = 1 - len(missing) / max(1, len(cells))
    with (folder / ROWS).open("a") as lines:
        results = computed(
            study.run, missing, workers, lambda share: on_progress(share_kept + share * (1 - share_kept))
        )
        for cell, result in zip(missing, results, strict=True):
            lines.write(f"{json.dumps({'cell': cell, 'result': result})}\n")
            lines.flush()
    return read_rows(study, folder)


def read_rows(study: GridStudy, folder: Path) -> pd.DataFrame:
    """Of the cells that have been run."""
    rows = {_key(row["cell"]): {**row["cell"], **row["result"]} for row in _written(folder / ROWS)}
    return pd.DataFrame([rows[key] for cell in study.cells() if (key := _key(cell)) in rows])


def _written(file: Path) -> list[dict[str, Any]]:
    """Its whole lines: an interrupt may have cut the last one."""
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        file.write_bytes(whole)
    rows = read_json_lines(file, AGAIN)
    for number, row in enumerate(rows, 1):
        if not all(isinstance(row.get(name), dict) for name in ("cell", "result")):
            raise ArtifactError(f"{file}: row {number} has no cell and result: {AGAIN}")
    return rows


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)
