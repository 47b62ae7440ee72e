"""What a replay prints: all of it is in its log, and the end of it in memory."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

from loadgen.job import LINES_KEPT, keep_output


def test_the_log_has_every_line_and_the_memory_the_last_ones(tmp_path: Path) -> None:
    printed = [f"line {number}" for number in range(5 * LINES_KEPT)]
    kept: deque[str] = deque(maxlen=LINES_KEPT)
    keep_output(io.BytesIO("\n".join(printed).encode() + b"\xff\n"), tmp_path / "locust.log", kept)
    assert list(kept)[:-1] == printed[-LINES_KEPT:-1]
    assert (tmp_path / "locust.log").read_text().splitlines()[:-1] == printed[:-1]


def test_a_log_that_cannot_be_written_costs_no_line(tmp_path: Path) -> None:
    kept: deque[str] = deque(maxlen=LINES_KEPT)
    keep_output(io.BytesIO(b"one\ntwo\n"), tmp_path / "nowhere" / "locust.log", kept)
    assert list(kept) == ["one", "two"]
