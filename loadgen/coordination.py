"""Locust's side of a replay: its runner, its events, its web page; one start instant for all its workers.

The conductor (a local runner, or the master) hands every worker its share of the schedule, waits until all are ready,
fixes the start instant a moment ahead, waits until all are done, closes the run and ends the test. Locust's users do
nothing: a fixed number of users would run on one worker only.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import gevent.event
import locust
import numpy as np
from locust import User, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadgen.announcer import Announcer
from loadgen.issuer import Report, Share
from loadgen.job import LOGGER, ReplayError, ReplayJob
from loadgen.schedule import Schedule
from loadgen.share import Client, Instant, slice_schedule
from loadgen.transport import RequestKind
from workloads.errors import KisError
from workloads.files import replacing

events: Any = locust.events  # untyped
MakeJob = Callable[[Environment, float | None], ReplayJob]  # the second is Locust's run time, if one was given
_PROVISIONING_DELAY_S = 0.3
_READY_S = 60.0
_PARENT_S = 0.5  # between two looks whether somebody still waits for the run
_INTERRUPTED = "interrupted"
_SEEN_S = 5.5  # Locust's page asks for Logs and Exceptions every 5 s while a test runs, and never after

logger = logging.getLogger(LOGGER)


class ReplayUser(User):
    """Locust wants a user; requests are issued beside it."""

    fixed_count = 1

    @task
    def hold(self) -> None:
        """Wait for the end of the test."""
        gevent.sleep(3600)


class Replay:
    """One process's part in the replays that Locust is asked to run, one after the other."""

    def __init__(self, make_job: MakeJob) -> None:
        self._make_job = make_job
        self._run_time_s: float | None = None
        self._client: Client | None = None  # this process's share, if it has one now
        self._workers: dict[str, gevent.event.AsyncResult] = {}  # conductor of workers: who has yet to answer
        self._active: gevent.event.Event | None = None  # set when the run is over
        self._stopping = False  # Locust is already ending the test
        events.init.add_listener(self._on_init)
        events.test_start.add_listener(self._on_test_start)
        events.test_stopping.add_listener(self._on_test_stopping)

    def _on_init(self, environment: Environment, **_: Any) -> None:
        options: Any = environment.parsed_options
        runner = environment.runner
        if options.headless or options.autostart:
            # The schedule ends the run. Locust's own timer would cut its last answers off.
            self._run_time_s, options.run_time = options.run_time, None
        self._announcer = Announcer(environment)
        if isinstance(runner, MasterRunner):
            for message in ("kis_ready", "kis_done"):
                runner.register_message(message, self._on_answer)
        if isinstance(runner, WorkerRunner):
            runner.register_message("kis_prepare", self._on_prepare, concurrent=True)
            runner.register_message("kis_start", self._on_start, concurrent=True)
            runner.register_message("kis_stop", self._on_stop)

    # The conductor

    def _on_test_start(self, environment: Environment, **_: Any) -> None:
        if not isinstance(environment.runner, WorkerRunner):
            self._active, self._stopping = gevent.event.Event(), False
            gevent.spawn(self._conduct, environment)

    def _conduct(self, environment: Environment) -> None:
        environment.process_exit_code = None
        try:
            job = self._make_job(environment, self._wanted_s(environment))
            schedule = Schedule.read(job.schedule)
            if job.close:
                self._announcer.begin(job, schedule)
            else:  # somebody waits for this run
                gevent.spawn(self._follow_parent, environment.runner, os.getppid())
            with self._interruptible(environment.runner):
                if isinstance(environment.runner, MasterRunner):
                    self._conduct_workers(environment.runner, job, schedule)
                else:
                    share = slice_schedule(schedule, 0, 1, job.duration_s, job.entries)
                    self._client = Client(job, share, 0, 1, _report_to(environment))
                    self._client.run(Instant.ahead(_PROVISIONING_DELAY_S))
            if job.close:
                self._announcer.close(job, schedule)
        except KisError as error:
            self._announcer.refuse(str(error))
        except Exception as fault:
            self._announcer.fail(fault)
        finally:
            self._client = None
            self._finish(environment)

    def _wanted_s(self, environment: Environment) -> float | None:
        """Seconds that the user asked for; None: the pattern's or the trace's own."""
        options: Any = environment.parsed_options
        run_time_s = self._run_time_s
        if environment.web_ui is not None and options.run_time is not None:
            run_time_s = options.run_time
            timer = getattr(environment.web_ui, "_run_time_greenlet", None)
            if timer is not None:  # as above: the schedule ends the run
                timer.kill(block=False)
        if run_time_s is not None and run_time_s <= 0:
            raise ReplayError(f"a run time of {run_time_s:g} s sends nothing: give more, e.g. -t 60s, or none")
        return run_time_s

    def _follow_parent(self, runner: Any, parent: int) -> None:
        """Nobody waits any more: stop at once. A server that takes the old one's port must not get these requests."""
        while os.getppid() == parent:
            gevent.sleep(_PARENT_S)
        self._stop(runner, hurry=True)

    def _conduct_workers(self, runner: MasterRunner, job: ReplayJob, schedule: Schedule) -> None:
        workers = [worker.id for worker in runner.clients.ready + runner.clients.spawning + runner.clients.running]
        token = f"master-{runner.master_bind_port}.token"
        job.raw.mkdir(parents=True, exist_ok=True)
        (job.raw / token).touch()  # a worker that sees it shares the folder with us, and need not send its files
        self._expect(workers)
        for k, worker in enumerate(workers):
            share = slice_schedule(schedule, k, len(workers), job.duration_s, job.entries)
            runner.send_message("kis_prepare", _pack(job, share, k, len(workers), token), worker)
        for k, answer in enumerate(self._answers(runner, workers, _READY_S)):
            if answer is None or answer["error"]:
                raise ReplayError(f"worker {k}: {answer['error'] if answer else 'went away before it was ready'}")
        self._expect(workers)
        runner.send_message("kis_start", vars(Instant.ahead(_PROVISIONING_DELAY_S)))
        for answer in self._answers(runner, workers, None):
            for name, content in (answer or {}).get("files", {}).items():
                with replacing(job.raw / name) as temporary:
                    temporary.write_bytes(content)
        (job.raw / token).unlink()

    def _expect(self, workers: list[str]) -> None:
        self._workers = {worker: gevent.event.AsyncResult() for worker in workers}

    def _answers(
        self, runner: MasterRunner, workers: list[str], timeout_s: float | None
    ) -> list[dict[str, Any] | None]:
        """The workers' answers in order; None for a worker that went missing."""
        with gevent.Timeout(timeout_s, ReplayError(f"the workers are not ready after {timeout_s} s")):
            while True:
                waiting = [worker for worker in workers if not self._workers[worker].ready()]
                if all(worker not in runner.clients or runner.clients[worker].state == "missing" for worker in waiting):
                    return [self._workers[w].value if self._workers[w].ready() else None for w in workers]
                gevent.wait([self._workers[worker] for worker in waiting], timeout=0.5, count=len(waiting))

    def _on_answer(self, msg: Any, **_: Any) -> None:
        if msg.node_id in self._workers:
            self._workers[msg.node_id].set(msg.data)

    def _finish(self, environment: Environment) -> None:
        active, self._active = self._active, None
        if active is not None:
            active.set()
        runner, options = environment.runner, environment.parsed_options
        assert runner is not None
        assert options is not None
        if self._stopping:
            return
        if environment.web_ui is None:
            runner.quit()
            return
        gevent.sleep(_SEEN_S)
        if self._active is None:  # nobody stopped it by hand and began another one meanwhile
            runner.stop()
        if options.autostart and options.autoquit != -1:
            gevent.sleep(options.autoquit)
            runner.quit()
            environment.web_ui.stop()  # type: ignore[no-untyped-call]

    # A worker

    def _on_prepare(self, environment: Environment, msg: Any, **_: Any) -> None:
        runner, error = environment.runner, None
        assert isinstance(runner, WorkerRunner)
        self._active, self._message = gevent.event.Event(), msg.data
        os.environ.update(msg.data["variables"])
        try:
            job, share = _unpack(msg.data)
            self._client = Client(job, share, msg.data["worker"], msg.data["workers"], _report_to(environment))
        except KisError as problem:
            error = str(problem)
        except Exception as fault:
            logger.exception("the worker cannot start")
            error = repr(fault)
        runner.send_message("kis_ready", {"error": error})

    def _on_start(self, environment: Environment, msg: Any, **_: Any) -> None:
        client, runner = self._client, environment.runner
        assert client is not None
        assert isinstance(runner, WorkerRunner)
        files: dict[str, bytes] = {}
        try:
            with self._interruptible(runner):
                client.run(Instant(**msg.data))
            if not (client.rows_file.parent / self._message["token"]).exists():
                files = {path.name: path.read_bytes() for path in (client.rows_file, client.figures_file)}
        finally:
            self._client = None
            runner.send_message("kis_done", {"files": files})
            if self._active is not None:
                self._active.set()
            self._active = None

    def _on_stop(self, msg: Any, **_: Any) -> None:
        self._stop_share(msg.data["hurry"])

    # Stopping: ctrl-c, the web page's button, SIGTERM and the master's word all come here

    def _stop(self, runner: Any, hurry: bool = False) -> None:
        if isinstance(runner, MasterRunner):
            runner.send_message("kis_stop", {"hurry": hurry})
        else:
            self._stop_share(hurry)

    def _stop_share(self, hurry: bool) -> None:
        if self._client is not None:
            self._client.issuer.stop(_INTERRUPTED)
            if hurry:
                self._client.issuer.hurry()

    def _on_test_stopping(self, environment: Environment, **_: Any) -> None:
        active = self._active
        if active is not None:
            self._stopping = True
            self._stop(environment.runner)
            active.wait()

    @contextmanager
    def _interruptible(self, runner: Any) -> Iterator[None]:
        """SIGINT asks the run to end, instead of breaking into whatever greenlet is running. A second one hurries.

        A terminal sends it to the workers as well: only the conductor counts.
        """
        presses = 0

        def pressed() -> None:
            nonlocal presses
            presses += 1
            self._stop(runner, hurry=presses > 1 and not isinstance(runner, WorkerRunner))

        watcher = gevent.signal_handler(signal.SIGINT, pressed)
        try:
            yield
        finally:
            watcher.cancel()
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _report_to(environment: Environment) -> Report:
    """Feeds Locust's statistics, which its web page shows; they are rounded, and nobody here reads them.

    What was not answered is a failure without a response time: Locust's percentiles are of answers, as ours.
    """
    fire: Any = environment.events.request.fire

    def report(model: str, latency_s: float | None, size: int, detail: str | None) -> None:
        fire(
            request_type="infer",
            name=model,
            response_time=None if latency_s is None else latency_s * 1e3,
            response_length=size,
            exception=None if detail is None else detail,
            context={},
        )

    return report


def _pack(job: ReplayJob, share: Share, worker: int, workers: int, token: str) -> dict[str, Any]:
    return {
        "job": job.model_dump_json(),
        "request_ids": share.request_ids.astype("<i8").tobytes(),
        "scheduled_ns": share.scheduled_ns.astype("<i8").tobytes(),
        "kinds": list(share.kinds),
        "kind_index": share.kind_index.astype("<i8").tobytes(),
        "worker": worker,
        "workers": workers,
        "token": token,
        "variables": job.access.variables(),  # the master may have them alone
    }


def _unpack(data: dict[str, Any]) -> tuple[ReplayJob, Share]:
    arrays = {key: np.frombuffer(data[key], "<i8") for key in ("request_ids", "scheduled_ns", "kind_index")}
    kinds = tuple(RequestKind(*fields) for fields in data["kinds"])
    return ReplayJob.model_validate_json(data["job"]), Share(kinds=kinds, **arrays)
