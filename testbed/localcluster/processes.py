"""The cluster's processes: started apart from us, found by their arguments, ended.

Found by arguments and not by the pids that we wrote down, so that what a crashed run left is found as well.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from testbed.errors import ClusterError
from testbed.localcluster.layout import LOGS, STATE
from workloads.files import write_json

GPU_KEEPER = "testbed.localcluster.gpus"  # python -m ...
PROGRAMS = frozenset(
    {
        GPU_KEEPER,
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kwok",
        "containerd",
        "containerd-shim-runc-v2",
        "runc",
    }
)
START_S = 60.0  # longest wait for what a daemon that starts is to do
POLL_S = 0.02
_KILL_S = 10.0


@dataclass(frozen=True)
class Daemon:
    """One daemon of the cluster. Its command names the state folder, which is how it is found again."""

    name: str
    command: tuple[str, ...]

    @property
    def log(self) -> Path:
        """All that it wrote, over all its starts."""
        return LOGS / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return STATE / "daemons" / f"{self.name}.json"

    @classmethod
    def recorded(cls, name: str) -> Self:
        """The daemon that `up` started under this name, to start it again; ClusterError if there is none."""
        try:
            record = json.loads((STATE / "daemons" / f"{name}.json").read_text())
        except FileNotFoundError:
            known = ", ".join(daemon.name for daemon in all_recorded()) or "none: the cluster is not up"
            raise ClusterError(f"no daemon '{name}': there are {known}") from None
        return cls(name, tuple(record["command"]))

    def start(self) -> None:
        """Start it in a session of its own, with none of our files: who waits for our output is not kept waiting."""
        for folder in (self.log.parent, self._record.parent):
            folder.mkdir(parents=True, exist_ok=True)
        opened = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            self.command[0],
            self.command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), opened, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        started = psutil.Process(pid).create_time()  # a zombie has one too
        write_json(self._record, {"command": self.command, "pid": pid, "started": started})

    def process(self) -> psutil.Process | None:
        """The running process; None if it has ended."""
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            record = json.loads(self._record.read_text())
            process = psutil.Process(record["pid"])
            if process.create_time() == record["started"] and alive(process):  # else another has its pid now
                return process
        return None

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        process = self.process()
        if process is not None:
            kill([process])

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it wrote nothing"


def all_recorded() -> list[Daemon]:
    """Every daemon that `up` started, by name."""
    return [Daemon.recorded(file.stem) for file in sorted((STATE / "daemons").glob("*.json"))]


def wait_until(what: str, true: Callable[[], bool], daemons: Iterable[Daemon]) -> None:
    """Wait for a condition; ClusterError if it stays false, or if one of the daemons that it needs ends."""
    daemons, deadline = tuple(daemons), time.monotonic() + START_S
    while not true():
        for daemon in daemons:
            if daemon.process() is None:
                raise ClusterError(f"{daemon.name} ended during start-up: {daemon.last_words()}")
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {START_S:g} s")
        time.sleep(POLL_S)


def ours(programs: Iterable[str] = PROGRAMS) -> list[psutil.Process]:
    """The running processes of these programs that belong to this cluster, whoever started them."""
    wanted = frozenset(programs)
    running = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if any(f"{STATE}/" in word for word in command) and _program(command) in wanted and alive(process):
                running.append(process)
    return running


def _program(command: list[str]) -> str:
    return GPU_KEEPER if GPU_KEEPER in command else Path(command[0]).name


def alive(process: psutil.Process) -> bool:
    """False for a zombie too: it only waits for its parent to notice, which process 1 may take a minute to do."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, and wait until they are gone; ClusterError if one stays (in the kernel, on a dead disk)."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + _KILL_S
    while left := [process for process in processes if alive(process)]:
        if time.monotonic() > deadline:
            raise ClusterError(f"process {left[0].pid} does not end after SIGKILL: look at it with ps, or reboot")
        time.sleep(POLL_S)
