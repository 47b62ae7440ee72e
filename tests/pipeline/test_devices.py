"""`kis devices`: the check for a GPU comes first, and an interrupted comparison goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.validity import ValidityLimits
from testbed.config_file import load_config
from testbed.errors import ServingError
from testbed.measurement.gpu_metrics import GpuSource
from testbed.pipeline import devices as under_test
from testbed.pipeline.devices import compare_devices
from testbed.pipeline.devices_config import DevicesConfig
from testbed.run_dir import RunDir
from workloads.emulated_profile import EmulatedProfile

SHIPPED = Path(under_test.__file__).parents[1] / "configs" / "devices.yaml"
TRAFFIC = {"pattern": "constant", "parameters": {"rate": 20}, "duration_s": 3, "seed": 2}
ITSELF = {
    "devices": ["cpu", "cpu"],
    "repeats": 1,
    "studies": [
        {
            "model": "emulated",
            "emulated": EmulatedProfile.linear(0.04, 0.01, 4).model_dump(),  # a busy machine adds little to it
            "service": {"max_batch_size": 4},
            "traffic": TRAFFIC,
        }
    ],
}
# A machine that is busy with other tests may be late for most requests.
ANY_MACHINE = ValidityLimits(
    lag_p99_s=60, late_s=60, delivered_share=0.5, failed_share=0.5, client_cpu_share=10, confidence=0.01
)
needs_no_gpu = pytest.mark.skipif(GpuSource().absent_because is None, reason="there is a GPU here")


class StoppingReporter:
    """A progress reporter; stop: ctrl-c in the middle of the run of that name."""

    def __init__(self, stop: str | None = None) -> None:
        self.phases: list[str] = []
        self.stop = stop

    def phase(self, text: str) -> None:
        self.phases.append(text)

    def progress(self, share: float) -> None:
        if self.stop is not None and share > 0.3 and self.phases[-1].startswith(f"{self.stop}: "):
            raise KeyboardInterrupt

    @property
    def measured(self) -> list[str]:
        """Ids of the runs that were made, attempts that were made again once each."""
        runs = [phase.partition(":")[0] for phase in self.phases if "requests in" in phase]
        return list(dict.fromkeys(runs))


def on(devices: list[str], **changed: Any) -> DevicesConfig:
    study = {"model": "resnet50", "traffic": TRAFFIC, "service": {"max_batch_size": 4}}
    return DevicesConfig.model_validate({"devices": devices, "studies": [study], **changed})


@needs_no_gpu
def test_without_a_gpu_nothing_is_served_and_nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "served", lambda *_: pytest.fail("a server was started"))
    with pytest.raises(ServingError, match="no NVIDIA GPU here"):
        compare_devices(on(["cpu", "gpu"]), tmp_path / "out", StoppingReporter(), look=None)
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_cannot_serve_is_found_before_a_cpu_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: Any, *_: Any) -> None:
        assert config.device == "gpu"
        raise ServingError("CUDA driver version is insufficient")

    monkeypatch.setattr(under_test, "refuse_without_gpu", lambda: None)
    monkeypatch.setattr(under_test, "served", refuse)
    told = StoppingReporter()
    with pytest.raises(ServingError, match="insufficient"):
        compare_devices(on(["cpu", "gpu"]), tmp_path / "out", told, look=None)
    assert told.measured == []


def test_what_only_waits_has_no_gpu() -> None:
    with pytest.raises(ValueError, match="only waits"):
        DevicesConfig.model_validate({**ITSELF, "devices": ["cpu", "gpu"]})


def test_two_studies_of_one_model_are_refused() -> None:
    with pytest.raises(ValueError, match="two studies of one model"):
        DevicesConfig.model_validate({**ITSELF, "studies": ITSELF["studies"] * 2})


def test_the_shipped_configuration_has_enough_requests_for_p95() -> None:
    config = load_config(SHIPPED, DevicesConfig)
    assert config.devices == ("cpu", "gpu")
    for study in config.studies:
        assert len(under_test.make_schedule(study.traffic, study.model)) >= 160  # 130 are needed


@pytest.mark.server
def test_a_device_is_as_fast_as_itself_and_an_interrupt_costs_only_what_it_broke(tmp_path: Path) -> None:
    config = DevicesConfig.model_validate(ITSELF)
    first = StoppingReporter(stop="emulated-cpu-b-1")
    with pytest.raises(KeyboardInterrupt):
        compare_devices(config, tmp_path, first, ANY_MACHINE, look=None)
    kept = RunDir(tmp_path / "runs" / "emulated-cpu-a-1").manifest
    assert kept.state == "complete"

    again = StoppingReporter()
    page = compare_devices(config, tmp_path, again, ANY_MACHINE, look=None)
    assert again.measured == ["emulated-cpu-b-1"]  # the missing side alone
    assert RunDir(tmp_path / "runs" / "emulated-cpu-a-1").manifest == kept
    assert (tmp_path / "invalid" / "emulated-cpu-b-1-interrupted" / "run.json").exists()
    assert "EMULATED" in page.read_text()

    # Both answered the same arrivals, and wait the same times: what is between them is this machine's luck.
    runs = [RunDir(tmp_path / "runs" / f"emulated-cpu-{side}-1") for side in "ab"]
    schedules = [run.schedule.read_bytes() for run in runs]
    assert schedules[0] == schedules[1]
    (study,) = json.loads((tmp_path / "ratios.json").read_text())["studies"]
    assert study["valid"]
    p95 = study["ratios"]["p95"]
    assert 1 / 3 < p95["value"] < 3
    if p95["low"] is not None:  # on a machine that is busy, queues last so long that the runs are too short for one
        assert p95["low"] <= p95["value"] <= p95["high"]
