"""An INVALID run is made again only where it could become VALID. No server: the runs' logs are made up, and judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from loadgen.validity import Verdict, judge
from testbed.config import ClientConfig
from testbed.errors import ConfigError
from testbed.machine import Machine
from testbed.pipeline import made_runs as under_test
from testbed.pipeline.made_runs import MadeRuns
from testbed.pipeline.real_run import OTHERS
from testbed.pipeline.target import Target
from testbed.pipeline.traffic import Identity
from testbed.run_dir import Device, RunDir, RunManifest
from tests.pipeline.machines import machine_of
from tests.pipeline.played import write_requests
from tests.pipeline.recording_reporter import RecordingReporter
from workloads.catalog import ServiceConfig, TensorSpec

MS = 1_000_000
LATE_MACHINE = machine_of(wakeup_p99_ms=4.9)


def schedule_of(requests: int) -> Schedule:
    return Schedule(np.arange(requests) * 10 * MS, np.full(requests, "m", dtype=object), requests / 100)


def verdict_of(
    schedule: Schedule, lag_ms: float = 0.1, latency_ms: float = 20.0, errors: int = 0, percentile: float | None = 95
) -> Verdict:
    """Of a run whose requests were all sent so late; the last ones failed."""
    status = np.full(len(schedule), "ok", dtype=object)
    status[len(schedule) - errors :] = "error"
    completed = pd.Series(schedule.scheduled_ns + int(latency_ms * MS), dtype="Int64")
    completed[status != "ok"] = pd.NA
    sent = pd.Series(schedule.scheduled_ns + int(lag_ms * MS), dtype="Int64")
    columns = {"scheduled_ns": schedule.scheduled_ns, "sent_ns": sent, "completed_ns": completed, "status": status}
    return judge(schedule, RequestLog(pd.DataFrame({**columns, "detail": None})), [], percentile)


class Runs:
    """A campaign's runs whose verdicts are given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.told = RecordingReporter()
        self.made: list[str] = []
        self.verdict: Callable[[Schedule], Verdict] = verdict_of
        self.runs = MadeRuns(folder, ClientConfig(), 1.0, self.told, **settings)
        monkeypatch.setattr(under_test, "run_real", self._run_real)

    def make(self, run_id: str, requests: int = 200, **verdict: Any) -> RunDir:
        """Make a run of which every attempt gets that verdict."""
        self.verdict = lambda schedule: verdict_of(schedule, **verdict)
        return self.runs.make(None, schedule_of(requests), Identity(run_id, "constant", {}, 1, notes=("kept",)))  # type: ignore[arg-type]

    def _run_real(self, _: Any, schedule: Schedule, folder: Path, identity: Identity, *rest: Any) -> RunDir:
        machine: Machine | None = rest[-1]
        self.made.append(identity.run_id)
        run = RunDir(folder).create()
        run.write_manifest(
            RunManifest(
                run_id=identity.run_id,
                kind="real",
                state="complete",
                model="m",
                weights="none",
                device=Device(kind="emulated", name="made up"),
                service=ServiceConfig(),
                pattern=identity.pattern,
                seed=identity.seed,
                duration_s=schedule.duration_s,
                verdict=self.verdict(schedule),
                machine=machine,
                notes=identity.notes,
            )
        )
        return run


@pytest.fixture
def runs_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runs]:
    return lambda **settings: Runs(tmp_path, monkeypatch, **settings)


def test_every_run_carries_the_look_at_its_machine(runs_of: Callable[..., Runs]) -> None:
    run = runs_of(machine=LATE_MACHINE).make("valid")
    assert run.manifest.machine == LATE_MACHINE
    assert run.manifest.verdict is not None
    assert run.manifest.verdict.valid


def test_a_late_run_is_made_again_where_the_machine_could_keep_time(runs_of: Callable[..., Runs]) -> None:
    runs = runs_of(machine=machine_of())
    run = runs.make("late", lag_ms=3.0)
    assert runs.made == ["late", "late"]
    first, second = run.manifest.notes
    assert first == "kept"  # what was said of the run before it was made
    assert second.startswith("attempt 1 was INVALID (requests were sent late")


def test_a_late_run_is_made_again_where_nobody_looked(runs_of: Callable[..., Runs]) -> None:
    runs = runs_of(machine=None)
    runs.make("late", lag_ms=3.0)
    assert runs.made == ["late", "late"]


def test_a_late_run_is_not_made_again_where_wake_ups_alone_are_later(runs_of: Callable[..., Runs]) -> None:
    runs = runs_of(machine=LATE_MACHINE)
    run = runs.make("one", lag_ms=3.0)
    runs.make("two", lag_ms=12.0)  # late at P99, and each over 10 ms
    assert runs.made == ["one", "two"]
    assert run.manifest.verdict is not None
    assert not run.manifest.verdict.valid  # it stays what it is
    told = "): kept, not made again: this machine's own wake-ups are 4.9 ms late"
    assert [phase for phase in runs.told.phases if phase.endswith(told)] == [runs.told.phases[1]]  # once


def test_a_limit_that_a_long_latency_widens_can_be_kept(runs_of: Callable[..., Runs]) -> None:
    runs = runs_of(machine=LATE_MACHINE)
    runs.make("slow", lag_ms=8.0, latency_ms=300.0)  # the limit is 6 ms, the wake-ups are within it
    assert runs.made == ["slow", "slow"]


def test_a_run_that_was_late_and_failed_is_made_again(runs_of: Callable[..., Runs]) -> None:
    runs = runs_of(machine=LATE_MACHINE)
    runs.make("failed", lag_ms=3.0, errors=20)
    assert runs.made == ["failed", "failed"]


