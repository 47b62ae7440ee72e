"""One tritonserver process behind its guard."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from testbed.errors import ServingError
from testbed.serving import guard
from testbed.serving.tritonserver import Ports

_GUARD_S = 10.0  # a guard needs some milliseconds

# glog's "E1124 08:00:32.503994 7157 file.cc:674] text"; Triton quotes the text.
_ERROR_LINE = re.compile(r'^[EF]\d{4} .*?\] "?(?P<text>.*?)"?$')


class ServerProcess:
    """Runs `command` in a process group of its own, its output in `log`.

    Whatever happens to it or to us, its group and its shared memory (names beginning with `shm_prefix`) go with it.
    """

    def __init__(self, command: list[str], environment: dict[str, str], log: Path, shm_prefix: str) -> None:
        self._shm_prefix = shm_prefix
        far_end, self._lifeline = os.pipe()
        try:
            with log.open("wb") as log_file:
                self._guard = subprocess.Popen(
                    [sys.executable, "-I", "-S", guard.__file__, str(far_end), shm_prefix, *command],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log_file,
                    pass_fds=(far_end,),
                    start_new_session=True,
                    text=True,
                )
        finally:
            os.close(far_end)
        assert self._guard.stdout is not None  # it is a pipe
        pid = self._guard.stdout.readline()
        if not pid:  # the guard itself could not start the command, and said why in the log
            self._guard.wait()
            raise ServingError(f"cannot start {command[0]}: {last_error(log)}")
        self.pid = int(pid)

    def running(self) -> bool:
        """False once the server has ended and its remains are removed."""
        return self._guard.poll() is None

    def terminate(self) -> None:
        """Ask the server to finish what it accepted and exit."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout_s: float) -> bool:
        """True if the server ended within that time."""
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the server's whole group now and wait until nothing is left; may be called again."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if not self.wait(_GUARD_S):
            self._guard.kill()
        if self._guard.wait() < 0:  # the guard itself was killed, so its work is ours
            guard.remove_remains(self.pid, self._shm_prefix)
        if self._guard.stdout is not None:
            self._guard.stdout.close()


def last_error(log: Path) -> str:
    """The line of a server's log that says best why it died."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [match["text"] for match in map(_ERROR_LINE.match, lines) if match]
    failures = [text for text in errors if "failed to load" in text]
    thrown = [line.partition("what():")[2].strip() for line in lines if line.startswith("what():")]
    if thrown and not failures:  # C++ says so before it aborts
        return thrown[-1]
    if failures or errors:
        cause = failures[0] if failures else errors[-1]
        return cause.split("\\n")[0].strip()  # the rest is a traceback, its line ends written out
    return lines[-1] if lines else "it wrote nothing to its log"


def free_ports(http: int | None) -> Ports:
    """Three free ports; a port that was asked for is taken as it is, ServingError if it is in use."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(3)]
    try:
        for number, opened in zip((http or 0, 0, 0), sockets, strict=True):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            opened.bind(("127.0.0.1", number))
        return Ports(*(opened.getsockname()[1] for opened in sockets))
    except OSError as error:
        raise ServingError(f"port {http} cannot be used ({error.strerror}): free it or choose another port") from None
    finally:
        for opened in sockets:
            opened.close()
