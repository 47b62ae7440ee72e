"""Inflow under load, where no request finds an idle instance: read off from who was in time for which batch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from testbed.calibration.evidence import Evidence, FloatArray
from testbed.calibration.service_time import QUANTILES, RATE_WINDOW_S

BUSY_GAP_S = 2e-3  # a batch that starts this soon after another did not wait for a request
REACH_S = 5e-3  # inflows are looked for up to this


def who_joined(run: Evidence) -> pd.DataFrame:
    """One row (rate, before_start, in_time) for each batch of a busy instance and each request shortly before it.

    A batch that starts right after another, and is not full, takes all that is in the queue. So a request scheduled
    x before its start is in it (or in an earlier one) exactly if the request's inflow was at most x: P(in_time | x)
    is the inflow's distribution function. With several instances a neighbour may have taken the request; it was in
    time then as well.
    """
    served = run.served()
    largest = run.manifest.service.max_batch_size
    rate = run.local_rate_rps(RATE_WINDOW_S)
    rules = run.manifest.service.dynamic_batching
    found = [pd.DataFrame({"rate": [], "before_start": [], "in_time": []})]
    if rules is None or rules.max_queue_delay_s > 0 or rules.preferred_batch_sizes:
        return found[0]  # there a batch does not take all that is in the queue
    for _, one in served.groupby("replica"):
        batches = one.drop_duplicates(["instance", "start"]).sort_values("start")
        gap = batches["start"] - batches.groupby("instance")["end"].shift(1)
        starts = batches["start"][(gap < BUSY_GAP_S) & (batches["batch_size"] < largest)].to_numpy()
        order = one.sort_values("scheduled")
        scheduled, start = order["scheduled"].to_numpy(), order["start"].to_numpy()
        first, last = np.searchsorted(scheduled, starts - REACH_S), np.searchsorted(scheduled, starts)
        batch = np.repeat(np.arange(len(starts)), last - first)
        ranges = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        request = np.concatenate([np.empty(0, dtype=np.int64), *ranges])
        found.append(
            pd.DataFrame(
                {
                    "rate": rate[order["request_id"].to_numpy()[request]],
                    "before_start": starts[batch] - scheduled[request],
                    "in_time": (start[request] <= starts[batch]).astype(float),
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def inflow_under_load(joined: pd.DataFrame) -> FloatArray:
    """Quantile function (float64[QUANTILES], seconds) of the inflow from `who_joined`: the rising fit, inverted."""
    ordered = joined.sort_values("before_start")
    share = isotonic_regression(ordered["in_time"].to_numpy(dtype=float)).x
    # From 0 to 1 over the reach; np.interp wants it strictly rising.
    level = np.concatenate([[0.0], share, [1.0]]) + np.linspace(0, 1e-9, len(share) + 2)
    value = np.concatenate([[0.0], ordered["before_start"].to_numpy(), [REACH_S]])
    return np.asarray(np.interp(np.linspace(0, 1, QUANTILES), level, value))
