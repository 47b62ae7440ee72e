"""Each node's cgroup, in every hierarchy (cgroup v1 has several, v2 one)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from testbed.localcluster.processes import POLL_S, alive

_PREFIX = "kis-"
_REMOVE_S = 5.0


def root_of(node: str) -> str:
    """The node's cgroup as the kubelet's cgroupRoot names it."""
    return f"/{_PREFIX}{node}"


def create(node: str) -> None:
    """Make it. A new cpuset of v1 has no CPUs until somebody writes some, and takes no process before."""
    for hierarchy in _hierarchies():
        folder = hierarchy / f"{_PREFIX}{node}"
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / name).exists() and hierarchy.name.startswith("cpuset"):
                (folder / name).write_text((hierarchy / name).read_text())


def processes() -> list[psutil.Process]:
    """All that runs in the nodes' cgroups: the pods."""
    pids: set[int] = set()
    for root in roots():
        for file in root.rglob("cgroup.procs"):
            with suppress(OSError):
                pids.update(map(int, file.read_text().split()))
    inside = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            inside.append(psutil.Process(pid))
    return [process for process in inside if alive(process)]


def remove() -> list[Path]:
    """Remove the nodes' cgroups, whose processes have ended; returns those that stay after some seconds."""
    deadline = time.monotonic() + _REMOVE_S
    while left := list(roots()):
        for root in left:
            below = sorted((path for path in root.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
            for folder in (*below, root):
                with suppress(OSError):  # a killed process leaves its cgroup a moment later
                    folder.rmdir()
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return left


def roots() -> Iterator[Path]:
    """The nodes' cgroups that exist, in all hierarchies."""
    for hierarchy in _hierarchies():
        yield from hierarchy.glob(f"{_PREFIX}node-*")


def _hierarchies() -> list[Path]:
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]
