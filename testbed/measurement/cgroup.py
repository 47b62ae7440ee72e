"""The CPU quota of this process's cgroup, of version 1 or 2: how many cores' time it may use in a period."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_CONTROLLERS_V1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # as systems name the folder


class CpuQuota(NamedTuple):
    """cores: None without a quota. throttled: periods, since the cgroup was made, that ended early; None: not told."""

    cores: float | None
    throttled: int | None


def read_cpu_quota(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> CpuQuota:
    """The tightest quota of the cgroup and those above it. Where nothing can be read, there is none."""
    cores: list[float] = []
    throttled: list[int] = []
    for folder in _folders(membership, mount):
        quota = _quota_v2(folder / "cpu.max") or _quota_v1(folder)
        if quota is not None:
            cores.append(quota)
            throttled += _throttled(folder / "cpu.stat")
    return CpuQuota(min(cores, default=None), max(throttled, default=None))


def _folders(membership: Path, mount: Path) -> Iterator[Path]:
    """The cgroup's folder and those above it, in each version's tree that has a CPU controller.

    In a container the path may be the host's, of which the mount shows only the last folder, as its root.
    """
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots = [mount]
        elif "cpu" in controllers.split(","):
            roots = [mount / name for name in _CONTROLLERS_V1]
        else:
            continue
        root = next((candidate for candidate in roots if candidate.is_dir()), None)
        if root is not None:
            inner = root / path.lstrip("/")
            yield inner
            yield from (above for above in inner.parents if above == root or root in above.parents)


def _quota_v2(file: Path) -> float | None:
    """cpu.max: `150000 100000`, or `max 100000`."""
    words = _text(file).split()
    return None if len(words) != 2 or words[0] == "max" else int(words[0]) / int(words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = (_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    return None if not quota or not period or int(quota) < 0 else int(quota) / int(period)


def _throttled(file: Path) -> list[int]:
    return [int(line.split()[1]) for line in _text(file).splitlines() if line.startswith("nr_throttled ")]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
