"""Processors are kept awake for a block, by processes that give way to everybody and end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.pipeline.awake import processors_awake

PATIENCE_S = 20.0


def children_that_spin(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and int(fields[38]) == os.SCHED_IDLE:
            found.append(int(status.parent.name))
    return found


def eventually(what, wanted) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while what() != wanted:
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="of Linux")
def test_each_processor_has_one_for_the_length_of_the_block() -> None:
    with processors_awake(True):
        eventually(lambda: len(children_that_spin(os.getpid())), len(os.sched_getaffinity(0)))
    assert children_that_spin(os.getpid()) == []
    with processors_awake(False):
        assert children_that_spin(os.getpid()) == []


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="of Linux")
def test_they_end_with_a_parent_that_was_killed() -> None:
    code = (
        "import time\nfrom testbed.pipeline.awake import processors_awake\nwith processors_awake(True): time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        eventually(lambda: len(children_that_spin(parent.pid)), len(os.sched_getaffinity(0)))
        spinning = children_that_spin(parent.pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    eventually(lambda: [pid for pid in spinning if Path(f"/proc/{pid}").exists()], [])
    assert not [pid for pid in spinning if Path(f"/proc/{pid}").exists()]
