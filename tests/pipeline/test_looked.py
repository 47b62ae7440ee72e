"""What a look at the machine means for the runs that follow: what is said, and what they are told to need."""

from __future__ import annotations

from typing import Any

import pytest

from loadgen.validity import ValidityLimits
from testbed.config import ClientConfig, ServeConfig
from testbed.machine import Machine, Needs, troubles
from testbed.pipeline.looked import look_first, needs_of
from tests.pipeline.machines import machine_of
from tests.pipeline.recording_reporter import RecordingReporter
from workloads.catalog import ServiceConfig
from workloads.emulated_profile import EmulatedProfile

MIB = 2**20
NEEDS = Needs(cores=3, shm_bytes=64 * MIB, open_files=1088)


def test_a_good_machine_has_no_troubles() -> None:
    assert troubles(machine_of(), needs=NEEDS) == ()


def test_what_is_not_known_is_no_trouble() -> None:
    unknown = Machine(looked_unix_ns=1, duration_s=3.0, wakeups=0, cores=8)
    assert troubles(unknown, needs=NEEDS) == ()
    assert "not measured" in unknown.line


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"wakeup_p99_ms": 4.9}, ["4.9 ms late at P99", "2 ms late", "2 % of", "below 245 ms", "cores of its own"]),
        ({"steal_share": 0.031}, ["3.1%", "hypervisor", "cores of its own"]),
        ({"busy_share": 0.86}, ["other work uses 86 %", "end it"]),
        ({"cores": 1}, ["1 core,", "want 3", "fewer replicas"]),
        ({"quota_cores": 1.5}, ["1.5 of 8 cores", "cpuset"]),
        ({"quota_cores": 8, "throttled_periods": 4}, ["4 periods", "larger quota"]),
        ({"clock_source": "hpet"}, ["hpet", "tsc"]),
        ({"shm_free_bytes": 60 * MIB}, ["60 MiB free", "need 64 MiB", "--shm-size"]),
        ({"open_files": 1024}, ["1024 files", "opens 1088", "ulimit -n"]),
    ],
)
def test_a_trouble_has_its_figure_and_what_would_help(found: dict[str, Any], told: list[str]) -> None:
    (sentence,) = troubles(machine_of(**found), needs=NEEDS)
    assert [part for part in told if part not in sentence] == []


def test_limits_that_allow_nothing_for_a_long_latency_say_nothing_of_it() -> None:
    (sentence,) = troubles(machine_of(wakeup_p99_ms=4.9), ValidityLimits(of_latency=0))
    assert "latency" not in sentence
    assert troubles(machine_of(wakeup_p99_ms=4.9), ValidityLimits(lag_p99_s=0.005)) == ()


def test_the_look_is_a_phase_then_come_its_figures_and_a_line_for_each_trouble() -> None:
    told = RecordingReporter()
    found = look_first(told, lambda: machine_of(wakeup_p99_ms=4.9), ClientConfig())
    assert found == machine_of(wakeup_p99_ms=4.9)
    look, line, note = told.phases
    assert look == "look at the machine"
    assert line.startswith("machine: ")
    assert "0.01 ms P50, 4.9 ms P99, 0.40 ms at worst" in line
    assert "below 245 ms" in note


def test_without_a_look_nothing_is_said() -> None:
    told = RecordingReporter()
    assert look_first(told, None, ClientConfig()) is None
    assert told.phases == []


def test_needs_are_those_of_the_largest_service() -> None:
    emulated = ServeConfig(
        model="emulated", emulated=EmulatedProfile.linear(0.004, 0.001, 8), service=ServiceConfig(replicas=4)
    )
    resnet = ServeConfig(model="resnet50", threads=2, service=ServiceConfig(replicas=2, max_batch_size=8))
    assert needs_of(ClientConfig(), [emulated]).cores == 2  # it only waits: the server and the client
    assert needs_of(ClientConfig(), [emulated, resnet]).cores == 5
    assert needs_of(ClientConfig(max_in_flight=1000, workers=2)).open_files == 564
    assert needs_of(ClientConfig()).cores is None
    image_bytes = 8 * 3 * 224 * 224 * 8  # a batch of eight, eight bytes a value at most
    needed = needs_of(ClientConfig(), [resnet]).shm_bytes
    assert needed is not None
    assert 2 * image_bytes < needed < 2 * (image_bytes + 3 * MIB)
