"""What batches take of a GPU: time, by CUDA events, and energy, by its own counter; and replicas of its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import nnls

from testbed.calibration.evidence import CAPACITY, Evidence, FloatArray
from testbed.calibration.profile import DeviceMemory, DeviceUse, RunEffect
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.gpu_readings import mean_power_w, readings

FEWEST_RUNS = 3  # for an idle GPU, a batch and a request
FEWEST_DEGREES_OF_FREEDOM = 3  # of fewer runs more than that, Student's t makes an interval of nearly everything


def fit_device_use(runs: Sequence[Evidence], max_batch_size: int) -> DeviceUse | None:
    """From runs of one replica. None: no run measured anything of it.

    Power is  idle + J a batch * batches/s + J a request * requests/s:  least squares of relative errors, nothing below
    0. Runs of heaps of requests are too short for the energy counter. What is left of the runs' errors is power_spread.
    """
    alone = [run for run in runs if run.manifest.service.replicas == 1]
    network_s = _network_s(alone, max_batch_size)
    columns, watts = [], []
    for run in alone:
        end_s = run.schedule.duration_s
        counts = batches_of(run.batches, end_s)
        power_w = mean_power_w(run.metrics, run.manifest.gpu_uuids, 0, end_s)
        if counts and power_w and run.manifest.pattern != CAPACITY:
            columns.append((1.0, sum(counts.values()) / end_s, sum(s * n for s, n in counts.items()) / end_s))
            watts.append(power_w)
    parts: list[float | None] = [None, None, None]
    spread = None
    if len(columns) >= FEWEST_RUNS:
        table, power = np.array(columns), np.array(watts)
        scale = table.max(axis=0)
        solved, left = nnls(table / scale / power[:, None], np.ones(len(power)))
        parts = [float(value) for value in solved / scale]
        degrees_of_freedom = len(power) - int(np.count_nonzero(solved))
        if degrees_of_freedom >= FEWEST_DEGREES_OF_FREEDOM:
            spread = RunEffect(std=float(left / np.sqrt(degrees_of_freedom)), degrees_of_freedom=degrees_of_freedom)
    if network_s is None and parts[0] is None:
        return None
    return DeviceUse(network_s=network_s, idle_w=parts[0], batch_j=parts[1], request_j=parts[2], power_spread=spread)


def batches_of(log: BatchLog | None, duration_s: float) -> dict[int, int]:
    """Batches that began in a run's span, by size; empty without a log of them."""
    if log is None:
        return {}
    batches = log.batches()
    began = batches["batch_size"][batches["start_ns"] < duration_s * 1e9]
    sizes, counts = np.unique(began.to_numpy(), return_counts=True)
    return {int(size): int(count) for size, count in zip(sizes, counts, strict=True)}


def network_share(use: DeviceUse, batches: Mapping[int, int], duration_s: float) -> float | None:
    """Share of the time in which a network runs, with so many batches by size; None: not known."""
    if use.network_s is None or max(batches, default=1) > len(use.network_s):
        return None
    return sum(count * use.network_s[size - 1] for size, count in batches.items()) / duration_s


def power_w(use: DeviceUse, batches: Mapping[int, int], duration_s: float) -> float | None:
    """Watts with so many batches by size; None: not known."""
    requests = sum(size * count for size, count in batches.items())
    return use.power_w(sum(batches.values()) / duration_s, requests / duration_s)


def _network_s(runs: Sequence[Evidence], max_batch_size: int) -> tuple[float, ...] | None:
    """Mean by batch size; sizes between measured ones on a line, beyond them as the nearest."""
    count, seconds = np.zeros(max_batch_size), np.zeros(max_batch_size)
    for run in runs:
        for size in run.device_times.sizes if run.device_times is not None else ():
            if size.batch_size <= max_batch_size:
                count[size.batch_size - 1] += size.batches
                seconds[size.batch_size - 1] += size.batches * size.network_s
    known = np.flatnonzero(count)
    if not len(known):
        return None
    means: FloatArray = seconds[known] / count[known]
    return tuple(np.interp(np.arange(max_batch_size), known, means).tolist())


def fit_device_memory(runs: Sequence[Evidence]) -> DeviceMemory | None:
    """Memory that replicas take of their GPU, read off NVML while different numbers of them ran.

    Each run's largest reading on the GPUs that served, as  other + replicas * (server + instances * instance).
    Non-negative least squares. Runs of one kind of service cannot tell these apart: then all of it counts as the
    replicas' servers, which is the most that they can take. None without readings.
    """
    rows, used = [], []
    for run in runs:
        used_bytes = readings(run.metrics, "memory_used", run.manifest.gpu_uuids)
        if len(used_bytes):
            service = run.manifest.service
            rows.append((service.replicas, service.replicas * service.instances))
            used.append(float(used_bytes.groupby("gpu")["value"].max().sum()))
    if not rows:
        return None
    if len(set(rows)) == 1:
        return DeviceMemory(server_bytes=max(used) / rows[0][0], instance_bytes=0.0)
    scale = max(used)
    parts, _ = nnls(np.array([(1, *row) for row in rows], dtype=float), np.array(used) / scale)
    return DeviceMemory(server_bytes=float(parts[1] * scale), instance_bytes=float(parts[2] * scale))
