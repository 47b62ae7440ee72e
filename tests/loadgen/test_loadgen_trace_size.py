"""A week of requests is read in pieces: what stays is 8 bytes an arrival."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

from loadgen.traces import read_recorded

ROWS = 300_000


def test_memory_grows_by_little_more_than_the_arrivals(tmp_path: Path) -> None:
    def peak_of(rows: int) -> int:
        path = tmp_path / f"{rows}.csv.gz"
        lines = (f"2024-05-12 00:{k // 60000:02}:{k // 1000 % 60:02}.{k % 1000:03},5,3\n" for k in range(rows))
        path.write_bytes(gzip.compress(("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(lines)).encode(), 1))
        tracemalloc.start()
        try:
            assert len(read_recorded(path).times_ns) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_of(1000)  # what is imported once
    assert (peak_of(ROWS) - peak_of(ROWS // 2)) / (ROWS - ROWS // 2) < 40  # bytes a row; a string alone has 70
