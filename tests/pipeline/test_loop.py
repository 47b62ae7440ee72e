"""The whole loop once, small, on a real server: from serving to the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadgen.validity import ValidityLimits
from testbed.calibration.profile import ServiceProfile
from testbed.config import CalibrateConfig
from testbed.errors import ConfigError, ServingError
from testbed.measurement.machine import look
from testbed.pipeline.calibrate import calibrate
from testbed.pipeline.target import remote, served
from testbed.reporting.compare import recompute
from testbed.run_dir import RunDir
from tests.pipeline.recording_reporter import RecordingReporter
from workloads.emulated_profile import EmulatedProfile

pytestmark = pytest.mark.server
EMULATED = EmulatedProfile.linear(0.002, 0.008, 4)
# A machine that is busy with other tests may be late for most requests: what is looked at here does not depend on it.
ANY_MACHINE = ValidityLimits(
    lag_p99_s=60, late_s=60, delivered_share=0.5, failed_share=0.5, client_cpu_share=10, confidence=0.01
)
SERVICE = {"max_batch_size": 4}
STUDY = {
    "model": "emulated",
    "emulated": EMULATED.model_dump(),
    "configurations": [SERVICE],
    "fit": {"burst_repeats": 6, "capacity_s": 2, "loads": [0.25, 0.5], "duration_s": 4},
    "held_out": {"patterns": ["bursty"], "peak_load": 0.5, "duration_s": 3, "repeats": 2},
}


def test_one_study_from_serving_to_the_report(tmp_path: Path) -> None:
    config = CalibrateConfig.model_validate({"studies": [STUDY]})
    folder = calibrate(
        config, tmp_path, RecordingReporter(), limits=ANY_MACHINE, look=lambda: look(0.02), measure_only=True
    )
    assert (folder, (tmp_path / "profile-emulated.json").exists()) == (tmp_path, False)  # it may be fitted elsewhere
    told = RecordingReporter()
    report = calibrate(config, tmp_path, told, limits=ANY_MACHINE, look=None)
    assert not [phase for phase in told.phases if "requests in" in phase]  # all runs are there

    profile = ServiceProfile.read(tmp_path / "profile-emulated.json")
    # A batch takes the emulated time, but for the chance in a few batches that spread by 5 %, and what the backend and
    # a busy machine add.
    for measured, programmed in zip(profile.service_time.mean_s, EMULATED.mean_s, strict=True):
        assert programmed * 0.9 < measured < 10 * programmed
    assert min(profile.service_time.batches) >= 5
    assert len(profile.cold_start_s) >= 1

    rows = json.loads((tmp_path / "comparison.json").read_text())["runs"]
    assert [row["run_id"] for row in rows] == ["emulated-bursty-r1-n1-b4-d0ms", "emulated-bursty-r1-n1-b4-d0ms-repeat1"]
    for row in rows:  # each repeat has a simulated counterpart of its own
        assert row["held_out"]
        assert row["p95_sim_ms"] > 5
        # A repeat whose client this machine made late is INVALID, and has no part in the spread.
        assert len({row["run_id"], *row["repeats"], *row["repeats_left_out"]}) == 2
        assert (row["repeat_spread_pct"] is None) == (len(row["repeats"]) < 2)
    assert [row.run_id for row in recompute(tmp_path).runs] == [row["run_id"] for row in rows]
    assert "EMULATED" in report.read_text()
    real, sim = (RunDir(tmp_path / "runs" / f"{rows[0]['run_id']}{end}").manifest for end in ("", "-sim"))
    assert real.machine is not None
    assert real.machine.duration_s == 0.02
    assert sim.machine is None  # it was not measured on any


def test_a_folder_made_with_other_settings_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        CalibrateConfig.model_validate({"seed": 2, "studies": [STUDY]}).model_dump_json()
    )
    with pytest.raises(ConfigError, match="made with other settings"):
        calibrate(CalibrateConfig.model_validate({"studies": [STUDY]}), tmp_path, RecordingReporter(), look=None)


def test_a_server_of_the_users_is_calibrated_from_what_it_says_of_itself(tmp_path: Path) -> None:
    config = CalibrateConfig.model_validate({"studies": [STUDY]})
    study = config.studies[0]
    with served(study.serve(study.configurations[0], "cpu"), tmp_path / "serving") as ours:
        address = ours.addresses()[0]
        theirs = remote(address.http_url, None, address.metrics_url)
        assert theirs.service == study.configurations[0]
        ensemble = replace(theirs, unmodelled=("an ensemble of models (ensemble_scheduling)",))
        with pytest.raises(ServingError, match=r"has an ensemble.*does not model"):  # before any traffic
            calibrate(config, tmp_path / "results", RecordingReporter(), ensemble, look=None)
        once = study.held_out.model_copy(update={"repeats": 1})
        user = study.model_copy(update={"emulated": None, "model": theirs.model, "held_out": once})
        settings = config.model_copy(update={"studies": (user,)})
        calibrate(settings, tmp_path / "results", RecordingReporter(), theirs, ANY_MACHINE, look=None)
    profile = ServiceProfile.read(tmp_path / "results" / "profile-emulated.json")
    assert profile.device.kind == "unknown"
    assert profile.steadiness is None  # no log of batches: not measured
    assert profile.inter_batch_gap_s > 0
