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
    """Replace `path` by `value` as JSON, indented by 2: a pydantic model, or whatever json.dumps takes.

    OSError if it cannot be written; TypeError or ValueError, before the file is touched, if `value` is not JSON.
    """
    text = value.model_dump_json(indent=2) if isinstance(value, BaseModel) else json.dumps(value, indent=2)
    write_text_atomically(path, text + "\n", mode)
