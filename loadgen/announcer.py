"""What Locust's user is told of a run: on the terminal, in Locust's log and page, in its files and exit code."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import locust
from locust import stats
from locust.env import Environment
from locust.runners import WorkerRunner

from loadgen.job import LOGGER, ReplayJob, close_run
from loadgen.saturation import strain_of
from loadgen.schedule import Schedule
from loadgen.validity import EXIT_INVALID
from loadgen.verdict_tab import ROUTE, VerdictTab

events: Any = locust.events  # untyped
_PAGE_S = 120.0  # for the run's page to be drawn
# What Locust says of users and of its own timer; neither has a part here.
_MISLEADING = ("Ramping to", "All users spawned", "Sending spawn jobs", "No run time limit set")

logger = logging.getLogger(LOGGER)


class Announcer:
    """Of one Locust process, for all its runs."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        options: Any = environment.parsed_options
        self._options = options
        self._tab: VerdictTab | None = None
        for name in ("locust.main", "locust.runners"):
            logging.getLogger(name).addFilter(_is_not_misleading)
        tags = self._options.tags or self._options.exclude_tags
        if tags and not isinstance(environment.runner, WorkerRunner):
            logger.warning("--tags and --exclude-tags have no effect: a pattern has no tasks to choose from")
        self._options.tags = self._options.exclude_tags = None
        if environment.web_ui is not None:
            self._tab = VerdictTab(environment.web_ui, self._options.web_base_path or "")
        if self._options.csv_prefix:  # else the files would end up to a second before the run does
            events.quit.add_listener(lambda **_: gevent.sleep(stats.CSV_STATS_INTERVAL_SEC + 0.1))

    def begin(self, job: ReplayJob, schedule: Schedule) -> None:
        """What is going to happen, instead of Locust's words on users."""
        name = "a schedule" if job.manifest is None else job.manifest.pattern
        duration_s = min(job.duration_s or schedule.duration_s, schedule.duration_s)
        requests = f"{name}, {duration_s:.4g} s, {len(schedule)} requests"
        self._say(logging.INFO, f"{requests}, open loop; users and ramp-up are not used")
        for note in () if job.manifest is None else job.manifest.notes:
            self._say(logging.INFO, note)

    def close(self, job: ReplayJob, schedule: Schedule) -> None:
        """Close the run, and say what came of it. Its page is drawn afterwards."""
        log, verdict = close_run(job, schedule)
        counts = ", ".join(f"{count} {status}" for status, count in log.counts().items() if count)
        saturated = strain_of(log, schedule.duration_s).reason
        reasons = [*verdict.reasons, *([f"SATURATED: {saturated}"] if saturated else [])]
        word = "VALID" if verdict.valid else "INVALID"
        text = [
            f"{word}: {len(log)} requests: {counts}",
            *(f"  {reason}" for reason in reasons),
            f"run folder: {job.run_dir} (Locust's statistics are rounded; requests.parquet has each request)",
        ]
        level = logging.INFO if verdict.valid and not saturated else logging.WARNING

        def _say_and_draw() -> None:
            self._say(level, "\n".join(text))
            if drawn:
                self._draw(job.run_dir, number)

        drawn = job.manifest is not None and not getattr(self._options, "no_page", False)
        number = self._show(str(job.run_dir), word, [counts, *reasons], failed=not verdict.valid, page=drawn)
        if not verdict.valid:
            runner, allowed = self._environment.runner, getattr(self._options, "allow_invalid", False)
            of_errors = self._options.exit_code_on_error if runner is not None and runner.errors else 0
            self._environment.process_exit_code = of_errors if allowed else EXIT_INVALID
        self._at_the_end(_say_and_draw)

    def refuse(self, why: str) -> None:
        """The run did not start."""
        self._show("", "NOT STARTED", [why])
        self._environment.process_exit_code = 1
        self._at_the_end(lambda: self._say(logging.ERROR, why))

    def fail(self, fault: BaseException) -> None:
        """A fault of ours, in an except clause."""
        logger.exception("the replay failed: %s", " ".join(str(fault).split()) or type(fault).__name__)
        self._show("", "FAILED", ["a fault of the load generator: the log has it"])
        self._environment.process_exit_code = 1

    def _say(self, level: int, text: str) -> None:
        """In Locust's log: on the terminal, or in its file; in the page's Logs. On stderr, too, if that has no log."""
        for line in text.splitlines():
            logger.log(level, "%s", line)
        if self._options.logfile or self._options.skip_log_setup or not logger.isEnabledFor(level):
            print(text, file=sys.stderr, flush=True)

    def _show(self, run: str, word: str, reasons: list[str], failed: bool = True, page: bool = False) -> int:
        """On the page's own tab; what failed is among Locust's Exceptions too, and so in its HTML report and CSV.

        page: the run will have one. Returns the run's number on the tab; 0 without one.
        """
        number = 0 if self._tab is None else self._tab.add(run, word, reasons, page)
        if failed and self._environment.runner is not None:
            self._environment.runner.log_exception("kis", f"{word}: {'; '.join(reasons)}", run or word)
        return number

    def _at_the_end(self, say: Callable[[], None]) -> None:
        """Below Locust's closing tables; with a web page at once, while the page goes on."""
        if self._environment.web_ui is None:
            events.quit.add_listener(lambda **_: say())
        else:
            gevent.spawn(say)

    def _draw(self, run_dir: Path, number: int) -> None:
        """The run's own page. Drawing takes seconds, so it has a process of its own."""
        command = [sys.executable, "-m", "testbed.cli", "report", str(run_dir)]
        try:
            drawn = subprocess.run(
                command, capture_output=True, text=True, start_new_session=True, timeout=_PAGE_S, check=False
            )
            said = "" if drawn.returncode == 0 else (drawn.stderr or drawn.stdout).strip() or "kis report failed"
        except (subprocess.TimeoutExpired, OSError, KeyboardInterrupt) as error:
            said = repr(error)
        if said:
            why = f"the run has no page ({said.splitlines()[-1]}): kis report {run_dir}"
            self._say(logging.WARNING, why)
            if self._tab is not None:
                self._tab.set_page(number, why)
            return
        where = f", and {ROUTE}/{number} beneath this address" if self._tab is not None else ""
        self._say(logging.INFO, f"page: {run_dir / 'report.html'}{where}")
        if self._tab is not None:
            self._tab.set_page(number, run_dir / "report.html")


def _is_not_misleading(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_MISLEADING)
