"""Kernel settings that a kubelet changes: remembered when the cluster starts, put back when it ends."""

from __future__ import annotations

import json
from pathlib import Path

from testbed.localcluster.layout import STATE
from workloads.files import write_json

_CHANGED = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_KERNEL = Path("/proc/sys")
_REMEMBERED = STATE / "sysctls.json"


def values() -> dict[str, str]:
    """Their values now."""
    return {name: (_KERNEL / name).read_text().strip() for name in _CHANGED}


def remember() -> None:
    """Write them down."""
    write_json(_REMEMBERED, values())


def restore() -> None:
    """Put back what was written down, if anything was."""
    if _REMEMBERED.exists():
        for name, value in json.loads(_REMEMBERED.read_text()).items():
            if values()[name] != value:
                (_KERNEL / name).write_text(value)
