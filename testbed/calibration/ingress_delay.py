"""Ingress delay under load, where no request finds an idle instance: read off from who was in time for which batch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from testbed.calibration.evidence import Evidence, FloatArray
from testbed.calibration.service_time import QUANTILES, RATE_WINDOW_S

BUSY_GAP_S = 2e-3  # a batch of a busy instance starts this soon after the one before
QUEUED_S = 2e-3  # a request scheduled this long before an instance is free is in the queue by then
REACH_S = 5e-3  # ingress delays are looked for up to this


def who_joined(run: Evidence) -> pd.DataFrame:
    """One row (rate, before_start, in_time) for each batch of a busy instance and each request shortly before it.

    A batch that starts right after another, and is not full, takes all that is in the queue. So a request scheduled
    x before its start is in it (or in an earlier one) exactly if the request's ingress delay was at most x:
    P(in_time | x) is the ingress delay's distribution function. With several instances a neighbour may have taken the
    request; it was in time then as well. Only batches count of which a request was queued long before: one that had to
    wait for its first request, however shortly, starts when that one's ingress delay ends, and would tell of that
    request alone. And only those that would not have been full with every request that had been sent: to leave out
    just those that were full would leave out requests in time.
    """
    served = run.served()
    largest = run.manifest.service.max_batch_size
    rate = run.local_rate_rps(RATE_WINDOW_S)
    rules = run.manifest.service.dynamic_batching
    frames = [pd.DataFrame({"rate": [], "before_start": [], "in_time": []})]
    if rules is None or rules.max_queue_delay_s > 0 or rules.preferred_batch_sizes:
        return frames[0]  # there a batch does not take all that is in the queue
    for _, rows in served.groupby("replica"):
        batches = rows.drop_duplicates(["instance", "start"]).sort_values("start")
        free = batches.groupby("instance")["end"].shift(1)
        oldest = rows.groupby(["instance", "start"])["scheduled"].min()
        queued = oldest.loc[list(zip(batches["instance"], batches["start"], strict=True))].to_numpy()
        busy = (batches["start"] - free < BUSY_GAP_S) & (queued < free - QUEUED_S)
        order = rows.sort_values("scheduled")
        scheduled, start = order["scheduled"].to_numpy(), order["start"].to_numpy()
        begins = batches["start"].to_numpy()
        not_served = np.searchsorted(scheduled, begins) - np.searchsorted(np.sort(start), begins)
        starts = begins[busy.to_numpy() & (not_served <= largest)]
        first, last = np.searchsorted(scheduled, starts - REACH_S), np.searchsorted(scheduled, starts)
        batch = np.repeat(np.arange(len(starts)), last - first)
        ranges = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        request = np.concatenate([np.empty(0, dtype=np.int64), *ranges])
        frames.append(
            pd.DataFrame(
                {
                    "rate": rate[order["request_id"].to_numpy()[request]],
                    "before_start": starts[batch] - scheduled[request],
                    "in_time": (start[request] <= starts[batch]).astype(float),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def ingress_delay_under_load(joined: pd.DataFrame) -> FloatArray:
    """Quantile function (float64[QUANTILES], seconds) of the delay from `who_joined`: the rising fit, inverted."""
    ordered = joined.sort_values("before_start")
    share = isotonic_regression(ordered["in_time"].to_numpy(dtype=float)).x
    # From 0 to 1 over the reach; np.interp wants it strictly rising.
    level = np.concatenate([[0.0], share, [1.0]]) + np.linspace(0, 1e-9, len(share) + 2)
    value = np.concatenate([[0.0], ordered["before_start"].to_numpy(), [REACH_S]])
    return np.asarray(np.interp(np.linspace(0, 1, QUANTILES), level, value))
