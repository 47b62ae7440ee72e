"""Runs one command and leaves nothing of it behind: `python -I -S guard.py LIFELINE_FD SHM_PREFIX COMMAND...`

The guard stands between us and a server, in a session of its own. When the command ends, or when the lifeline (a pipe
whose other end we hold, and the kernel closes if we are killed) ends, it kills the command's whole process group and
removes the shared-memory regions whose names begin with the prefix. It prints the command's pid, and exits with its
status (128 + signal if it was killed). Only the standard library: it is started as a file.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_PR_SET_PDEATHSIG = 1


def main(lifeline: int, prefix: str, command: list[str]) -> int:
    """Guard `command` until it or the lifeline ends; returns the exit status to use."""
    libc = ctypes.CDLL(None)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # ours is the pipe for the pid; the log is stderr
        start_new_session=True,
        # If the guard itself is killed, at least the server goes. Safe here: there is one thread.
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
    )
    print(server.pid, flush=True)
    threading.Thread(target=_kill_when_cut, args=(lifeline, server.pid), daemon=True).start()
    status = server.wait()
    remove_remains(server.pid, prefix)
    return status if status >= 0 else 128 - status


def remove_remains(group: int, prefix: str) -> None:
    """Kill what is left of the server's process group, and remove its shared memory."""
    _kill_group(group)
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def _kill_when_cut(lifeline: int, group: int) -> None:
    os.read(lifeline, 1)  # nothing is ever written: this returns when the other end is closed
    _kill_group(group)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
