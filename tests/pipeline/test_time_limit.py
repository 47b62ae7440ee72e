"""A calibration's time limit: what is spare, and what it is spent on. Under a clock of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testbed.config import CalibrateConfig
from testbed.pipeline.campaign import Campaign, _length
from testbed.pipeline.made_runs import MadeRuns
from testbed.pipeline.time_limit import RUN_S, TimeLimit, plan_of
from tests.pipeline.recording_reporter import RecordingReporter
from tests.reporting.synthetic_runs import write_run

STUDY = {
    "model": "resnet50",
    "configurations": [{"max_batch_size": 4}, {"max_batch_size": 4, "replicas": 2}],
    "fit": {"loads": [0.1, 0.5], "duration_s": 9},
    "held_out": {"patterns": ["bursty"], "duration_s": 6, "repeats": 2},
}


ARRIVALS_NS = np.arange(1, 101) * 100_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_spare_is_what_no_step_to_come_needs() -> None:
    clock = Clock()
    limit = TimeLimit(100.0, {"a": 20.0, "b": 30.0}, clock)
    assert limit.spare_s() == 50.0
    clock.now_s += 60.0
    assert limit.spare_s() == -10.0
    limit.passed("a")
    assert limit.spare_s() == 10.0


def test_a_run_gets_the_spare_time_beyond_its_least_length_and_never_less_than_that() -> None:
    clock = Clock()
    limit = TimeLimit(100.0, {"a": 20.0, "b": 30.0}, clock)
    assert limit.length_s(wanted_s=40.0, least_s=15.0) == 40.0
    assert limit.length_s(wanted_s=90.0, least_s=15.0) == 65.0
    clock.now_s += 90.0
    assert limit.length_s(wanted_s=90.0, least_s=15.0) == 15.0


def test_a_run_is_made_again_only_in_spare_time() -> None:
    limit = TimeLimit(100.0, {"a": 60.0}, Clock())
    assert limit.allows(40.0 - RUN_S)
    assert not limit.allows(40.0)


def test_without_a_limit_everything_is_as_long_as_it_wants() -> None:
    limit = TimeLimit(None, {"a": 1e9})
    assert limit.length_s(wanted_s=77.0, least_s=15.0) == 77.0
    assert limit.allows(1e6)


def test_the_plan_has_every_run_of_every_configuration() -> None:
    plan = plan_of(CalibrateConfig.model_validate({"studies": [STUDY]}))
    held_out = {step: seconds for step, seconds in plan.items() if "bursty" in step}
    assert len(held_out) == 4
    assert set(held_out.values()) == {6 + RUN_S}
    fitted = [step for step in plan if "-fit-" in step]
    assert fitted == ["resnet50-fit-r1-n1-b4-d0ms-0.1", "resnet50-fit-r1-n1-b4-d0ms-0.5"]


def test_a_limit_is_a_positive_number() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        CalibrateConfig.model_validate({"studies": [STUDY], "time_limit_s": 0})


def campaign_of(folder: Path, limit: TimeLimit) -> Campaign:
    config = CalibrateConfig.model_validate({"studies": [STUDY]})
    return Campaign(config, MadeRuns(folder, config.client, 1.0, RecordingReporter()), limit)


def test_a_shortened_run_says_so_and_is_as_long_when_the_folder_is_continued(tmp_path: Path) -> None:
    limit = TimeLimit(100.0, {"run": 60.0}, Clock())
    length_s, notes = _length(campaign_of(tmp_path, limit), "run", wanted_s=77.0, least_s=15.0)
    assert length_s == 55.0
    assert notes == ("shortened for the campaign's time limit (100 s): 55 s instead of 77 s",)
    write_run(tmp_path / "runs", "run", ARRIVALS_NS, ARRIVALS_NS / 1e9, duration_s=length_s, notes=notes)
    later = campaign_of(tmp_path, TimeLimit(None, {}))
    assert _length(later, "run", wanted_s=77.0, least_s=15.0) == (length_s, notes)


def test_a_run_that_was_not_shortened_is_to_be_as_long_as_wanted(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "run", ARRIVALS_NS, ARRIVALS_NS / 1e9, duration_s=40.0)
    late = campaign_of(tmp_path, TimeLimit(1.0, {"run": 60.0}))
    assert _length(late, "run", wanted_s=77.0, least_s=15.0) == (77.0, ())
