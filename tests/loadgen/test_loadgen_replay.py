"""Whole replays: Locust in its own process, as the testbed and as a user would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_http_server import FakeServer, Reply
from typed import LOADGEN, LONG_S, ask, free_port, locust, until_stopped, workers_of_its_own

from loadgen.job import ReplayError, ReplayJob, RequestShape, client_figures, run_replay
from loadgen.patterns import Constant
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule, poisson_schedule
from loadgen.validity import EXIT_INVALID, Verdict, judge
from workloads.catalog import TensorSpec

SHAPE = RequestShape(inputs=(TensorSpec(name="x", datatype="FP32", shape=(4,)),))


def make_job(
    folder: Path, address: str = "127.0.0.1:1", rate: float = 200, seconds: float = 2, **settings
) -> ReplayJob:
    folder.mkdir(exist_ok=True)
    poisson_schedule(Constant(rate=rate), seconds, seed=1, model="toy").write(folder / "schedule.parquet")
    defaults = {"endpoints": (address,), "requests": {"toy": SHAPE}}
    return ReplayJob(schedule=folder / "schedule.parquet", run_dir=folder, **defaults | settings)


def once(happened, act) -> threading.Thread:
    """Do something as soon as something has happened."""

    def wait_and_act() -> None:
        while not happened():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def kill_client(job: ReplayJob, worker: int) -> None:
    os.kill(json.loads((job.raw / f"client-{worker}.json").read_text())["pid"], signal.SIGKILL)


def judged(job: ReplayJob, log: RequestLog) -> Verdict:
    return judge(Schedule.read(job.schedule), log, client_figures(log))


def test_two_processes_share_one_schedule_and_one_start(tmp_path):
    job = make_job(tmp_path, rate=500, transport="null", workers=2)
    progress = []
    log = run_replay(job, on_progress=lambda elapsed_s, duration_s: progress.append((elapsed_s, duration_s)))
    assert log.counts()["ok"] == len(Schedule.read(job.schedule)) == len(log)
    clients = client_figures(log)
    assert [client.worker for client in clients] == [0, 1]
    assert clients[0].pid != clients[1].pid
    assert clients[0].start_monotonic_ns == clients[1].start_monotonic_ns == log.provenance["start_monotonic_ns"]
    assert abs(sum(clients[0].counts.values()) - sum(clients[1].counts.values())) <= 1
    assert all(client.finished and client.cpu_s > 0 for client in clients)
    assert not log.provenance["interrupted"]
    elapsed = [elapsed_s for elapsed_s, _ in progress]
    assert elapsed == sorted(elapsed)
    assert progress[-1][1] == 2


def test_the_server_sees_the_schedules_row_numbers_as_request_ids(tmp_path):
    with FakeServer() as server:
        log = run_replay(make_job(tmp_path, server.address))
    assert log.counts()["ok"] == len(log) == len(server.seen)
    assert sorted(server.seen) == log.frame["request_id"].tolist()


def test_an_interrupted_run_accounts_for_every_request(tmp_path):
    stop = threading.Event()
    with FakeServer(lambda i: Reply(delay_s=0.3)) as server:
        job = make_job(tmp_path, server.address, seconds=30, drain_s=20)
        once(lambda: len(server.seen) >= 100, stop.set)
        log = run_replay(job, stop=stop)
    counts = log.counts()
    assert counts["ok"] == len(server.seen) > 0  # those in flight were waited for
    assert counts["ok"] + counts["unsent"] == len(log)
    assert log.provenance["interrupted"]
    assert any("interrupted" in reason for reason in judged(job, log).reasons)


def test_ctrl_c_in_the_callers_process_ends_the_run_and_returns_its_log(tmp_path):
    with FakeServer() as server:

        def ctrl_c(elapsed_s: float, duration_s: float) -> None:
            if len(server.seen) > 50 and not pressed:
                pressed.append(elapsed_s)
                raise KeyboardInterrupt

        pressed: list[float] = []
        log = run_replay(make_job(tmp_path, server.address, seconds=30), on_progress=ctrl_c)
    assert log.provenance["interrupted"]
    assert log.counts()["ok"] == len(server.seen) > 0
    assert log.counts()["unsent"] > 0


def test_a_client_that_is_killed_keeps_what_was_answered(tmp_path):
    with FakeServer() as server:
        job = make_job(tmp_path, server.address, seconds=30)
        once(lambda: len(server.seen) >= 400, lambda: kill_client(job, 0))
        log = run_replay(job)
    counts = log.counts()
    assert counts["ok"] > 100
    assert counts["unsent"] > counts["ok"]
    assert counts["ok"] + counts["unsent"] + counts["error"] == len(log)
    assert any("client 0 was killed" in reason for reason in judged(job, log).reasons)


def test_one_killed_process_of_two_does_not_take_the_others_share_with_it(tmp_path):
    with FakeServer() as server:
        job = make_job(tmp_path, server.address, rate=100, seconds=3, workers=2)
        once(lambda: len(server.seen) >= 20, lambda: kill_client(job, 1))
        log = run_replay(job)
    mine = log.frame["request_id"] % 2 == 0
    assert (log.frame["status"][mine] == "ok").all()
    assert (log.frame["status"][~mine] == "unsent").any()


def test_nobody_to_ask_is_one_line_before_the_first_request(tmp_path):
    with pytest.raises(ReplayError, match=r"^no endpoint can be reached: 127\.0\.0\.1:1 .*refused"):
        run_replay(make_job(tmp_path, "127.0.0.1:1"))


def test_a_model_without_requests_is_one_line(tmp_path):
    with pytest.raises(ReplayError, match="the schedule asks for model 'toy'"):
        run_replay(make_job(tmp_path, requests={"other": SHAPE}, transport="null"))


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_without_room_for_the_rows_is_one_line_before_the_first_request(small_disk):
    with FakeServer() as server:
        with pytest.raises(ReplayError, match=r"No space left on device: the rows of .* requests need"):
            run_replay(make_job(small_disk, server.address, rate=2000, seconds=10))
        assert server.seen == []


def test_a_disk_that_fills_up_during_the_run_loses_nothing_because_the_space_was_reserved(small_disk):
    def fill() -> None:
        with (small_disk / "other").open("wb", buffering=0) as other:
            try:
                while True:
                    other.write(bytes(4096))
            except OSError:
                pass

    with FakeServer() as server:
        job = make_job(small_disk, server.address, rate=300, seconds=2)
        once(lambda: len(server.seen) >= 50, fill)
        log = run_replay(job)
    assert log.counts()["ok"] == len(log)
    log.write(small_disk / "requests.parquet")  # its space was reserved as well


# As a Locust user types it


def test_a_pattern_from_the_command_line_leaves_its_run(tmp_path):
    with FakeServer() as server:
        run = locust(
            "bursty", tmp_path, "--headless", "--host", f"http://{server.address}", "-t", "3s", "--base", "50",
            "--spike", "300", "--spike-s", "1", "--every-s", "2", "--run-dir", "run", *workers_of_its_own(),
        )  # fmt: skip
        output, _ = run.communicate(timeout=LONG_S)
    schedule = Schedule.read(tmp_path / "run/schedule.parquet")
    assert schedule.duration_s == 3
    assert schedule.provenance["parameters"]["spike"] == 300
    log = RequestLog.read(tmp_path / "run/requests.parquet")
    assert log.counts()["ok"] == len(schedule) == len(server.seen)
    assert (schedule.scheduled_s % 2 >= 1).mean() > 0.6  # one of three seconds has most of the requests
    verdict = Verdict.model_validate_json((tmp_path / "run/verdict.json").read_text())
    assert run.returncode == (0 if verdict.valid else EXIT_INVALID), output
    assert f" {'VALID' if verdict.valid else 'INVALID'}: {len(log)} requests: {len(log)} ok\n" in output
    assert f"run folder: {tmp_path / 'run'}" in output
    assert "Aggregated" in output  # Locust's own table
    assert len(client_figures(log)) == 2


def test_ctrl_c_ends_the_run_and_leaves_everything_accounted_for(tmp_path):
    with FakeServer() as server:
        host = ["--host", f"http://{server.address}", "--run-dir", "run"]
        run = locust("ramp", tmp_path, "--headless", *host, "-t", "60s", "--low", "100", *workers_of_its_own())
        while len(server.seen) < 100:
            time.sleep(0.02)
            assert run.poll() is None
        os.killpg(run.pid, signal.SIGINT)  # a terminal sends it to all of them
        output, _ = run.communicate(timeout=LONG_S)
    log = RequestLog.read(tmp_path / "run/requests.parquet")
    counts = log.counts()
    assert counts["ok"] == len(server.seen) >= 100
    assert counts["ok"] + counts["unsent"] == len(log)
    assert "INVALID" in output
    assert "stopped issuing early: interrupted" in output


def test_the_web_page_starts_and_stops_runs_and_its_charts_show_them(tmp_path):
    port = free_port()
    with FakeServer() as server:
        host = f"http://{server.address}"
        run = locust("periodic", tmp_path, "--host", host, "--web-host", "127.0.0.1", "--web-port", port)

        form = {"user_count": 1, "spawn_rate": 1, "run_time": "2s", "mean": "150", "seed": "4"}
        assert ask(port, "swarm", form)["success"]
        stats = until_stopped(port)
        (folder,) = (tmp_path / "results").glob("*-periodic")
        schedule = Schedule.read(folder / "schedule.parquet")
        assert schedule.provenance["seed"] == 4
        assert schedule.rate_rps == pytest.approx(150, rel=0.3)
        # The form's run time does not cut the end off.
        assert RequestLog.read(folder / "requests.parquet").counts()["ok"] == len(schedule)
        row = next(row for row in stats["stats"] if row["name"] == "toy")
        assert row["num_requests"] == len(schedule)
        logs = [line for lines in ask(port, "logs").values() for line in lines]
        assert any("VALID: " in line and f"{len(schedule)} ok" in line for line in logs)  # the page's own Logs

        server.seen.clear()
        assert ask(port, "swarm", {**form, "run_time": "60s"})["success"]
        while len(server.seen) < 50:
            time.sleep(0.02)
        ask(port, "stop", {})
        until_stopped(port)
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=LONG_S)
    second = max((tmp_path / "results").glob("*-periodic"))
    assert second != folder
    counts = RequestLog.read(second / "requests.parquet").counts()
    assert counts["ok"] == len(server.seen) >= 50
    assert counts["unsent"] > counts["ok"]
    assert "stopped issuing early: interrupted" in output


def test_any_pattern_can_be_chosen_on_the_command_line(tmp_path):
    with FakeServer() as server:
        run = locust(
            "locustfile", tmp_path, "--pattern", "ramp", "--headless", "--host", f"http://{server.address}", "-t", "2s",
            "--low", "50", "--peak", "90", "--rise-s", "1", "--run-dir", "run",
        )  # fmt: skip
        output, _ = run.communicate(timeout=LONG_S)
    told = Schedule.read(tmp_path / "run/schedule.parquet").provenance
    assert (told["pattern"], told["parameters"]) == ("ramp", {"low": 50.0, "peak": 90.0, "rise_s": 1.0}), output


@pytest.mark.parametrize(
    ("file", "arguments", "said"),
    [
        ("bursty", ["--model", "toi"], "model 'toi'"),
        ("bursty", ["--lengths", "40:x"], "give MEDIAN:SIGMA:LONGEST"),
        ("bursty", ["-t", "0"], "a run time of 0 s sends nothing"),
        ("bursty", ["--trace", "none.csv"], "none.csv: No such file"),
        ("locustfile", ["--pattern", "trace"], "no trace was given: --trace FILE"),
        ("replay_trace", [], "no trace was given: --trace FILE"),
        ("replay_trace", ["--trace", "t", "--where", "a"], "--where a: give NAME=VALUE"),
        ("bursty.py,periodic", [], "bursty and periodic were both given with -f"),
        ("locustfile", ["--pattern", "burst"], "did you mean 'bursty'"),
        ("locustfile", ["--pattern", "no_such_module:Mine"], "is its folder on PYTHONPATH"),
    ],
)
def test_a_user_error_on_the_command_line_is_one_line(tmp_path, file, arguments, said):
    with FakeServer() as server:
        run = locust(file, tmp_path, "--headless", "--host", f"http://{server.address}", *arguments)
        output, _ = run.communicate(timeout=LONG_S)
    assert run.returncode == 1
    lines = [line for line in output.splitlines() if "ERROR/kis: " in line or line.startswith("kis: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in output


def test_no_file_beside_the_locustfiles_hides_a_module_of_somebody_else():
    # Locust puts the locustfile's folder first on sys.path.
    names = {path.stem for path in LOADGEN.glob("*.py")} - {"__init__"}
    assert not names & set(sys.stdlib_module_names)
    finder = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n) is not None])"
    found = subprocess.run([sys.executable, "-c", finder, *names], cwd="/", capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert "bursty" in names
