"""GPUs through NVML: utilisation, memory, power, energy, clocks of each, and which of them served a run.

No library or no GPU: no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pynvml

from testbed.measurement.metric_log import MetricLog, Sample
from testbed.measurement.sampler import MissedSample

# What a GPU or its driver will never answer; asking again is of no use, and it is no fault of the run.
_NEVER = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NoPermission)


class _Metric(NamedTuple):
    name: str
    unit: str
    read: Callable[[Any], float]  # NVML handle -> value in that unit


# Add a GPU metric here, in metric_log.py and in docs/reference/metrics.md. NVML's units: percent, mW, mJ, MHz, Celsius.
_METRICS = (
    _Metric("utilisation", "ratio", lambda gpu: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100),
    _Metric("memory_busy", "ratio", lambda gpu: pynvml.nvmlDeviceGetUtilizationRates(gpu).memory / 100),
    _Metric("memory_used", "bytes", lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).used),
    _Metric("power", "watt", lambda gpu: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3),
    _Metric("energy", "joule", lambda gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3),
    _Metric("sm_clock", "hertz", lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM) * 1e6),
    _Metric("memory_clock", "hertz", lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM) * 1e6),
    _Metric("temperature", "celsius", lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)),
    _Metric("throttle_reasons", "bits", pynvml.nvmlDeviceGetCurrentClocksThrottleReasons),
)


class _Gpu(NamedTuple):
    """One GPU or MIG instance. label: NVML's index, and after a colon the instance's."""

    label: str
    uuid: str
    handle: Any


class _OpenedGpus(NamedTuple):
    gpus: tuple[_Gpu, ...]
    lost: dict[str, str]  # label -> why it could not be opened
    absent_because: str | None


class GpuSource:
    """Every GPU that NVML shows, and every MIG instance, labelled by its index and its UUID.

    NVML is opened at first use and stays open. A GPU that cannot be opened is left out (`lost`), the others are read.
    """

    name = "nvml"

    def __init__(self) -> None:
        self.unsupported: dict[tuple[str, str], str] = {}  # (gpu, metric) -> why it has no rows

    @cached_property
    def _opened(self) -> _OpenedGpus:
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            return _OpenedGpus((), {}, f"NVML: {error}")
        gpus: list[_Gpu] = []
        lost = {}
        for index in range(count):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                gpus.append(_Gpu(str(index), str(pynvml.nvmlDeviceGetUUID(handle)), handle))
            except pynvml.NVMLError as error:
                lost[str(index)] = str(error)
                continue
            gpus += _mig_instances(str(index), handle)
        if gpus:
            return _OpenedGpus(tuple(gpus), lost, None)
        reasons = "; ".join(f"GPU {label}: {why}" for label, why in lost.items())
        return _OpenedGpus((), lost, f"NVML: {reasons}" if reasons else "NVML shows no GPU")

    @property
    def absent_because(self) -> str | None:
        """Why there are no GPU rows; None if there is a GPU."""
        return self._opened.absent_because

    @property
    def lost(self) -> dict[str, str]:
        """GPUs that NVML counts and may not open: index -> why."""
        return self._opened.lost

    @property
    def names(self) -> dict[str, str]:
        """UUID -> product name, of GPUs and MIG instances, in NVML's order; a GPU that does not tell is left out."""
        names = {}
        for gpu in self._opened.gpus:
            try:
                names[gpu.uuid] = str(pynvml.nvmlDeviceGetName(gpu.handle))
            except pynvml.NVMLError:
                continue
        return names

    def used_by(self, pids: Collection[int]) -> tuple[str, ...]:
        """UUIDs of the GPUs on which these processes or their children compute. Empty: none, or NVML does not tell."""
        family = set(pids)
        for pid in pids:
            try:
                family |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
            except psutil.Error:
                continue
        return tuple(gpu.uuid for gpu in self._opened.gpus if family & _computing(gpu.handle))

    def sample(self) -> list[Sample]:
        """One reading of all GPUs. A call that fails loses its metric only; MissedSample says which and why."""
        rows: list[Sample] = []
        reasons = []
        for gpu in self._opened.gpus:
            labels = {"gpu": gpu.label, "gpu_uuid": gpu.uuid}
            for metric in _METRICS:
                if (gpu.label, metric.name) in self.unsupported:
                    continue
                try:
                    rows.append((self.name, metric.name, labels, metric.read(gpu.handle), metric.unit))
                except _NEVER as error:
                    self.unsupported[gpu.label, metric.name] = str(error)
                except pynvml.NVMLError as error:
                    reasons.append(f"gpu {gpu.label} {metric.name}: {error}")
        if reasons:
            raise MissedSample("; ".join(reasons), rows)
        return rows


def _mig_instances(label: str, parent: Any) -> list[_Gpu]:
    """MIG instances of a GPU; none where MIG is off, or not known to its driver."""
    try:
        if pynvml.nvmlDeviceGetMigMode(parent)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return []
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(parent)
    except pynvml.NVMLError:
        return []
    instances = []
    for number in range(most):
        try:
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, number)
            instances.append(_Gpu(f"{label}:{number}", str(pynvml.nvmlDeviceGetUUID(handle)), handle))
        except pynvml.NVMLError:  # a place without an instance
            continue
    return instances


def _computing(handle: Any) -> set[int]:
    try:
        return {int(process.pid) for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    except pynvml.NVMLError:
        return set()


def served_gpus(
    batch_logs: Path | None, metrics: MetricLog, gpus: GpuSource | None, pids: Collection[int]
) -> tuple[str, ...]:
    """Sorted UUIDs of the GPUs that a run's models were on; empty: none, or not known, and nothing is measured of them.

    Who tells, in this order (NVML's is not always CUDA's): the backends that ship with us, a file an instance; the
    server's metrics page, where it shows one GPU only; NVML, by the server's processes.

    batch_logs: of the run's servers; None: they are not ours. gpus: None: this machine's are not the ones that serve.
    pids: of the servers.
    """
    by_backends = set() if batch_logs is None else {file.read_text().strip() for file in batch_logs.glob("*/*.gpu")}
    if by_backends:
        return tuple(sorted(by_backends))
    page = metrics.select("triton", "nv_gpu_memory_used_bytes")
    on_page = set(page["gpu_uuid"]) if "gpu_uuid" in page else set()
    if len(on_page) == 1:
        return tuple(on_page)
    return () if gpus is None else tuple(sorted(gpus.used_by(pids)))
