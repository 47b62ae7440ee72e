"""The client's real-time priority: taken where it may be, and not by what it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loadgen import share

TAKEN = """
import os, subprocess, sys
from loadgen.share import take_realtime
taken = take_realtime()
own = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
asks = "import os; print(os.sched_getscheduler(0))"
child = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True)
print(taken, own == os.SCHED_RR, int(child.stdout) == os.SCHED_OTHER)
"""


def test_it_is_taken_where_it_may_be_and_not_inherited() -> None:
    told = subprocess.run([sys.executable, "-c", TAKEN], capture_output=True, text=True, check=True).stdout.split()
    assert told in (["True", "True", "True"], ["False", "False", "True"])


def test_where_it_may_not_be_taken_the_client_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(share.os, "sched_setscheduler", refused)
    assert share.take_realtime() is False
