"""Faults of a real run are made by a thread of their own, on the clock of the traffic, and never end the run."""

from __future__ import annotations

import json
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from loadgen.schedule import Schedule
from loadgen.validity import ClientFigures, Verdict, only_late
from testbed.errors import ClusterError
from testbed.measurement.metric_log import MetricLog
from testbed.pipeline import experiment, made_runs
from testbed.pipeline.cluster_config import Fault
from testbed.pipeline.fault_injection import injecting, read_faults
from testbed.pipeline.made_runs import MadeRuns
from testbed.pipeline.target import Target
from testbed.run_dir import Device, RunDir
from tests.pipeline.played import begin_run
from tests.pipeline.test_drift_experiment import config_of
from workloads.catalog import ServiceConfig
from workloads.files import write_json

PATIENCE_S = 30.0


class Noted:
    """Stands for the pods' slowness, which follows `late_s` after it was asked for. broken: what it raises."""

    def __init__(self, late_s: float = 0.25, broken: Exception | None = None) -> None:
        self.factors, self.late_s, self.broken = list[float](), late_s, broken
        self.asked = threading.Semaphore(0)

    def set(self, factor: float) -> float:
        self.asked.release()
        if self.broken is not None:
            raise self.broken
        self.factors.append(factor)
        return START_S + 10.0 * len(self.factors) + self.late_s

    def reset(self) -> None:
        self.factors.append(1.0)


START_S = time.monotonic() - 1000.0  # the traffic began long ago: whatever is to come has come


def started() -> int:
    return round(START_S * 1e9)


def test_faults_strike_once_each_in_their_order_and_it_is_written_when(tmp_path: Path) -> None:
    slowness: Any = Noted()
    with injecting([Fault(at_s=9, slow_down=2.0), Fault(at_s=4, slow_down=1.4)], slowness, started) as faults:
        assert slowness.asked.acquire(timeout=PATIENCE_S)
        assert slowness.asked.acquire(timeout=PATIENCE_S)
    assert slowness.factors == [1.0, 1.4, 2.0, 1.0]
    assert faults.missed() == ()
    faults.write(tmp_path)
    struck = [round(load["struck_s"], 6) for load in json.loads((tmp_path / "faults.json").read_text())]
    assert struck == [20.25, 30.25]  # when they were really made, not when they should have been
    assert [fault.slow_down for fault in read_faults(tmp_path)] == [1.4, 2.0]
    assert read_faults(tmp_path / "elsewhere") == ()


def test_nothing_strikes_before_the_traffic_has_begun_and_what_did_not_is_told(tmp_path: Path) -> None:
    slowness: Any = Noted()
    looked = threading.Semaphore(0)
    with injecting([Fault(at_s=0, slow_down=3.0)], slowness, looked.release) as faults:  # type: ignore[arg-type]
        for _ in range(3):
            assert looked.acquire(timeout=PATIENCE_S)
    assert slowness.factors == [1.0, 1.0]
    assert faults.missed() == ("the fault of second 0 (slow_down 3) was not made: the run was over before",)
    faults.write(tmp_path)
    assert not (tmp_path / "faults.json").exists()


def test_a_fault_that_is_still_to_come_does_not_hold_up_the_end() -> None:
    slowness: Any = Noted()
    with injecting([Fault(at_s=1e6, slow_down=3.0)], slowness, started) as faults:
        pass
    assert "was not made: the run was over before" in faults.missed()[0]


def test_a_run_that_fails_leaves_the_service_as_it_was() -> None:
    slowness: Any = Noted()

    def failing_run() -> None:
        with injecting([Fault(at_s=0, slow_down=3.0)], slowness, started):
            assert slowness.asked.acquire(timeout=PATIENCE_S)
            raise RuntimeError("the run failed")

    with pytest.raises(RuntimeError, match="the run failed"):
        failing_run()
    assert slowness.factors == [1.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (ClusterError("the API does not answer"), "the API does not answer"),
        (ZeroDivisionError("a\nbug"), "ZeroDivisionError: a bug"),
    ],
)
def test_a_fault_that_cannot_be_made_is_told_and_ends_nothing(broken: Exception, told: str) -> None:
    slowness: Any = Noted(broken=broken)
    with injecting([Fault(at_s=4, slow_down=2.0)], slowness, started) as faults:
        assert slowness.asked.acquire(timeout=PATIENCE_S)
    assert faults.missed() == (f"the fault of second 4 (slow_down 2) was not made: {told}",)


def test_an_api_that_is_away_at_the_end_costs_no_run() -> None:
    class Away(Noted):
        def reset(self) -> None:
            if self.factors:
                raise ClusterError("the API does not answer")
            super().reset()

    slowness: Any = Away()
    with injecting([], slowness, started):
        pass
    assert slowness.factors == [1.0]


class Service:
    """Stands for the deployment."""

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def scale(self, replicas: int) -> None:
        return None

    def wait_settled(self, replicas: int, timeout_s: float) -> None:
        return None


class Reporter:
    def phase(self, text: str) -> None:
        return None

    def progress(self, share: float) -> None:
        return None


def test_an_experiments_run_whose_fault_fails_is_kept_and_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path)
    slowness = Noted(broken=ClusterError("the API does not answer"))

    def run_real(target: Target, schedule: Schedule, folder: Path, identity: Any, *more: Any) -> RunDir:
        """A run of which the fault's time comes at once, whose display is told all the same."""
        on_progress = more[2]
        run = RunDir(begin_run(config, tmp_path / "e", ("steady", "plain", 1)))
        (folder / "decisions.json").unlink()
        run.raw.mkdir()
        start = {"start_unix_ns": 10**18, "start_monotonic_ns": started()}
        write_json(run.raw / "client-0.json", ClientFigures(worker=0, workers=1, pid=1, **start))
        on_progress(1.0)
        assert slowness.asked.acquire(timeout=PATIENCE_S)
        MetricLog.from_rows([(0, "deployment", "spec_replicas", {"model": "m"}, 2.0, "1")]).write(run.metrics)
        run.write_manifest(run.manifest.model_copy(update={"verdict": Verdict(valid=True), **start}))
        return run

    device = Device(kind="emulated", name="none")
    target = Target("m", device, None, "none", ServiceConfig(), (), True, (), list, dict, list, None)
    for name, what in {
        "KubernetesService": lambda *_: Service(),
        "pods_of": lambda *_: target,
        "refuse_other_service": lambda *_: None,
        "PodSlowness": lambda *_: slowness,
        "scaled_by": lambda *_: nullcontext(),
        "change_reasons": lambda *_: [],
    }.items():
        monkeypatch.setattr(experiment, name, what)
    monkeypatch.setattr(made_runs, "run_real", run_real)
    nobody: Any = None
    runs = MadeRuns(tmp_path / "e", config.client, 1.0, Reporter(), again_if=only_late)
    experiment.make_real(config, runs, ("steady", "plain", 1), nobody, None)
    (path,) = (tmp_path / "e" / "runs").iterdir()
    verdict = RunDir(path).manifest.verdict
    assert verdict is not None
    assert not verdict.valid
    assert verdict.reasons == ("the fault of second 45 (slow_down 1.5) was not made: the API does not answer",)
    assert json.loads((path / "decisions.json").read_text()) == []
    assert not (path / "faults.json").exists()
