"""How much slower than its profile the emulated accelerator is just now: a number in a file, that may change."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

LOOK_S = 0.1  # the file is looked at no more often
MOST = 100.0
LONGEST = 64  # bytes of a number


class Slowness:
    """The factor in the file; 1 without one. What is no factor is told on stderr and ignored: the last one holds."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._factor, self._looked_s = 1.0, -math.inf
        self._known: tuple[int, int, int] | None = None  # what the file was when it was last read

    def factor(self, now_s: float | None = None) -> float:
        """Of a batch that starts now. now_s: on a monotonic clock."""
        now_s = time.monotonic() if now_s is None else now_s
        if self._file is not None and now_s >= self._looked_s + LOOK_S:
            self._looked_s = now_s
            self._look(self._file)
        return self._factor

    def _look(self, file: Path) -> None:
        try:
            about = os.stat(file)
        except FileNotFoundError:
            self._known, self._factor = None, 1.0
            return
        except OSError as error:
            self._ignore((0, 0, 0), error)
            return
        now = about.st_mtime_ns, about.st_size, about.st_ino
        if now == self._known:
            return
        try:
            with file.open("rb") as content:
                factor = float(content.read(LONGEST + 1))
            if not 0 < factor <= MOST:
                raise ValueError(f"{factor:g} is not above 0 and at most {MOST:g}")
        except (OSError, ValueError) as error:
            self._ignore(now, error)
            return
        self._known, self._factor = now, factor

    def _ignore(self, now: tuple[int, int, int], error: Exception) -> None:
        if now != self._known:
            self._known = now
            print(f"slowness file {self._file}: {error}; it stays {self._factor:g}", file=sys.stderr, flush=True)
