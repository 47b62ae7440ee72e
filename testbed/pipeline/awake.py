"""Keeps the processors of a virtual machine from being taken away while they idle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOTE = "a process of the lowest priority kept each processor awake"
# It ends by itself when its parent is gone. SCHED_IDLE: whoever else is ready takes the processor at once.
_SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = int(sys.argv[2])
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


@contextmanager
def processors_awake(wanted: bool) -> Iterator[None]:
    """A process of the lowest priority spins on each processor for the length of the block, if that is wanted.

    A processor that idles is given back to the hypervisor, and whoever needs it again waits for its turn among the
    other guests: milliseconds on a busy host.
    """
    spinning = []
    try:
        for cpu in sorted(os.sched_getaffinity(0)) if wanted else ():
            command = [sys.executable, "-c", _SPIN, str(cpu), str(os.getpid())]
            spinning.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            process.wait()
