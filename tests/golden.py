"""The committed campaigns with their runs: the real ones unpacked, the simulated ones that a test wants."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from testbed.pipeline.restore import restore

RESULTS = Path(__file__).parents[1] / "results"


class Silent:
    """A progress reporter that tells nothing."""

    def phase(self, text: str) -> None: ...

    def progress(self, share: float) -> None: ...


def restored(name: str, into: Path, wanted: Callable[[str], bool] = lambda run: False) -> Path:
    """A copy of results/`name` in the folder `into`, with its real runs and the wanted simulated ones."""
    folder = into / name
    shutil.copytree(RESULTS / name, folder, ignore=shutil.ignore_patterns("runs", "logs", "figures", "*.png"))
    restore(folder, Silent(), wanted)
    return folder
