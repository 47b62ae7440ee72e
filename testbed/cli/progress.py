"""Progress of long work: a live bar on a terminal, one line a phase elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class ConsoleNarrator:
    """Context manager; implements pipeline.made_runs.Narrator."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begin = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def phase(self, text: str) -> None:
        """A line that stays, with the time since the start; the bar begins anew."""
        elapsed = time.monotonic() - self._begin
        self._console.print(
            f"[dim]{int(elapsed // 60):3d}:{int(elapsed % 60):02d}[/dim]  {escape(text)}", highlight=False
        )
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(escape(text), total=1.0)

    def progress(self, share: float) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=min(share, 1.0))
