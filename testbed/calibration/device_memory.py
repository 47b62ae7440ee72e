"""Memory that replicas take of their GPU: read off NVML while different numbers of them ran."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from testbed.calibration.evidence import Evidence
from testbed.calibration.profile import DeviceMemory
from testbed.measurement.gpu_readings import readings


def fit_device_memory(runs: Sequence[Evidence]) -> DeviceMemory | None:
    """Each run's largest reading on the GPUs that served, as  other + replicas * (server + instances * instance).

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
