"""What the source itself says: comments behind fields, first sentences of docstrings, and their text in tables."""

from __future__ import annotations

import inspect
import re
from types import ModuleType


def cell(text: str) -> str:
    """Plain text, in which only backticks are markup, as one cell of a table."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if k % 2 else re.sub(r"([\\*|<\[\]])", r"\\\1", part) for k, part in enumerate(parts))


def code(text: str) -> str:
    """As code in a cell, in which a bar would end it."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def first_sentence(text: str) -> str:
    """Of a docstring; an abbreviation or a number does not end it."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9)`\]]\.) (?=[A-Z`])", paragraph)[0]


def comments_of(kind: type | ModuleType) -> dict[str, str]:
    """By field, the comments behind the fields of a class, or behind the columns of a module's pyarrow schema."""
    column = r"pa\.field\(\"(?P<name>\w+)\".*?\),"
    field = r" {4}(?P<name>\w+): [^#]*?"
    line = re.compile(rf"^\s*{column if isinstance(kind, ModuleType) else field}\s*# (?P<text>.*)$")
    parents = kind.__mro__[::-1] if isinstance(kind, type) else (kind,)
    found: dict[str, str] = {}
    for each in parents:
        try:
            lines = inspect.getsource(each).splitlines()
        except (OSError, TypeError):  # built in, or made at run time
            continue
        found |= {match["name"]: match["text"] for match in map(line.match, lines) if match}
    return found
