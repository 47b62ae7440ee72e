"""adaptation.jsonl: one line for every step that an adaptation takes."""

from __future__ import annotations

import contextlib
import json
import math
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from loadgen.artifact import ArtifactError, read_json_lines

JOURNAL = "adaptation.jsonl"
AGAIN = "restore it, or choose another folder"
KEPT = 1000  # in memory: a controller runs for months, and takes some steps a day


class JournalEntry(NamedTuple):
    """One step. state: the one that is entered; figures: what it rests on."""

    time_s: float
    state: str
    why: str
    figures: dict[str, Any]


class Journal:
    """Appends entries to a file, each at once; None: there is none."""

    def __init__(self, file: Path | None) -> None:
        self._last, self._unwritten = deque[JournalEntry](maxlen=KEPT), deque[JournalEntry](maxlen=KEPT)
        self._file = file

    @property
    def entries(self) -> list[JournalEntry]:
        """The last KEPT of this process."""
        return list(self._last)

    def note(self, entry: JournalEntry) -> None:
        """Write it down, and what could not be written before: a disk that is full must not stop a policy."""
        self._last.append(entry)
        if self._file is not None:
            self._unwritten.append(entry)
            with contextlib.suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a") as lines:
                    lines.writelines(json.dumps(plain(entry._asdict())) + "\n" for entry in self._unwritten)
                self._unwritten.clear()


def read_journal(file: Path) -> list[dict[str, Any]]:
    """Its lines, each a step as JournalEntry has it; none: there is no file, as no step was taken.

    A last line that was not finished (its process was killed) is left out.
    """
    entries = read_json_lines(file, AGAIN)
    for number, entry in enumerate(entries, 1):
        time_s, state, figures = (entry.get(name) for name in ("time_s", "state", "figures"))
        whole = isinstance(time_s, int | float) and isinstance(state, str) and isinstance(figures, dict)
        if not whole or "why" not in entry:
            raise ArtifactError(f"{file}: entry {number} has not {', '.join(JournalEntry._fields)}: {AGAIN}")
    return entries


def plain(value: Any) -> Any:
    """As JSON has it: what is no number is null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
