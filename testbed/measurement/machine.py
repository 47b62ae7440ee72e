"""A look at this machine before measuring: how late timed wake-ups are, and what the system says of its processors.

The wake-ups are those of the load generator: absolute instants of CLOCK_MONOTONIC, the same timer, whatever happened to
the one before. So their lateness is the least that the client's requests will have. And what models run on here.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import psutil
import pynvml

from loadgen.timerfd import BlockingAlarm
from testbed.machine import Machine
from testbed.measurement.cgroup import read_cpu_quota
from testbed.run_dir import Device

LOOK_S = 3.0
PERIOD_S = 0.002
_CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_SHARED_MEMORY = Path("/dev/shm")


class CpuTimes(NamedTuple):
    """Seconds since boot, of all processors together; steal None: the system does not tell."""

    total: float
    busy: float
    steal: float | None


def look(duration_s: float = LOOK_S) -> Machine:
    """Look for `duration_s`; what cannot be found out is None."""
    quota, times, own_s = read_cpu_quota(), _cpu_times(), time.process_time()
    late_s = _lateness_s(duration_s)
    busy_share, steal_share = shares(times, _cpu_times(), time.process_time() - own_s)
    throttled = read_cpu_quota().throttled
    p50_ms, p99_ms, worst_ms = quantiles_ms(late_s)
    return Machine(
        looked_unix_ns=time.time_ns(),
        duration_s=duration_s,
        wakeups=len(late_s),
        wakeup_p50_ms=p50_ms,
        wakeup_p99_ms=p99_ms,
        wakeup_worst_ms=worst_ms,
        steal_share=steal_share,
        busy_share=busy_share,
        cores=len(os.sched_getaffinity(0)),
        quota_cores=quota.cores,
        throttled_periods=None if throttled is None or quota.throttled is None else throttled - quota.throttled,
        clock_source=_clock_source(),
        shm_free_bytes=_free_bytes(_SHARED_MEMORY),
        open_files=_open_files(),
    )


def quantiles_ms(late_s: npt.NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """P50, P99 and the largest, to a microsecond; None where nothing was measured."""
    if not len(late_s):
        return None, None, None
    p50, p99, worst = (round(1e3 * float(value), 3) for value in np.percentile(late_s, [50, 99, 100]))
    return p50, p99, worst


def wake_up_lateness_s(
    duration_s: float, clock: Callable[[], int], wait_until: Callable[[int], None], period_s: float = PERIOD_S
) -> npt.NDArray[np.float64]:
    """How late each of the wake-ups was that are due every `period_s`, in seconds.

    clock: nanoseconds. wait_until: sleeps until an instant of that clock. An instant that has passed while another
    one was late is late as well, as a request would be.
    """
    period_ns = round(period_s * 1e9)
    start_ns = clock() + period_ns
    late_ns = np.zeros(max(1, round(duration_s / period_s)), dtype=np.int64)
    for number in range(len(late_ns)):
        instant_ns = start_ns + number * period_ns
        wait_until(instant_ns)
        late_ns[number] = clock() - instant_ns
    return late_ns / 1e9


def shares(before: CpuTimes, after: CpuTimes, own_s: float) -> tuple[float | None, float | None]:
    """Shares of all processors' time between two readings: of other processes, own_s being ours, and stolen."""
    total_s = after.total - before.total
    if total_s <= 0:
        return None, None
    busy = max(0.0, after.busy - before.busy - own_s) / total_s  # the system counts in ticks, our own time exactly
    steal = None if before.steal is None or after.steal is None else (after.steal - before.steal) / total_s
    return round(busy, 4), None if steal is None else round(steal, 4)


def _lateness_s(duration_s: float) -> npt.NDArray[np.float64]:
    """Empty where the system has no such timer."""
    try:
        alarm = BlockingAlarm()
    except OSError:
        return np.zeros(0)
    try:
        return wake_up_lateness_s(duration_s, time.monotonic_ns, alarm.wait_until)
    finally:
        alarm.close()


def _cpu_times() -> CpuTimes:
    """Guest time is part of user; idle and iowait are not busy, and neither is what was stolen."""
    times = psutil.cpu_times()._asdict()
    busy = sum(times.get(kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))
    steal = times.get("steal")
    return CpuTimes(busy + times["idle"] + times.get("iowait", 0.0) + (steal or 0.0), busy, steal)


def _clock_source() -> str | None:
    try:
        return _CLOCK_SOURCE.read_text().strip() or None
    except OSError:
        return None


def _free_bytes(folder: Path) -> int | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _open_files() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


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
