"""Figures that stand at the end of a report, without being named by the report or its templates.

One is a function in a file of its own in figures/, or in a package of yours, which names it as an entry point of the
group `kis.figures`:

    @added_to("cluster", "Offered rate for each ready replica")
    def load(folder: Path) -> Figure: ...
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from testbed.reporting import figures

Draw = Callable[[Path], Figure]


class Added(NamedTuple):
    """report: its name. name: of the function, unique in a report. draw: of the report's folder.

    needs: a file of that folder; without it there is nothing to draw.
    """

    report: str
    name: str
    caption: str
    draw: Draw
    needs: str = ""

    def applies(self, folder: Path) -> bool:
        """Whether such a folder has what is drawn."""
        return (folder / self.needs).exists()

    @property
    def picture(self) -> str:
        """Its file beside report.md."""
        return f"figures/{self.name}.png"


_ADDED: dict[tuple[str, str], Added] = {}


def added_to(report: str, caption: str, needs: str = "") -> Callable[[Draw], Draw]:
    """Registers a function that draws a figure of such a report's folder; needs: a file that it is drawn from."""

    def register(draw: Draw) -> Draw:
        _ADDED[report, draw.__name__] = Added(report, draw.__name__, caption, draw, needs)
        return draw

    return register


def figures_added_to(report: str) -> list[Added]:
    """In the order of their names."""
    for file in pkgutil.iter_modules(figures.__path__):
        importlib.import_module(f"{figures.__name__}.{file.name}")
    for entry in entry_points(group="kis.figures"):
        entry.load()  # a figure adds itself
    return [one for key, one in sorted(_ADDED.items()) if one.report == report]