def test_a_run_of_too_few_requests_is_not_made_again_whatever_else_it_was(runs_of: Callable[..., Runs]) -> None:
    runs = runs_of(machine=machine_of())
    runs.make("short", requests=100)
    runs.make("short and late", requests=100, lag_ms=3.0)
    assert runs.made == ["short", "short and late"]


def test_after_a_run_was_late_twice_later_ones_are_not_made_again_for_it(runs_of: Callable[..., Runs]) -> None:
    runs = runs_of(machine=machine_of())
    runs.make("one", lag_ms=3.0)
    runs.make("two", lag_ms=3.0)
    runs.make("wider", lag_ms=7.0, latency_ms=300.0)  # another limit: nobody knows
    assert runs.made == ["one", "one", "two", "wider", "wider"]
    assert sum("late twice" in phase for phase in runs.told.phases) == 1


def test_without_time_no_run_is_made_again(runs_of: Callable[..., Runs]) -> None:
    asked: list[float] = []

    def has_time(duration_s: float) -> bool:
        asked.append(duration_s)
        return False

    runs = runs_of(machine=machine_of(), has_time=has_time)
    runs.make("one", errors=20)
    runs.make("two", errors=20)
    assert runs.made == ["one", "two"]
    assert asked == [2.0, 2.0]
    assert sum("kept, not made again: there is no time" in phase for phase in runs.told.phases) == 1


class Kept:
    """A run in a campaign's folder, and whether it is taken for one that would be made now."""

    def __init__(self, folder: Path, device: Device, status: list[str], valid: bool = False) -> None:
        self.runs = MadeRuns(folder, ClientConfig(), 1.0, RecordingReporter())
        self.schedule = schedule_of(len(status))
        run = RunDir(folder / "runs" / "one").create()
        write_requests(run, status)
        run.write_manifest(
            RunManifest(
                run_id="one",
                kind="real",
                state="complete",
                model="m",
                weights="none",
                device=device,
                service=ServiceConfig(),
                shapes={"x": (4,)},
                pattern="constant",
                seed=1,
                duration_s=self.schedule.duration_s,
                verdict=Verdict(valid=valid, reasons=() if valid else ("20 % of sent requests failed",)),
            )
        )

    def again(self, device: Device, shape: tuple[int, ...] = (4,)) -> RunDir | None:
        aim = Target(
            model="m",
            device=device,
            threads=None,
            weights="none",
            service=ServiceConfig(),
            inputs=(TensorSpec(name="x", datatype="FP32", shape=shape),),
            batched=True,
            endpoints=("a:8000",),
            addresses=list,
            pids=dict,
            events=list,
            batch_logs=None,
        )
        return self.runs.kept("one", self.schedule, ServiceConfig(), aim, attempts=1)


SLOW, FAST = (Device(kind="unknown", name=f"server at {name}:8000") for name in ("slow", "fast"))


def test_a_run_of_another_server_is_not_taken_for_one_of_this(tmp_path: Path) -> None:
    """Half a campaign with one server and half with another gave a profile of neither, 79 % off."""
    kept = Kept(tmp_path, SLOW, ["ok"] * 200, valid=True)
    assert kept.again(SLOW) is not None
    with pytest.raises(ConfigError, match="was made with server at slow:8000, this campaign has server at fast:8000"):
        kept.again(FAST)
    with pytest.raises(ConfigError, match=r"input 'x' of shape \[4\], this campaign has \[8\]"):
        kept.again(SLOW, (8,))


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (["ok"] * 150 + ["error"] * 50, True),
        (["error"] * 200, True),
        (["ok"] * 150 + ["timeout"] * 50, False),  # overloaded, and alive
        (["ok"] * 150 + ["error"] * 49 + ["ok"], False),
        (["ok"] * 195 + ["error"] * 5, False),
    ],
)
def test_a_run_in_which_the_server_died_is_made_again(tmp_path: Path, status: list[str], again: bool) -> None:
    kept = Kept(tmp_path, SLOW, status)
    found = kept.again(SLOW)
    assert (found is None) is again
    assert (tmp_path / "invalid" / "one-server-died").exists() is again  # what was measured is kept


def test_a_run_that_others_spoilt_is_made_again(tmp_path: Path) -> None:
    """A folder that went on after the other client had gone said "every run to fit on is INVALID" for ever."""
    kept = Kept(tmp_path, SLOW, ["ok"] * 200)
    run = RunDir(tmp_path / "runs" / "one")
    reason = f"the server executed 130 requests more than were sent: {OTHERS} the model"
    run.write_manifest(run.manifest.model_copy(update={"verdict": Verdict(valid=False, reasons=(reason,))}))
    kept.schedule = schedule_of(210)  # its loads are set from other runs, which are made again too
    assert kept.again(SLOW) is None
    assert (tmp_path / "invalid" / "one-other-client").exists()


def test_a_valid_run_is_kept_whatever_its_last_requests_were(tmp_path: Path) -> None:
    assert Kept(tmp_path, SLOW, ["ok"] * 150 + ["error"] * 50, valid=True).again(SLOW) is not None


@pytest.mark.parametrize(("noted", "again"), [((), True), (("attempt 1 was INVALID (late)",), False)])
def test_an_invalid_run_is_made_again_when_a_study_goes_on_unless_it_was_its_last_attempt(
    tmp_path: Path, noted: tuple[str, ...], again: bool
) -> None:
    """Also in a folder that was unpacked from an archive, which has no invalid/."""
    kept = Kept(tmp_path, SLOW, ["ok"] * 200)
    run = RunDir(tmp_path / "runs" / "one")
    run.write_manifest(run.manifest.model_copy(update={"notes": noted}))
    assert (kept.runs.kept("one", kept.schedule, ServiceConfig()) is None) is again
    assert (tmp_path / "invalid" / "one-attempt1").exists() is again
