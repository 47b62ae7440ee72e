"""The example in each command's help: what is typed and what is printed then, shortened; examples/COMMAND.txt.

`...` stands for lines that are left out. A first line `# run` (or `# run with: FLAGS`) says that a test runs the
example (with these flags, so that it is quick) and compares the shape of what is printed: lines, with any numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("examples")
MARK = "# run"


class Example(NamedTuple):
    """typed: the command line, with line breaks as a shell takes them. flags: of the test; None: it is not run."""

    typed: str
    printed: tuple[str, ...]
    flags: str | None

    @property
    def text(self) -> str:
        """As in a terminal."""
        return "\n".join((f"$ {self.typed}", *self.printed))


def read_example(command: str) -> Example:
    """Of a command."""
    first, *rest = (FOLDER / f"{command}.txt").read_text().rstrip("\n").split("\n")
    lines = rest if first.startswith(MARK) else [first, *rest]
    flags = first.partition("with:")[2].strip() if first.startswith(MARK) else None
    end = next(number for number, line in enumerate(lines) if not line.endswith("\\")) + 1
    return Example("\n".join(lines[:end]).removeprefix("$ "), tuple(lines[end:]), flags)
