"""Runs the blocks of a page in a folder of its own, as a reader would, and compares what is shown."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path

from tests.docs.blocks import ROOT, Block, Line, blocks_of

PROGRAMS = {"kis": "-m testbed.cli", "python": "", "locust": "-m locust"}
USUAL_PORTS = ("8000", "8001", "8002")  # of Triton: a page's are replaced by free ones
UP_S = 60.0


class PageRun:
    """A page in `folder`, which looks like the repository's: its folders are there, results/ may be written to.

    there: a reason of blocks not to be run that does not hold here. Those with `THERE; until ctrl-c` run beside those
    that follow, and what they show is compared at the end.
    """

    def __init__(self, page: Path, folder: Path, there: str = "") -> None:
        self.page, self.folder, self._there = page, folder, there
        self._assigned: list[str] = []
        self._done = 0
        self._ports = dict(zip(USUAL_PORTS, _free_ports(len(USUAL_PORTS)), strict=True))
        self._namespace: dict[str, object] = {}
        self._until_ctrl_c: list[tuple[subprocess.Popen[bytes], Line, Path]] = []
        self._prepare()

    def run(self) -> int:
        """Every block in order; AssertionError names the place. How many were run, or written as a file."""
        background: list[subprocess.Popen[bytes]] = []
        with _ended(background), chdir(self.folder):
            for block in blocks_of(self.page):
                self._run(block, background)
            for process, line, log in self._until_ctrl_c:
                os.killpg(process.pid, signal.SIGINT)
                assert process.wait(UP_S) == 0, log.read_text()
                missing = missing_line(line.shown, log.read_text())
                assert missing is None, f"{line.command} does not print\n  {missing}\nbut\n{log.read_text()}"
        return self._done

    def _run(self, block: Block, background: list[subprocess.Popen[bytes]]) -> None:
        if block.kind == "file":
            assert block.title is not None
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._here(block.code))
            self._done += 1
        elif block.kind == "python" and block.reason is None:
            exec(compile(block.code, block.place, "exec"), self._namespace)
            self._done += 1
        elif block.background is not None:
            (line,) = block.lines
            background.append(self._start(line.command))
            self._done += 1
            _wait_for(self._here(block.background), background[-1])
        elif block.kind == "shell":
            for line in block.lines:
                if line.reason is None or line.reason == self._there:
                    self._type(line, block.place)
                elif self._there and line.reason == f"{self._there}; until ctrl-c":
                    background.append(self._start(line.command))
                    self._until_ctrl_c.append((background[-1], line, self.folder / "background.log"))

    def _type(self, line: Line, place: str) -> None:
        self._done += 1
        if re.match(r"\w+=", line.command):  # each line has a shell of its own
            self._assigned.append(line.command)
        done = subprocess.run(
            ["bash", "-ec", self._here("\n".join((*self._assigned, line.command)))],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=1000,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{place}: {line.command}\n{printed}"
        missing = missing_line(line.shown, printed)
        assert missing is None, f"{place}: {line.command} does not print\n  {missing}\nbut\n{printed}"

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "background.log").open("wb")
        return subprocess.Popen(
            ["bash", "-c", f"exec {self._here(command)}"],
            cwd=self.folder,
            env=self._environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _here(self, text: str) -> str:
        """With this run's ports. A metrics page is looked for at 8002 unless it is given.

        Pods have addresses, not ports, of their own; beside them a machine may be too busy to send on time.
        """
        if self._there:
            return re.sub(r"^kis replay ", "kis replay --allow-invalid ", text, flags=re.MULTILINE)
        changed = re.sub(r"\b800[0-2]\b", lambda match: self._ports[match[0]], text)
        return re.sub(
            r"(--server http://127\.0\.0\.1:\d+)",
            rf"\1 --metrics http://127.0.0.1:{self._ports['8002']}/metrics",
            changed,
        )

    @property
    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder / ".programs"), os.environ["PATH"]])
        # Safe path: modules come from the repository, not by this folder's links, where Numba has compiled nothing.
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "COLUMNS": "80"}

    def _prepare(self) -> None:
        for name in ("testbed", "loadgen", "workloads", "manifests"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "results").mkdir()
        for results in (ROOT / "results").glob("golden-*"):
            (self.folder / "results" / results.name).symlink_to(results)
        programs = self.folder / ".programs"
        programs.mkdir()
        for name, arguments in PROGRAMS.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            (programs / name).chmod(0o755)


def missing_line(shown: tuple[str, ...], printed: str) -> str | None:
    """The first shown line that was not printed after those before it; `...` stands for anything.

    Numbers, spaces, line breaks and the lines of tables do not count: they are another machine's, or another width's.
    """
    rest = _masked(printed)
    for line in shown:
        for part in line.split("..."):
            wanted = _masked(part)
            if wanted and wanted not in rest:
                return line
            rest = rest.partition(wanted)[2] if wanted else rest
    return None


def _masked(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return re.sub(r"[\s\u2500-\u257f]+", "", re.sub(r"[\d.,:+\u2212-]*\d[\d.,:]*", "#", plain))


def _free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + UP_S
    while time.monotonic() < ends_s:
        assert process.poll() is None, f"it ended with {process.returncode} before {address} answered"
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address, timeout=1):
            return
        time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")


@contextmanager
def _ended(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Ends them all, those that they started included; a server gets the time to remove its shared memory."""
    try:
        yield
    finally:
        for process in processes:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(90)
                    break
