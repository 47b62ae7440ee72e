"""One JSON line of a long-running process's log."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TextIO


def print_line(log: TextIO | None = None, **told: Any) -> None:
    """`{"time": "2026-01-01T00:00:00Z", ...}` and a line's end, at once. log None: stderr, as it is now."""
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **told}
    print(json.dumps(line), file=sys.stderr if log is None else log, flush=True)


def of_error(error: BaseException) -> str:
    """`ValueError: what it says`, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
