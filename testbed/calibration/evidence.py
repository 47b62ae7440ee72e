"""What calibration reads: the artefacts of one run, loaded once, and the derived columns that several fits share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.device_times import DeviceTimes
from testbed.measurement.metric_log import MetricLog
from testbed.run_dir import RunDir, RunManifest

FloatArray = npt.NDArray[np.float64]
LENGTH = "length"  # the pattern of runs whose requests are all of one length: they tell of that alone
CAPACITY = "capacity"  # the pattern of runs that tell of the service time alone: their requests come in heaps


@dataclass(frozen=True)
class Evidence:
    """One run that a profile is fitted on. batches is None for a server without a log of batches."""

    manifest: RunManifest
    schedule: Schedule
    requests: RequestLog
    metrics: MetricLog
    batches: BatchLog | None
    device_times: DeviceTimes | None = None  # of batches on a GPU

    @classmethod
    def load(cls, run: RunDir) -> Evidence:
        """Read a run's folder."""
        return cls(
            manifest=run.manifest,
            schedule=Schedule.read(run.schedule),
            requests=RequestLog.read(run.requests),
            metrics=MetricLog.read(run.metrics),
            batches=BatchLog.read(run.batches) if run.batches.exists() else None,
            device_times=DeviceTimes.read(run.path),
        )

    def local_rate_rps(self, window_s: float) -> FloatArray:
        """float64[n]: arrivals per second in the window that ends at each arrival, itself included."""
        return local_rate_rps(self.schedule.scheduled_ns, window_s)

    def served(self) -> pd.DataFrame:
        """One row per answered request with its batch (seconds on the run clock), in order of batch start.

        Columns: scheduled, completed, start, end, batch_size, position, replica, instance, rate_window-free. Empty
        without a log of batches.
        """
        if self.batches is None:
            return pd.DataFrame()
        requests = self.requests.frame
        answered = requests[requests["status"] == "ok"][["request_id", "scheduled_ns", "sent_ns", "completed_ns"]]
        rows = self.batches.frame.merge(answered.astype("int64"), on="request_id", how="inner")
        for column in ("scheduled", "sent", "completed", "start", "end"):
            rows[column] = rows.pop(f"{column}_ns") / 1e9
        return rows


def local_rate_rps(scheduled_ns: npt.NDArray[np.int64], window_s: float) -> FloatArray:
    """Arrivals per second in the window (t - window, t] of each arrival t; in a run's first window, over what passed.

    The first window is shorter than window_s, so the count is divided by at least a tenth of it: a single early
    request is no burst.
    """
    window_ns = int(window_s * 1e9)
    first = np.searchsorted(scheduled_ns, scheduled_ns - window_ns, side="right")
    count = np.arange(1, len(scheduled_ns) + 1) - first
    span = np.clip(scheduled_ns, window_ns // 10, window_ns) / 1e9
    return np.asarray(count / span, dtype=np.float64)
