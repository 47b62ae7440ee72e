"""The real runs of a results folder, each made once: what is complete is kept, what was INVALID is made again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from loadgen.schedule import Schedule
from loadgen.validity import ValidityLimits, Verdict
from testbed.config import ClientConfig
from testbed.errors import ConfigError
from testbed.pipeline.real_run import Identity, run_real
from testbed.pipeline.target import Target
from testbed.run_dir import RunDir
from workloads.catalog import ServiceConfig

ATTEMPTS = 2  # a run whose client could not keep the schedule is made again once; the invalid one is kept aside


class Narrator(Protocol):
    """Tells the user what goes on."""

    def phase(self, text: str) -> None:
        """A new phase begins."""

    def progress(self, share: float) -> None:
        """How much of the phase is done, 0..1."""


@dataclass(frozen=True)
class MadeRuns:
    """runs/<run_id>/ of a results folder, and invalid/ for what does not count."""

    folder: Path
    client: ClientConfig
    sample_period_s: float
    narrator: Narrator
    limits: ValidityLimits | None = None  # None: those of every run

    def run_folder(self, run_id: str) -> Path:
        """Where a run of that name lies."""
        return self.folder / "runs" / run_id

    def kept(self, run_id: str, schedule: Schedule, service: ServiceConfig) -> RunDir | None:
        """The complete run of that name; None if there is none. What an interrupted one left is moved to invalid/.

        ConfigError if it is another run than the one that would be made now.
        """
        run = RunDir(self.run_folder(run_id))
        if not run.manifest_file.exists():
            return None
        if run.manifest.state != "complete":
            self._put_aside(run.path, "interrupted")
            return None
        same = np.array_equal(Schedule.read(run.schedule).scheduled_ns, schedule.scheduled_ns)
        if not same or run.manifest.service != service:
            raise ConfigError(
                f"{run.path} was made with another schedule or service than this campaign's: remove it to make it "
                "again, or choose another folder with --out"
            )
        return run

    def make(self, aim: Target, schedule: Schedule, identity: Identity, attempts: int = ATTEMPTS) -> RunDir:
        """Make the run; once more if it was INVALID, and could be valid."""
        folder = self.run_folder(identity.run_id)
        notes: tuple[str, ...] = ()
        for attempt in range(1, attempts + 1):
            again = f" (again: {notes[-1]})" if notes else ""
            self.narrator.phase(f"{identity.run_id}: {len(schedule)} requests in {schedule.duration_s:.0f} s{again}")
            run = run_real(
                aim,
                schedule,
                folder,
                replace(identity, notes=notes),
                self.client,
                self.sample_period_s,
                self.narrator.progress,
                self.limits,
            )
            verdict = run.manifest.verdict
            if verdict is None or verdict.valid or attempt == attempts or _only_too_short(verdict):
                return run
            notes = (*notes, f"attempt {attempt} was INVALID ({'; '.join(verdict.reasons)})")
            self._put_aside(folder, f"attempt{attempt}")
        raise AssertionError("unreachable: the last attempt returns")

    def _put_aside(self, folder: Path, why: str) -> None:
        """Move a run that does not count to invalid/: what was measured is kept."""
        aside = self.folder / "invalid" / f"{folder.name}-{why}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)


def _only_too_short(verdict: Verdict) -> bool:
    """True if the same schedule again could not be valid either: it has too few requests for the percentile."""
    return len(verdict.reasons) == 1 and verdict.figures["scheduled"] < verdict.figures.get("samples_needed", 0)
