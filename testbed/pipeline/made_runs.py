"""The real runs of a results folder, each made once: what is complete is kept, what was INVALID is made again."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from loadgen.validity import ValidityLimits, Verdict, only_late
from testbed.config import ClientConfig
from testbed.errors import ConfigError
from testbed.machine import Machine
from testbed.pipeline.real_run import OTHERS, inputs_of, run_real, shapes_of
from testbed.pipeline.target import Target
from testbed.pipeline.traffic import Identity
from testbed.run_dir import RunDir
from workloads.catalog import ServiceConfig

ATTEMPTS = 2  # at a run: one that is INVALID is made again once; the invalid one is kept aside


DIED_AT_LEAST, DIED_SHARE = 10, 0.02  # of the requests, all the last ones: fewer errors are no dead server
UNKNOWN = "unknown"  # device of a server that somebody else runs: its name has the address


def server_died(run: RunDir) -> bool:
    """Did nothing but errors come from some moment on, until the end of a run that is INVALID?"""
    verdict = run.manifest.verdict
    if verdict is None or verdict.valid:
        return False
    status = RequestLog.read(run.requests).frame["status"].to_numpy()
    answered = np.flatnonzero(status == "ok")
    after = status[answered[-1] + 1 :] if len(answered) else status
    return len(after) >= max(DIED_AT_LEAST, DIED_SHARE * len(status)) and bool((after == "error").all())


def used_by_others(run: RunDir) -> bool:
    """Is it INVALID as something else sent requests to the model?"""
    verdict = run.manifest.verdict
    return verdict is not None and any(OTHERS in reason for reason in verdict.reasons)


# What is not kept when a campaign goes on: it may not happen again.
SPOILT = (
    (server_died, "the server died in it", "server-died"),
    (used_by_others, "something else used the model", "other-client"),
)


Once = Callable[[Path, tuple[str, ...]], RunDir]


def _named(inputs: Mapping[str, str]) -> str:
    """What was put into a model's inputs, in words."""
    return ", ".join(f"{name}={text}" for name, text in inputs.items()) or "no --input"


class Reporter(Protocol):
    """Tells the user what goes on."""

    def phase(self, text: str) -> None:
        """A new phase begins."""

    def progress(self, share: float) -> None:
        """How much of the phase is done, 0..1."""


