"""What commands have to do with a terminal: tables, paths, the progress of long work, and signals."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

console = Console()
LINE_EVERY_S = 10.0  # where there is no terminal for a bar


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


class ConsoleReporter(Progress):
    """Context manager; implements pipeline.made_runs.Reporter: what goes on, and how long it still takes.

    A phase is a line that stays. On a terminal a bar runs below it; elsewhere a line every LINE_EVERY_S says how far
    it is, without control characters.
    """

    def __init__(self, console: Console = console, clock: Callable[[], float] = time.monotonic) -> None:
        columns = (SpinnerColumn(), BarColumn(bar_width=30), TextColumn("{task.description}"))
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal, get_time=clock)
        self._clock = clock
        self._begun_s = clock()
        self._phase = _Phase(self._begun_s)
        self._bar: TaskID | None = None

    def phase(self, text: str) -> None:
        """A line that stays, with the time since the start; the bar begins anew."""
        self.note(text)
        self._phase = _Phase(self._clock())
        if self._bar is not None:
            self.remove_task(self._bar)
        self._bar = self.add_task("", total=None)

    def note(self, text: str) -> None:
        """A line that stays, in a phase that goes on."""
        self.console.print(f"[dim]{minutes(self._clock() - self._begun_s)}[/dim]  {escape(text)}", highlight=False)

    def progress(self, share: float) -> None:
        """So much of the phase is done, 0..1."""
        now_s, share = self._clock(), min(share, 1.0)
        self._phase.reached(share, now_s)
        told = self._phase.told(now_s)
        if self._bar is not None:
            self.update(self._bar, total=1.0, completed=share, description=told)
        if not self.console.is_terminal and self._phase.is_due(now_s):
            self.note(told)


@dataclass
class _Phase:
    """How far a phase is. What an earlier, interrupted command had done says nothing of the pace of this one."""

    begun_s: float
    first: tuple[float, float] | None = None  # share and time
    share: float = 0.0
    line_s: float = 0.0

    def __post_init__(self) -> None:
        self.line_s = self.begun_s

    def reached(self, share: float, now_s: float) -> None:
        self.first = self.first or (share, now_s)
        self.share = max(self.share, share)

    def left_s(self, now_s: float) -> float | None:
        """As long as it takes at the pace so far; None: nothing is known of it yet."""
        if self.first is None or self.share <= self.first[0]:
            return None
        return (now_s - self.first[1]) * (1 - self.share) / (self.share - self.first[0])

    def told(self, now_s: float) -> str:
        """`40 %, about 1:20 left`."""
        left_s = self.left_s(now_s)
        return f"{self.share:.0%}" + ("" if left_s is None else f", about {minutes(left_s).strip()} left")

    def is_due(self, now_s: float) -> bool:
        """Is it time for a line?"""
        due = now_s - self.line_s >= LINE_EVERY_S and self.share < 1
        self.line_s = now_s if due else self.line_s
        return due


def minutes(seconds: float) -> str:
    """`  1:20`."""
    return f"{int(seconds) // 60:3d}:{int(seconds) % 60:02d}"
