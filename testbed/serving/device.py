"""What the models run on here."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

import pynvml

from testbed.run_dir import Device


def detect_device(cpu_info: Path = Path("/proc/cpuinfo")) -> Device:
    """The first NVIDIA GPU that the driver lets us open, else the processor with the number of cores we may use."""
    gpu = _first_gpu()
    if gpu is not None:
        return Device(kind="gpu", name=gpu)
    return processor(cpu_info)


def processor(cpu_info: Path = Path("/proc/cpuinfo")) -> Device:
    """The processor, with the number of cores we may use."""
    return Device(kind="cpu", name=f"{_processor(cpu_info)}, {len(os.sched_getaffinity(0))} cores")


def _first_gpu() -> str | None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver here
        return None
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # one that may not be opened, or is lost
                return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index)))
        return None
    finally:
        pynvml.nvmlShutdown()


def _processor(cpu_info: Path) -> str:
    """Its name as Linux gives it, or the architecture (ARM kernels give none, other systems have no such file)."""
    if cpu_info.exists():
        for line in cpu_info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.machine()
