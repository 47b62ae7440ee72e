"""What commands have to do with a terminal: tables, paths, the progress of long work, and signals."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import threading
import time
from pathlib import Path
from types import TracebackType

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from testbed.reporting.live import PROGRESS, Progress
from workloads.files import write_json

console = Console()
TOLD_S = 2.0  # from one progress.json to the next


def say(text: str, style: str | None = None) -> None:
    """A line as it is: no markup, no colours of numbers, no wrapping."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def print_path(console: Console, path: Path) -> None:
    """A path on a line of its own, never wrapped, so that it can be copied."""
    console.print(str(path), soft_wrap=True, highlight=False, markup=False)


def shown(value: float | None, form: str = ".2f") -> str:
    """A number of a table; -: it was not measured."""
    return "-" if value is None else f"{value:{form}}"


def table(first: str, *headings: str, caption: str) -> Table:
    """Names on the left, numbers on the right; in a narrow terminal names are folded, and headings between words."""
    made = Table(box=SIMPLE, caption=caption, pad_edge=False)
    made.add_column(first, overflow="fold", min_width=16)
    for heading in headings:
        made.add_column(heading, justify="right", overflow="fold", min_width=max(map(len, [*heading.split(), "0.000"])))
    return made


def stop_event() -> threading.Event:
    """Set by SIGTERM or ctrl-c, so that what runs until then ends in order."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


class ConsoleReporter(Bar):
    """Context manager; implements pipeline.made_runs.Reporter: a bar on a terminal, one line a phase elsewhere.

    folder: where the results go; once it is there, and as long as this is open, its progress.json tells `kis watch`.
    """

    def __init__(self, folder: Path | None = None, console: Console = console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn())
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._begun_s = time.monotonic()
        self._phase: TaskID | None = None
        self._file = None if folder is None else folder / PROGRESS
        now_s = time.time()
        self._told = Progress(phase="", begun_unix_s=now_s, phase_unix_s=now_s, pid=os.getpid(), host=platform.node())
        self._tell_s = 0.0  # when the file is written again

    def phase(self, text: str) -> None:
        """A line that stays, with the time since the start; the bar begins anew."""
        minutes, seconds = divmod(int(time.monotonic() - self._begun_s), 60)
        self.console.print(f"[dim]{minutes:3d}:{seconds:02d}[/dim]  {escape(text)}", highlight=False)
        if self._phase is not None:
            self.remove_task(self._phase)
        self._phase = self.add_task(escape(text), total=1.0)
        self._told = self._told.model_copy(
            update={"phase": text, "share": None, "phase_unix_s": time.time(), "first_share": 0.0}
        )
        self._tell()

    def progress(self, share: float) -> None:
        """Move the bar."""
        if self._phase is not None:
            self.update(self._phase, completed=min(share, 1.0))
        share = min(max(share, 0.0), 1.0)
        first = share if self._told.share is None else self._told.first_share
        self._told = self._told.model_copy(update={"share": share, "first_share": first})
        if time.monotonic() >= self._tell_s:
            self._tell()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _tell(self) -> None:
        """Never in the way of what is done: a folder that is not there yet, or takes no file, is left alone."""
        if self._file is not None and self._file.parent.is_dir():
            self._tell_s = time.monotonic() + TOLD_S
            with contextlib.suppress(OSError):
                write_json(self._file, self._told)
