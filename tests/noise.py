"""A noisy host to run tests on: `python -m tests.noise -- make test`.

A virtual machine's processors are taken away by its host for milliseconds, and neighbours want them, too. This runs a
command beside busy loops (`--busy`, one a core unless told otherwise), and stops its processes again and again for some
milliseconds (`--stop-ms`), at random moments (`--every-ms` between the end of one stop and the next): half of the times
one process, whichever, and half of the times all of them at once, as when the host takes every processor. Processes are
found again twice a second, by their parents and by a mark in their environment, so that daemons are found as well.

What it does not model: a host stops a processor in whatever it does, the kernel too, and nobody is told. Here a stopped
process's parent hears of it (SIGCHLD), the kernel goes on (connections are taken, packets acknowledged), a process that
another has stopped is left alone, and one that lives shorter than half a second is hardly ever hit.

However this ends, nothing of it stays: a guardian in a session of its own has the busy loops, is told who is about to
be stopped, and lets everyone go on when the pipe to it closes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

MARK = "KIS_TESTS_NOISE"  # in the environment of everything that the command starts
REFRESH_S = 0.5
_SIGSTOP_BIT = 1 << (signal.SIGSTOP - 1)
# Each line names who is stopped from now on; an empty line: nobody. Its end of the pipe closes with this process.
_GUARDIAN = """
trap '' INT TERM HUP QUIT
busy=
for i in $(seq "$0"); do (while :; do :; done) & busy="$busy $!"; done
stopped=
while read -r line; do stopped=$line; done
[ -z "$stopped" ] || kill -CONT $stopped 2> /dev/null
[ -z "$busy" ] || kill -KILL $busy
"""


class Guardian:
    """Keeps the busy loops, and lets the stopped go on if this process cannot."""

    def __init__(self, busy: int) -> None:
        self._busy = busy

    def __enter__(self) -> Guardian:
        self._process = subprocess.Popen(
            ["sh", "-c", _GUARDIAN, str(self._busy)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def told(self, pids: list[int]) -> None:
        """Who is stopped from now on."""
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), (" ".join(map(str, pids)) + "\n").encode())


class Tree:
    """The processes that carry the mark, and their children, as they were at most REFRESH_S ago."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._ours: dict[int, bool] = {os.getpid(): False}
        self._looked_s = -REFRESH_S

    def pids(self) -> list[int]:
        """In the order in which they were found."""
        if time.monotonic() - self._looked_s >= REFRESH_S:
            there = [int(name) for name in os.listdir("/proc") if name.isdigit()]
            known = self._ours
            self._ours = {pid: known[pid] for pid in there if pid in known}
            for pid in there:
                if pid not in self._ours:
                    mark = _mark_of(pid)
                    self._ours[pid] = self._ours.get(_parent_of(pid), False) if mark is None else mark == self._mark
            self._looked_s = time.monotonic()
        return [pid for pid, ours in self._ours.items() if ours]


def _mark_of(pid: int) -> str | None:
    """Of the noise that it runs in, the innermost one: two that stop one process could each leave it to the other."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    marks = [variable.partition(b"=")[2].decode() for variable in variables if variable.startswith(f"{MARK}=".encode())]
    return marks[0] if marks else None


def _stat_of(pid: int) -> list[str]:
    """/proc/PID/stat from the state on; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent_of(pid: int) -> int:
    stat = _stat_of(pid)
    return int(stat[1]) if stat else 0


def _runs(pid: int) -> bool:
    """False if it is gone, has ended, or was stopped by someone."""
    return _stat_of(pid)[:1] not in ([], ["T"], ["t"], ["Z"], ["X"])


def _another_stopped_it_too(pid: int) -> bool:
    """A SIGSTOP to a process that we have stopped waits until our SIGCONT, which would throw it away."""
    if _stat_of(pid)[:1] != ["T"]:
        return False  # ours may not even have arrived
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(signals & _SIGSTOP_BIT for signals in pending)


def stop_for(pids: list[int], seconds: float, guardian: Guardian) -> int:
    """Stop those that run for a while; how many those were."""
    stopped = [pid for pid in pids if _runs(pid)]
    guardian.told(stopped)
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in stopped:
        if not _another_stopped_it_too(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    guardian.told([])
    return len(stopped)


def run(command: list[str], busy: int, seed: int, stop_ms: tuple[float, float], every_ms: tuple[float, float]) -> int:
    """Run the command on such a host; its exit code, or 128 and the number of the signal that ended it."""
    drawn, mark = random.Random(seed), f"{os.getpid()}-{time.monotonic_ns()}"
    stops, seconds = 0, 0.0
    with Guardian(busy) as guardian:
        # A session of its own: a group that loses its shell while one of it stands still would be hung up on.
        process = subprocess.Popen(command, env={**os.environ, MARK: mark}, start_new_session=True)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: process.send_signal(number))
        signal.signal(signal.SIGINT, lambda *_: os.killpg(process.pid, signal.SIGINT))  # as a terminal does
        tree = Tree(mark)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(drawn.uniform(*every_ms) / 1e3)
                break
            if pids := tree.pids():
                chosen = pids if drawn.random() < 0.5 else [drawn.choice(pids)]
                for_s = drawn.uniform(*stop_ms) / 1e3
                if stop_for(chosen, for_s, guardian):
                    stops, seconds = stops + 1, seconds + for_s
    print(f"noise: {busy} busy loops, {stops} stops of {seconds:.1f} s together", file=sys.stderr)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def main() -> int:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.noise", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="busy loops (one a core)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    for name, default, what in (
        ("--stop-ms", (5.0, 20.0), "a stop takes so long (5 20)"),
        ("--every-ms", (20.0, 300.0), "and so long is between two of them (20 300)"),
    ):
        parser.add_argument(name, type=float, nargs=2, default=default, metavar=("FROM", "TO"), help=what)
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --: what to run")
    asked = parser.parse_args()
    return run(asked.command, asked.busy, asked.seed, tuple(asked.stop_ms), tuple(asked.every_ms))


if __name__ == "__main__":
    sys.exit(main())
