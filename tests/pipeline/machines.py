"""Machines as a look might find them."""

from __future__ import annotations

from typing import Any

from testbed.machine import Machine


def machine_of(**found: Any) -> Machine:
    """A good one, but for what is given."""
    good = {
        "looked_unix_ns": 1_750_000_000 * 10**9,
        "duration_s": 3.0,
        "wakeups": 1500,
        "wakeup_p50_ms": 0.01,
        "wakeup_p99_ms": 0.08,
        "wakeup_worst_ms": 0.4,
        "steal_share": 0.0,
        "busy_share": 0.02,
        "cores": 8,
        "clock_source": "tsc",
        "shm_free_bytes": 2**33,
        "open_files": 65536,
    }
    return Machine.model_validate({**good, **found})
