"""What a service leaves on the machine."""

from __future__ import annotations

from pathlib import Path

import psutil


def alive(process: psutil.Process) -> bool:
    """False for a zombie too: it only waits for its parent to notice."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Remains:
    """The processes and shared memory of a service, to see them gone."""

    def __init__(self, pids: list[int]) -> None:
        self.processes = [
            child for pid in pids for child in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
        ]
        prefixes = {
            word.split("=")[-1]
            for process in self.processes
            for word in process.cmdline()
            if "shm-region-prefix" in word
        }
        self.regions = [region for prefix in prefixes for region in Path("/dev/shm").glob(f"{prefix}*")]
        assert len(self.processes) > len(pids), "a server has stubs"
        assert self.regions, "a stub has shared memory"

    def all_gone(self) -> bool:
        return not any(map(alive, self.processes)) and not any(region.exists() for region in self.regions)
