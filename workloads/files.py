"""Files that are written in one step, and what is read of those that others wrote.

A kill at any moment leaves the old file or the new one, never half a one.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)
MOST_BYTES = 1 << 28  # of a file that is read as a whole; a device has no end


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


def read_text(path: Path) -> str:
    """The whole file, with or without a byte order mark. OSError; ValueError if it is no text, or has no end."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None


def parse_json(text: str | bytes) -> Any:
    """ValueError of what is no JSON, and of what Python alone takes for it: NaN and infinity, numbers beyond a float
    or beyond 64 bits, halves of letters. What is nested more deeply than Python goes is refused too."""
    whole = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    try:
        value = json.loads(whole, parse_float=finite, parse_int=_whole, parse_constant=finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not whole.isascii() or "\\u" in whole:
        json.dumps(value, ensure_ascii=False).encode()  # half a pair of UTF-16 is no letter, and cannot be written
    return value


def parse_model(kind: type[M], text: str | bytes) -> M:
    """JSON as that model; ValueError, ValidationError among them. Finite numbers also where the model takes any."""
    return kind.model_validate(parse_json(text))


def first_wrong(error: ValueError) -> str:
    """In a few words: what `parse_model` refuses first, and where."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"


def finite(text: str | float) -> float:
    """The number; ValueError if it is none, NaN or infinite."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{str(text)[:20]} is no finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) >> 64:
        raise ValueError(f"{text[:20]} is beyond 64 bits")
    return number


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
