"""The machine stands beside the errors of every report of real runs, and nowhere if nobody looked at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import write_run

from testbed.machine import Machine
from testbed.reporting.machine import machine_table
from testbed.reporting.reports import write_report
from testbed.run_dir import RunDir, RunManifest
from tests.pipeline.machines import machine_of
from tests.pipeline.played import begin_run, play_run
from tests.pipeline.test_experiment import config_of

ARRIVALS_NS = np.arange(1, 401) * 100_000_000
LATE = machine_of(wakeup_p99_ms=4.9, quota_cores=1.5, clock_source=None)
LATER = machine_of(wakeup_p99_ms=0.07, looked_unix_ns=LATE.looked_unix_ns + 60 * 10**9)


def calibrated(folder: Path, machine: Machine | None) -> Path:
    completed_s = ARRIVALS_NS / 1e9 + np.random.default_rng(5).gamma(4, 0.01, len(ARRIVALS_NS))
    span = {"duration_s": 41.0}
    write_run(folder / "runs", "real", ARRIVALS_NS, completed_s, machine=machine, **span)
    write_run(folder / "runs", "sim", ARRIVALS_NS, completed_s, kind="simulated", simulates="real", **span)
    return write_report(folder)


def of_devices(folder: Path, machine: Machine | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"devices": ["cpu", "cpu"], "repeats": 1, "studies": [{"model": "resnet50"}]}
    (folder / "devices.json").write_text(json.dumps(config))
    for side in "ab":
        completed_s = ARRIVALS_NS / 1e9 + 0.02
        write_run(folder / "runs", f"resnet50-cpu-{side}-1", ARRIVALS_NS, completed_s, machine=machine, duration_s=41.0)
    return write_report(folder)


def of_an_experiment(folder: Path, machine: Machine | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(folder, policies={"fixed-3": {"kind": "fixed", "replicas": 3}})
    run = RunDir(begin_run(config, folder, ("ramp", "fixed-3", 1)))
    run.write_manifest(run.manifest.model_copy(update={"machine": machine}))
    play_run(config, folder, ("ramp", "fixed-3", 1))
    (folder / "experiment.json").write_text(config.model_dump_json(indent=2))
    return write_report(folder)


@pytest.mark.parametrize("written", [calibrated, of_devices, of_an_experiment])
def test_both_pages_of_every_report_show_the_machine_and_its_troubles(
    tmp_path: Path, written: Callable[[Path, Machine | None], Path]
) -> None:
    page = written(tmp_path, LATE)
    for text in (page.read_text(), (tmp_path / "report.md").read_text().replace("\\", "")):
        assert "wake-ups late, P50 ms" in text
        assert "4.90" in text
        assert "timed wake-ups are 4.9 ms late at P99" in text
        assert "below 245 ms" in text
    assert (
        '<p class="note">runs whose latency percentile is below 245 ms' in page.read_text()
    )  # red: INVALID runs alone


@pytest.mark.parametrize("written", [calibrated, of_devices, of_an_experiment])
def test_a_folder_whose_machine_nobody_looked_at_has_no_such_table(
    tmp_path: Path, written: Callable[[Path, Machine | None], Path]
) -> None:
    page = written(tmp_path, None)
    for text in (page.read_text(), (tmp_path / "report.md").read_text()):
        assert "wake-ups late" not in text


def test_a_folder_that_was_continued_has_a_line_for_each_look(tmp_path: Path) -> None:
    looks = [LATER, LATE, LATER, None]
    runs = tmp_path / "runs"
    manifests: list[RunManifest] = [
        write_run(runs, f"run-{n}", ARRIVALS_NS, ARRIVALS_NS / 1e9 + 0.02, machine=look) for n, look in enumerate(looks)
    ]
    table = machine_table(manifests)
    assert table is not None
    assert [row[1] for row in table.rows] == ["1", "2"]  # the earlier look first, with its runs
    assert table.not_looked == 1
    assert table.rows[0][table.headings.index("clock")] == "not measured"
    assert len(table.troubles) == 2  # late wake-ups, and the quota


def test_the_run_json_of_an_older_run_has_no_machine(tmp_path: Path) -> None:
    write_run(tmp_path, "old", ARRIVALS_NS, ARRIVALS_NS / 1e9 + 0.02)
    file = RunDir(tmp_path / "old").manifest_file
    told = json.loads(file.read_text())
    del told["machine"]
    file.write_text(json.dumps(told))
    assert RunDir(tmp_path / "old").manifest.machine is None
