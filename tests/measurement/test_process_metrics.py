"""CPU and memory of real, short-lived processes."""

import os
import subprocess
import sys

import psutil
import pytest

from testbed.measurement.process_metrics import ProcessSource

# Starts a child that burns .25 s of CPU and waits for it, says so, then waits to be told to end.
PARENT = """
import subprocess, sys
burn = "import time\\nwhile time.process_time() < .25: pass"
subprocess.run([sys.executable, "-c", burn])
print("ready", flush=True)
sys.stdin.read()
"""
# The same, with a child that stays: it burns, says so, and sleeps until its parent's end closes its input.
PARENT_OF_A_LIVING_CHILD = """
import subprocess, sys
burn = "import sys, time\\nwhile time.process_time() < .25: pass\\nprint('ready', flush=True)\\nsys.stdin.read()"
subprocess.run([sys.executable, "-c", burn])
"""


@pytest.fixture
def start():
    started = []

    def run(code):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.communicate()  # closes its input, on which everything below it ends


def by_role(rows, name):
    return {labels["role"]: value for _, metric, labels, value, _ in rows if metric == name}


@pytest.mark.parametrize("code", [PARENT, PARENT_OF_A_LIVING_CHILD])
def test_a_role_counts_its_children_running_or_ended(start, code):
    process = start(code)
    cpu = by_role(ProcessSource(lambda: {"server:0": process.pid}).sample(), "cpu_seconds")
    assert cpu["server:0"] >= 0.2  # /proc counts user and system time in whole ticks, each rounded down


def test_memory_is_that_of_the_whole_tree(start):
    process = start(PARENT_OF_A_LIVING_CHILD)
    rss = by_role(ProcessSource(lambda: {"server:0": process.pid}).sample(), "memory_rss")
    assert rss["server:0"] > psutil.Process(process.pid).memory_info().rss


def test_a_process_that_goes_away_has_no_more_rows_and_the_others_go_on(start):
    stays, goes = start(PARENT), start(PARENT)
    source = ProcessSource(lambda: {"server:0": stays.pid, "server:1": goes.pid})
    assert by_role(source.sample(), "memory_rss").keys() == {"server:0", "server:1"}
    goes.kill()
    goes.wait()
    for _ in range(12):
        assert by_role(source.sample(), "cpu_seconds").keys() == {"server:0", "machine"}


def test_a_process_that_nobody_waited_for_is_gone_too(start):
    goes = start(PARENT)
    source = ProcessSource(lambda: {"server:1": goes.pid})
    source.sample()
    goes.kill()
    os.waitid(os.P_PID, goes.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert by_role(source.sample(), "memory_rss") == {}


def test_a_role_that_comes_later_is_read_at_once(start):
    roles = {}
    source = ProcessSource(lambda: dict(roles))
    assert by_role(source.sample(), "cpu_seconds").keys() == {"machine"}
    roles["client:0"] = start(PARENT).pid
    assert by_role(source.sample(), "cpu_seconds").keys() == {"machine", "client:0"}


def test_the_machines_busy_time_counts_no_idle_time():
    before = psutil.cpu_times()
    (_, _, _, busy, unit), *_ = ProcessSource(dict).sample()
    after = psutil.cpu_times()
    assert unit == "s"
    waiting = after.idle + getattr(after, "iowait", 0) + getattr(after, "steal", 0)
    assert busy <= sum(after[:8]) - waiting + 1e-6
    assert busy >= before.user + before.system