@dataclass(frozen=True)
class MadeRuns:
    """runs/<run_id>/ of a results folder, and invalid/ for what does not count.

    An INVALID run is made again while it has attempts, also when an interrupted study goes on, unless that is in vain.
    machine: what a look at it found before the runs; None: nobody looked. has_time: whether there is time for a run of
    so many seconds to be made again. again_if: which INVALID runs are made again, whatever the machine; None: all
    that could become VALID.
    """

    folder: Path
    client: ClientConfig
    sample_period_s: float
    reporter: Reporter
    limits: ValidityLimits | None = None  # None: those of every run
    machine: Machine | None = None
    has_time: Callable[[float], bool] = lambda _: True
    again_if: Callable[[Verdict], bool] | None = None
    to_come_s: Callable[[], float] | None = None  # least seconds of the runs after this one; None: nobody knows
    _said: set[str] = field(default_factory=set, init=False, compare=False)  # rules that were said: each once
    _late_twice: list[float] = field(default_factory=list, init=False, compare=False)  # limits of lag, in ms

    def run_folder(self, run_id: str) -> Path:
        """Where a run of that name lies."""
        return self.folder / "runs" / run_id

    def kept(
        self,
        run_id: str,
        schedule: Schedule | None = None,
        service: ServiceConfig | None = None,
        aim: Target | None = None,
        *,
        attempts: int = ATTEMPTS,
        files: Sequence[str] = (),
    ) -> RunDir | None:
        """The run of that name, if it counts; None: it is to be made. What an interrupted one left, one in which the
        server died or others used it, and an INVALID one that has attempts left, is moved to invalid/.

        schedule, service: that the run must have been made with; None: any. aim: what this study sends to; None: a
        server that is not started yet. files: that a complete run has beside run.json. ConfigError if the run is
        another one than would be made now: of another schedule, service, user's server, or shape of its inputs.
        """
        run = RunDir(self.run_folder(run_id))
        if not run.path.exists():
            return None
        there = run.manifest_file.exists() and all((run.path / name).exists() for name in files)
        if not there or run.manifest.state != "complete":
            self._put_aside(run.path, "interrupted")
            return None
        if aim is not None:
            self._refuse_another_server(run, aim)
        for spoilt, why, aside in SPOILT:
            if spoilt(run):
                self.reporter.phase(f"{run_id}: {why}: it is made again")
                self._put_aside(run.path, aside)
                return None
        if (schedule is not None and not Schedule.read(run.schedule).same_requests(schedule)) or (
            service is not None and run.manifest.service != service
        ):
            raise ConfigError(
                f"{run.path} was made with another schedule or service than this campaign's: remove it to make it "
                "again, or choose another folder with --out"
            )
        return run if self._counts(run, attempts) else None

    @staticmethod
    def _refuse_another_server(run: RunDir, aim: Target) -> None:
        made = run.manifest
        if UNKNOWN in (made.device.kind, aim.device.kind) and made.device != aim.device:
            raise ConfigError(
                f"{run.path} was made with {made.device.name}, this campaign has {aim.device.name}: a profile of both "
                "would be of neither; choose another folder with --out"
            )
        shapes = shapes_of(aim)
        if made.shapes and made.shapes != shapes:
            name = next(tensor for tensor in {**made.shapes, **shapes} if made.shapes.get(tensor) != shapes.get(tensor))
            raise ConfigError(
                f"{run.path} was made with input '{name}' of shape {list(made.shapes.get(name, ()))}, this campaign "
                f"has {list(shapes.get(name, ()))}: give that one (--shape), or choose another folder with --out"
            )
        if made.inputs != inputs_of(aim):
            raise ConfigError(
                f"{run.path} was made with {_named(made.inputs)}, this campaign has {_named(inputs_of(aim))}: give the "
                "same --input, or choose another folder with --out"
            )

    def make(self, aim: Target, schedule: Schedule, identity: Identity, attempts: int = ATTEMPTS) -> RunDir:
        """Replay the schedule, again while the run is INVALID, could be VALID, and has attempts."""
        return self.made(
            identity.run_id, lambda folder, notes: self.replay(aim, schedule, folder, identity, notes), attempts
        )

    def made(self, run_id: str, once: Once, attempts: int = ATTEMPTS) -> RunDir:
        """The same of a run that `once` makes, in a folder and with notes on the attempts before it."""
        while True:
            run = once(self.run_folder(run_id), self._attempts_before(run_id))
            if self._counts(run, attempts):
                return run

    def replay(
        self, aim: Target, schedule: Schedule, folder: Path, identity: Identity, notes: tuple[str, ...]
    ) -> RunDir:
        """One attempt at a run."""
        again = f" (again: {notes[-1]})" if notes else ""
        whole_s = schedule.duration_s + (0.0 if self.to_come_s is None else self.to_come_s())
        left = "" if self.to_come_s is None else f"; about {max(1, round(whole_s / 60))} min left in all"
        sent = f"{len(schedule)} requests in {schedule.duration_s:.0f} s"
        self.reporter.phase(f"{identity.run_id}: {sent}{again}{left}")
        identity = replace(identity, notes=(*identity.notes, *notes))
        return run_real(
            aim,
            schedule,
            folder,
            identity,
            self.client,
            self.sample_period_s,
            self.reporter.progress,
            self.limits,
            self.machine,
        )

    def _attempts_before(self, run_id: str) -> tuple[str, ...]:
        """A note on each INVALID attempt at a run that lies in invalid/."""
        verdicts = [RunDir(path).manifest.verdict for path in self._attempts_aside(run_id)]
        reasons = ["; ".join(verdict.reasons) if verdict is not None else "not judged" for verdict in verdicts]
        return tuple(f"attempt {number} was INVALID ({why})" for number, why in enumerate(reasons, start=1))

    def _attempts_aside(self, run_id: str) -> list[Path]:
        aside = self.folder / "invalid"
        numbered = (aside / f"{run_id}-attempt{number}" for number in itertools.count(1))
        return list(itertools.takewhile(Path.exists, numbered))

    def _counts(self, run: RunDir, attempts: int) -> bool:
        """Is the run VALID, or the last one that is tried? One that does not count is moved to invalid/."""
        verdict = run.manifest.verdict
        if verdict is None or verdict.valid:
            return True
        noted = sum(note.startswith("attempt ") for note in run.manifest.notes)  # an archive has no invalid/
        attempt = 1 + max(noted, len(self._attempts_aside(run.path.name)))
        if attempt > 1 and only_late(verdict):
            self._late_twice.append(verdict.figures["lag_limit_ms"])
        if attempt >= attempts or not self._may_improve(verdict, run.manifest.duration_s):
            return True
        self._put_aside(run.path, f"attempt{attempt}")
        return False

    def _may_improve(self, verdict: Verdict, duration_s: float) -> bool:
        """Could another attempt be VALID, and is there time for it?"""
        if self.again_if is not None:
            return self.again_if(verdict)
        if verdict.figures.get("scheduled", math.inf) < verdict.figures.get("samples_needed", 0):
            return False  # the same schedule has too few requests for the percentile
        rule = self._too_late_here(verdict)
        if rule is None and not self.has_time(duration_s):
            rule = "there is no time for it"
        if rule is not None:
            self._say_once(rule, verdict)
        return rule is None

    def _too_late_here(self, verdict: Verdict) -> str | None:
        """Why a run that was late and nothing else would be late again on this machine; None: it may not be."""
        limit_ms = verdict.figures.get("lag_limit_ms")
        if limit_ms is None or not only_late(verdict):
            return None
        if self.machine is not None and self.machine.keeps(limit_ms) is False:
            return f"this machine's own wake-ups are {self.machine.wakeup_p99_ms:.1f} ms late"
        if any(limit_ms <= limit for limit in self._late_twice):
            return "another run was late twice"
        return None

    def _say_once(self, rule: str, verdict: Verdict) -> None:
        """The rule, with the first verdict that it was kept for."""
        if rule not in self._said:
            self._said.add(rule)
            self.reporter.phase(f"INVALID ({'; '.join(verdict.reasons)}): kept, not made again: {rule}")

    def _put_aside(self, folder: Path, why: str) -> None:
        """Move a run that does not count to invalid/: what was measured is kept."""
        aside = self.folder / "invalid" / f"{folder.name}-{why}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
