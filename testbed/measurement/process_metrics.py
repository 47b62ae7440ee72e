"""CPU and memory of the server's and the client's processes, and of the whole machine, so that foreign load shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psutil

from testbed.measurement.metric_log import Sample

# Looking up who descends from whom reads every process of the machine, some milliseconds: not at every reading.
_LOOK_UP_EVERY = 5


class ProcessSource:
    """Cumulative CPU seconds and resident memory of process trees, by role.

    roles: returns role -> root process id at that moment, e.g. {"server:replica-0": 4711, "client:0": 4712}. Trees
    should not overlap: their common part would count in both. A process that went away simply has no more rows. CPU
    seconds of a tree count its running processes and those descendants that ended and were waited for, so a child that
    comes and goes is not lost.
    """

    name = "process"

    def __init__(self, roles: Callable[[], Mapping[str, int]]) -> None:
        self._roles = roles
        self._roots: dict[tuple[str, int], psutil.Process] = {}
        self._trees: dict[tuple[str, int], list[psutil.Process]] = {}
        self._readings_since_look_up = 0

    def sample(self) -> list[Sample]:
        """One reading of all roles and of the machine."""
        rows = _machine()
        for role, tree in self._current_trees().items():
            try:
                if tree[0].status() == psutil.STATUS_ZOMBIE:  # ended, but nobody has waited for it yet
                    continue
                cpu_s = sum(_cpu_seconds(process) for process in tree)
                rss = sum(process.memory_info().rss for process in tree)
            except psutil.NoSuchProcess:  # a part of the tree ended: wait for the next look-up rather than show a dip
                self._trees.clear()
                continue
            rows.append((self.name, "cpu_seconds", {"role": role}, cpu_s, "s"))
            rows.append((self.name, "memory_rss", {"role": role}, rss, "bytes"))
        return rows

    def _current_trees(self) -> dict[str, list[psutil.Process]]:
        """Role -> its running processes, root first; a role whose root is gone is left out."""
        roots = set(self._roles().items())
        if roots != self._trees.keys() or self._readings_since_look_up >= _LOOK_UP_EVERY:
            self._trees = {(role, pid): self._tree(role, pid) for role, pid in roots}
            self._readings_since_look_up = 0
        self._readings_since_look_up += 1
        return {role: tree for (role, _), tree in sorted(self._trees.items()) if tree}

    def _tree(self, role: str, pid: int) -> list[psutil.Process]:
        try:
            # A root is looked up once: its number, used anew by another process, must not be taken for it.
            root = self._roots.setdefault((role, pid), psutil.Process(pid))
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _machine() -> list[Sample]:
    """Busy time of all processors, and time that a hypervisor kept from them, since boot."""
    times = psutil.cpu_times()
    # Guest time is part of user; idle, iowait and steal are not ours to call busy.
    busy = sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))
    rows: list[Sample] = [("process", "cpu_seconds", {"role": "machine"}, busy, "s")]
    if hasattr(times, "steal"):
        rows.append(("process", "steal_seconds", {"role": "machine"}, times.steal, "s"))
    return rows
