"""Files that are written in one step: a kill at any moment leaves the old file or the new one, never half a one."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The temporary file to write; it becomes `path` when the block ends, and is removed if the block raises.

    It lies in the folder of `path`, as a rename is one step only within a file system.
    """
    temporary = path.with_name(f"{path.name}.writing-{os.getpid()}-{threading.get_native_id()}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str, mode: int = 0o666) -> None:
    """Replace `path` by `text`. mode: permissions of the new file, less those that the umask takes away.

    OSError if it cannot be written.
    """
    with replacing(path) as temporary:
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(opened, "w", encoding="utf-8") as file:
            file.write(text)


def write_json(path: Path, value: Any, mode: int = 0o666) -> None:
    """Replace `path` by `value` as JSON: a pydantic model, or whatever json.dumps takes.

    OSError if it cannot be written; TypeError or ValueError, before the file is touched, if `value` is not JSON.
    """
    text = value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value, ensure_ascii=False)
    write_text_atomically(path, _laid_out(json.loads(text), "") + "\n", mode)


def _laid_out(value: Any, indent: str) -> str:
    """JSON with a line for each entry, but one line for an array of numbers and for each flat object of an array: a
    profile has thousands of numbers, and a table is read by its rows."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        entries = [
            f"{json.dumps(name, ensure_ascii=False)}: {_laid_out(inner_value, inner)}"
            for name, inner_value in value.items()
        ]
    elif (
        isinstance(value, list)
        and value
        and not all(isinstance(inner_value, int | float | None) for inner_value in value)
    ):
        entries = [
            json.dumps(inner_value, ensure_ascii=False) if _is_flat(inner_value) else _laid_out(inner_value, inner)
            for inner_value in value
        ]
    else:
        return json.dumps(value, ensure_ascii=False)
    begin, end = "{}" if isinstance(value, dict) else "[]"
    return begin + ",".join(f"\n{inner}{entry}" for entry in entries) + f"\n{indent}{end}"


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(inner, dict | list) for inner in value.values())
