"""What commands have to do with a terminal: tables, paths, the progress of long work, and signals."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

console = Console()
LINE_EVERY_S = 10.0  # where there is no terminal for a bar
FILE_EVERY_S = 2.0  # progress.json


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


class _Lines(logging.Handler):
    """A line of the console, above the bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """As `say`."""
        say(record.getMessage())


def show_log(name: str) -> None:
    """What that logger is told, from INFO on, is shown."""
    log = logging.getLogger(name)
    log.handlers[:] = [_Lines()]
    log.setLevel(logging.INFO)


class ConsoleReporter(Bar):
    """Context manager; implements pipeline.made_runs.Reporter: what goes on, and how long it still takes.

    A phase is a line that stays. On a terminal a bar runs below it; elsewhere a line every LINE_EVERY_S says how far
    it is, without control characters. As long as this is open, progress.json in the results folder tells `kis watch`.
    """

    def __init__(
        self, folder: Path | None = None, console: Console = console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from testbed.progress import Progress  # not for the help, which comes at once

        columns = (SpinnerColumn(), BarColumn(bar_width=30), TextColumn("{task.description}"))
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal, get_time=clock)
        self._clock = clock
        begun_s = time.time()
        self._unix_s = begun_s - clock()  # of the clock's zero
        self._told = Progress(
            phase="", begun_unix_s=begun_s, phase_unix_s=begun_s, pid=os.getpid(), host=platform.node()
        )
        self._line_s, self._file_s = begun_s, 0.0  # when a line and the file were written
        self._folder = folder
        self._bar: TaskID | None = None

    def keep_in(self, folder: Path) -> None:
        """progress.json goes there, once the folder is there."""
        self._folder = folder

    def phase(self, text: str) -> None:
        """A line that stays, with the time since the start; the bar begins anew."""
        self.note(text)
        now_s = self._line_s = self._now_s()
        self._told = self._told.model_copy(
            update={"phase": text, "share": None, "phase_unix_s": now_s, "first_share": 0.0, "first_unix_s": None}
        )
        if self._bar is not None:
            self.remove_task(self._bar)
        self._bar = self.add_task("", total=None)
        self._keep(now_s)

    def notes(self, notes: Iterable[str]) -> None:
        """What the user may not have meant: a line each."""
        for text in notes:
            self.note(f"note: {text}")

    def note(self, text: str) -> None:
        """A line that stays, in a phase that goes on."""
        since = minutes(self._now_s() - self._told.begun_unix_s)
        if not self.console.is_terminal:
            self.console.print(f"{since}  {text}", highlight=False, markup=False, soft_wrap=True)
            return
        line = Table.grid(padding=(0, 2))  # the lines of a long text stand beside the time
        line.add_row(f"[dim]{since}[/dim]", escape(text))
        self.console.print(line, highlight=False)

    def progress(self, share: float) -> None:
        """So much of the phase is done, 0..1."""
        now_s, share = self._now_s(), min(max(share, 0.0), 1.0)
        told = {"share": share}
        if self._told.share is None:
            told |= {"first_share": share, "first_unix_s": now_s}
        self._told = self._told.model_copy(update=told)
        left_s = self._told.left_s(now_s)
        text = f"{100 * share:.0f} %" + ("" if left_s is None else f", about {minutes(round(left_s)).strip()} left")
        if self._bar is not None:
            self.update(self._bar, total=1.0, completed=share, description=text)
        if not self.console.is_terminal and now_s - self._line_s >= LINE_EVERY_S and share < 1:
            self._line_s = now_s
            self.note(text)
        if now_s - self._file_s >= FILE_EVERY_S:
            self._keep(now_s)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from testbed.progress import PROGRESS

        super().__exit__(kind, error, trace)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / PROGRESS).unlink(missing_ok=True)

    def _now_s(self) -> float:
        return self._unix_s + self._clock()

    def _keep(self, now_s: float) -> None:
        """Never in the way of what is done: a folder that is not there yet, or takes no file, is left alone."""
        from testbed.progress import PROGRESS
        from workloads.files import write_json

        if self._folder is not None and self._folder.is_dir():
            self._file_s = now_s
            with contextlib.suppress(OSError):
                write_json(self._folder / PROGRESS, self._told)


def minutes(seconds: float) -> str:
    """`  1:20`."""
    return f"{int(seconds) // 60:3d}:{int(seconds) % 60:02d}"
