"""The same schedule on the same model on two devices of this machine, one server at a time, turn by turn.

Files in results/<name>/: devices.json (the configuration), runs/<model>-<device>-<k>/, invalid/ (runs that were made
again), serving/ (server logs), ratios.json, ecdf.png, and the report. A complete run is not made again, so a folder
that an interrupt left is continued, also where only one device's runs are missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from loadgen.validity import ValidityLimits
from testbed.config import ClientConfig, NetworkConfig, ServeConfig, Strict, TrafficConfig
from testbed.config_file import build
from testbed.errors import ServingError
from testbed.measurement.gpu_metrics import GpuSource
from testbed.measurement.machine import look as look_at_machine
from testbed.pipeline.looked import Look, look_first
from testbed.pipeline.made_runs import MadeRuns, Reporter
from testbed.pipeline.target import Target, served
from testbed.pipeline.traffic import make_schedule, traffic_identity
from testbed.reporting.devices import is_complete, run_id_of, side_labels
from testbed.reporting.reports import write_report
from testbed.study import remember
from workloads.catalog import ServiceConfig, find_model

DeviceName = Literal["cpu", "gpu"]


class DeviceStudy(NetworkConfig):
    """One model under one traffic, on both devices."""

    service: ServiceConfig = ServiceConfig()
    traffic: TrafficConfig

    def serve(self, device: DeviceName) -> ServeConfig:
        """What to serve; ConfigError if the catalog's model cannot be served so."""
        # A core is left to server and client, as in a calibration.
        cores = len(os.sched_getaffinity(0)) - 1
        threads = self.threads or max(1, cores // (self.service.replicas * self.service.instances))
        data = {**self.network(), "device": device, "threads": threads, "service": self.service}
        return build(ServeConfig, data, f"study of {self.model} on {device}")


class DevicesConfig(Strict):
    """`kis devices`: which devices, which models, which traffic."""

    devices: tuple[DeviceName, DeviceName] = Field(
        ("cpu", "gpu"),
        description="ratios are of the first to the second; [cpu, cpu] tests the comparison itself: about 1",
    )
    repeats: int = Field(5, ge=1, description="runs on each device, alternating")
    sample_period_s: float = Field(1.0, gt=0, description="time between two samples of the metrics")
    client: ClientConfig = ClientConfig()
    studies: tuple[DeviceStudy, ...] = Field(min_length=1, description="models, each with its traffic")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        models = [study.model for study in self.studies]
        if len(set(models)) < len(models):
            raise ValueError(f"two studies of one model ({', '.join(models)}): compare them in different folders")
        for model in models:
            if find_model(model).emulated and "gpu" in self.devices:
                raise ValueError(
                    f"studies: model '{model}' only waits, the same on every device: name another, or devices: "
                    "[cpu, cpu] to check the comparison itself"
                )
        return self


class _Turn(NamedTuple):
    """One run that is to be there."""

    run_id: str
    study: DeviceStudy
    device: DeviceName
    repeat: int  # from 1


def compare_devices(
    config: DevicesConfig,
    folder: Path,
    reporter: Reporter,
    limits: ValidityLimits | None = None,
    look: Look | None = look_at_machine,
) -> Path:
    """Make what is not there yet, and write the report; returns its path.

    limits: what a VALID run must keep to; None: the usual ones. look: at the machine, before the first run; None: none.
    ServingError if a run on a GPU is missing and there is no GPU: then nothing is served and nothing is written.
    """
    serves = []
    for study in config.studies:  # a mistake in the last study is said before the first one runs
        serves += [study.serve(device) for device in config.devices]
        make_schedule(study.traffic, study.model)
    on_gpu = [turn for turn in _turns(config) if turn.device == "gpu"]
    missing = [turn for turn in on_gpu if not is_complete(folder / "runs" / turn.run_id)]
    if missing:
        refuse_without_gpu()
    remember(config, folder / "devices.json", may_change=("repeats",))
    machine = look_first(reporter, look, config.client, serves)
    for study in {turn.study.model: turn.study for turn in missing}.values():
        # A GPU that the server cannot use (a driver too old, too little memory) is found before a CPU was measured.
        reporter.phase(f"{study.model}: try a start on the GPU")
        with _opened(config, study, "gpu", folder / "serving" / f"{study.model}-try"):
            pass
    runs = MadeRuns(folder, config.client, config.sample_period_s, reporter, limits, machine)
    for turn in _turns(config):
        _make(config, runs, turn)
    reporter.phase("report")
    return write_report(folder)


def refuse_without_gpu() -> None:
    """ServingError, with what NVML said, if it shows no GPU."""
    reason = GpuSource().absent_because
    if reason is not None:
        raise ServingError(
            f"no NVIDIA GPU here to compare with ({reason}): give this command on a machine where `nvidia-smi` lists "
            "one; nothing was measured"
        )


def _turns(config: DevicesConfig) -> Iterator[_Turn]:
    """In the order of measuring: a study after the other, its devices taking turns."""
    labels = side_labels(config.devices)
    for study in config.studies:
        for repeat in range(1, config.repeats + 1):
            for device, label in zip(config.devices, labels, strict=True):
                yield _Turn(run_id_of(study.model, label, repeat), study, device, repeat)


def _make(config: DevicesConfig, runs: MadeRuns, turn: _Turn) -> None:
    """One run on a server of its own, so that no run finds what another one left, unless it is there."""
    schedule = make_schedule(turn.study.traffic, turn.study.model)
    if runs.kept(turn.run_id, schedule, turn.study.service) is not None:
        return
    runs.reporter.phase(f"{turn.run_id}: start {turn.study.service.replicas} x tritonserver on the {turn.device}")
    identity = replace(traffic_identity(turn.run_id, turn.study.traffic), repeat=turn.repeat - 1)
    with _opened(config, turn.study, turn.device, runs.folder / "serving" / turn.run_id) as aim:
        runs.make(aim, schedule, identity)


@contextmanager
def _opened(config: DevicesConfig, study: DeviceStudy, device: DeviceName, folder: Path) -> Iterator[Target]:
    shutil.rmtree(folder, ignore_errors=True)
    publish: Literal["http", "grpc"] = "grpc" if config.client.transport == "grpc" else "http"
    with served(study.serve(device), folder, publish) as aim:
        yield aim
