"""A noisy host stops what it runs again and again, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.noise import Guardian, Tree, stop_for

REPOSITORY = Path(__file__).parents[1]
OFTEN = ["--busy", "1", "--every-ms", "1", "5", "--stop-ms", "1", "2"]


def noise(*arguments: str, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.noise", *arguments, "--", sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def open_pipe() -> Iterator[int]:
    """The reading end of a pipe in which nothing ever comes."""
    ends = os.pipe()
    try:
        yield ends[0]
    finally:
        for end in ends:
            os.close(end)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()
    process.stdin.close()


def test_the_commands_own_exit_code_comes_back_and_the_stops_are_counted() -> None:
    done = noise(*OFTEN, code="import sys, time; time.sleep(1); sys.exit(3)")
    _, told = done.communicate(timeout=60)
    assert done.returncode == 3
    busy, stops = told.split("noise: ")[1].split(", ")
    assert busy == "1 busy loops"
    assert int(stops.split()[0]) > 0


def test_the_command_its_children_and_its_daemons_are_stopped_and_run_again(tmp_path: Path) -> None:
    """Each waits until it was let go on three times: a child with an empty environment, and a daemon without parent."""
    counts = (
        "import os, signal, sys, time\n"
        "def go_on(*_): n[0] += 1\n"
        "n = [0]\n"
        "signal.signal(signal.SIGCONT, go_on)\n"
        "while n[0] < 3: time.sleep(.01)\n"
        "open({done!r}, 'w').close()"
    )
    daemon, child = tmp_path / "daemon", tmp_path / "child"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {counts.format(done=str(daemon))!r}])"
    code = (
        f"import subprocess, sys, os, time; subprocess.run([sys.executable, '-c', {start!r}]);"
        f"subprocess.run([sys.executable, '-c', {counts.format(done=str(child))!r}], env={{}})\n"
        f"while not os.path.exists({str(daemon)!r}): time.sleep(.01)"
    )
    done = noise(*OFTEN, code=code)
    _, told = done.communicate(timeout=60)
    assert done.returncode == 0, told
    assert child.exists()


def test_what_another_has_stopped_before_stays_stopped(sleeper: psutil.Process) -> None:
    sleeper.suspend()
    until(lambda: sleeper.status() == psutil.STATUS_STOPPED)
    with Guardian(0) as guardian:
        assert stop_for([sleeper.pid], 0.001, guardian) == 0
    assert sleeper.status() == psutil.STATUS_STOPPED


def test_what_another_stops_meanwhile_stays_stopped(sleeper: psutil.Process) -> None:
    def meddle(seconds: float) -> None:
        until(lambda: sleeper.status() == psutil.STATUS_STOPPED)
        os.kill(sleeper.pid, signal.SIGSTOP)

    with Guardian(0) as guardian, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.noise.time", SimpleNamespace(sleep=meddle))
        assert stop_for([sleeper.pid], 0.001, guardian) == 1
    assert sleeper.status() == psutil.STATUS_STOPPED


def test_after_a_kill_in_the_middle_of_a_stop_everything_runs_and_no_loop_stays() -> None:
    lasting = "import time; time.sleep(120)"  # input() would end at once where nobody gives any
    process = noise("--busy", "1", "--every-ms", "1", "2", "--stop-ms", "600000", "600001", code=lasting)
    there = list[psutil.Process]()  # the guardian, its loop, and the command

    def is_command(one: psutil.Process) -> bool:
        return lasting in one.cmdline()

    def all_there_and_the_command_stopped() -> bool:
        there[:] = psutil.Process(process.pid).children(recursive=True)
        try:
            stopped = [one.status() == psutil.STATUS_STOPPED for one in there if is_command(one)]
        except psutil.NoSuchProcess:
            return False  # the guardian counts its loops with a process of its own
        return len(there) == 3 and stopped == [True]

    try:
        until(all_there_and_the_command_stopped)
        (command,) = filter(is_command, there)
        process.kill()
        until(lambda: all(gone(one) for one in there if one != command))
        until(lambda: gone(command) or command.status() != psutil.STATUS_STOPPED)
        assert [one for one in there if one != command and not gone(one)] == []
    finally:
        process.kill()
        for one in there:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.communicate(timeout=60)


def test_the_command_outlives_the_shell_that_started_it(tmp_path: Path) -> None:
    """A process group that is left alone with a stopped process in it is hung up on."""
    code = "import time; time.sleep(1); open('done', 'w').close()"
    inner = [sys.executable, "-m", "tests.noise", "--busy", "0", "--every-ms", "0", "1", "--stop-ms", "90", "100"]
    inner += ["--", sys.executable, "-c", code.replace("done", str(tmp_path / "done"))]
    # It waits without a process of its own: to `set -m`, one that stands still is a job that was put aside.
    shell = f"set -m; cd {REPOSITORY}; {shlex.join(inner)} > /dev/null 2>&1 & read -rt 0.6; true"
    with open_pipe() as nothing:
        subprocess.run(["bash", "-c", shell], check=True, start_new_session=True, stdin=nothing)
    until((tmp_path / "done").exists)
    assert (tmp_path / "done").exists()


def test_a_request_to_end_is_passed_on() -> None:
    process = noise(*OFTEN, code="print('there', flush=True); import time; time.sleep(600)")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_who_is_of_the_tree_is_looked_up_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, looked = Tree("none carries it"), []
    monkeypatch.setattr("tests.noise.os.listdir", lambda path: looked.append(path) or [])
    monkeypatch.setattr("tests.noise.time.monotonic", lambda: 5.0)
    assert tree.pids() == tree.pids() == []
    assert looked == ["/proc"]
