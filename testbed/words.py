"""Numbers with what they count: the one way, for the terminal and for pages."""

from __future__ import annotations


def counted(count: int, one: str, several: str | None = None, *, group: str = ",") -> str:
    """`1 run`, `1,200 runs`. several: where it is not `one` and an s; group: stands between thousands."""
    number = f"{count:,}".replace(",", group)
    return f"{number} {one if count == 1 else several or one + 's'}"
