"""The same schedule on the same model on two devices of this machine, one server at a time, turn by turn.

Files in results/<name>/: devices.json (the configuration), runs/<model>-<device>-<k>/, invalid/ (runs that were made
again), serving/ (server logs), ratios.json, ecdf.png, and the report. A complete run is not made again, so a folder
that an interrupt left is continued, also where only one device's runs are missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from loadgen.validity import ValidityLimits
from testbed.errors import ServingError
from testbed.measurement.gpu_metrics import GpuSource
from testbed.measurement.machine import look as look_at_machine
from testbed.pipeline.devices_config import DeviceName, DevicesConfig, DeviceStudy
from testbed.pipeline.looked import Look, look_first
from testbed.pipeline.made_runs import MadeRuns, Reporter
from testbed.pipeline.target import Target, served
from testbed.pipeline.traffic import make_schedule, traffic_identity
from testbed.reporting.devices import run_id_of, side_labels
from testbed.reporting.reports import write_report
from testbed.run_dir import is_complete
from testbed.study import remember


class Turn(NamedTuple):
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
    on_gpu = [turn for turn in turns(config) if turn.device == "gpu"]
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
    for turn in turns(config):
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


def turns(config: DevicesConfig) -> Iterator[Turn]:
    """In the order of measuring: a study after the other, its devices taking turns."""
    labels = side_labels(config.devices)
    for study in config.studies:
        for repeat in range(1, config.repeats + 1):
            for device, label in zip(config.devices, labels, strict=True):
                yield Turn(run_id_of(study.model, label, repeat), study, device, repeat)


def _make(config: DevicesConfig, runs: MadeRuns, turn: Turn) -> None:
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
