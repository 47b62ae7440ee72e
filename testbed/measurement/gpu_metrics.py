"""GPUs through NVML: utilisation, memory, power, energy and clock of each. No library or no GPU: no rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import pynvml

from testbed.measurement.source import MissedSample, Sample

# What a GPU or its driver will never answer; asking again is of no use, and it is no fault of the run.
_NEVER = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NoPermission)


class _Metric(NamedTuple):
    name: str
    unit: str
    read: Callable[[Any], float]  # NVML handle -> value in that unit


# Add a GPU metric here, and to metric_log.py and docs/metrics.md. NVML counts in percent, mW, mJ and MHz.
_METRICS = (
    _Metric("utilisation", "ratio", lambda gpu: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100),
    _Metric("memory_used", "bytes", lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).used),
    _Metric("power", "watt", lambda gpu: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3),
    _Metric("energy", "joule", lambda gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3),
    _Metric("sm_clock", "hertz", lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM) * 1e6),
)


class _Found(NamedTuple):
    gpus: dict[str, Any]  # index -> NVML handle
    absent_because: str | None


class GpuSource:
    """Every GPU that NVML shows, labelled by its index. NVML is opened at first use and stays open."""

    name = "nvml"

    def __init__(self) -> None:
        self.unsupported: dict[tuple[str, str], str] = {}  # (gpu, metric) -> why it has no rows

    @cached_property
    def _found(self) -> _Found:
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            gpus = {str(index): pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)}
        except pynvml.NVMLError as error:
            return _Found({}, f"NVML: {error}")
        return _Found(gpus, None if gpus else "NVML shows no GPU")

    @property
    def absent_because(self) -> str | None:
        """Why there are no GPU rows; None if there is a GPU."""
        return self._found.absent_because

    @property
    def device_names(self) -> list[str]:
        """Product names in the order of the `gpu` label; empty without a GPU."""
        return [str(pynvml.nvmlDeviceGetName(gpu)) for gpu in self._found.gpus.values()]

    def sample(self) -> list[Sample]:
        """One reading of all GPUs. A call that fails loses its metric only; MissedSample says which and why."""
        rows: list[Sample] = []
        reasons = []
        for index, gpu in self._found.gpus.items():
            for metric in _METRICS:
                if (index, metric.name) in self.unsupported:
                    continue
                try:
                    rows.append((self.name, metric.name, {"gpu": index}, metric.read(gpu), metric.unit))
                except _NEVER as error:
                    self.unsupported[index, metric.name] = str(error)
                except pynvml.NVMLError as error:
                    reasons.append(f"gpu {index} {metric.name}: {error}")
        if reasons:
            raise MissedSample("; ".join(reasons), rows)
        return rows
