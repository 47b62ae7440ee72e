"""KISim: Triton's batching rules, compiled, for replicas behind a balancer."""

from __future__ import annotations

import os
from pathlib import Path


def is_compiled() -> bool:
    """Has numba the loops in its cache? Without them the first simulation takes half a minute longer."""
    here = Path(__file__).parent
    cache = Path(os.environ["NUMBA_CACHE_DIR"]) if os.environ.get("NUMBA_CACHE_DIR") else here / "__pycache__"
    source = here / "stream_loop.py"
    return any(index.stat().st_mtime >= source.stat().st_mtime for index in cache.glob(f"**/{source.stem}.*.nbi"))
