"""Whether a run's server fell behind what was sent to it: then its latencies tell how long the run was, not how fast
the server is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loadgen.request_log import RequestLog

GROWTH = 1.5  # of the median latency, from the first third of the schedule's span to the last
BEHIND = 0.03  # share of the requests that were not answered within the span
LOST = 0.01  # share that was given up (timeout) or never sent, because too many were in flight


class Strain(NamedTuple):
    """growth: median latency of the requests scheduled in the last third of the span by that of the first third, where
    one that was given up counts as slower than any other; None: no such median. behind_share: not answered within the
    span. lost_share: timeouts and dropped ones. All of the requests that did not end as an error."""

    growth: float | None
    behind_share: float
    lost_share: float

    @property
    def saturated(self) -> bool:
        """True if the queue grew through the run. A stable queue is behind by what is in flight at the end, and its
        latency does not grow, so neither sign alone will do; a client that gave up is a sign by itself."""
        grew = self.growth is not None and self.growth >= GROWTH
        return self.lost_share > LOST or (grew and self.behind_share > BEHIND)

    @property
    def reason(self) -> str | None:
        """In words, with the figures; None: the run is not saturated."""
        if not self.saturated:
            return None
        signs = []
        if self.lost_share > LOST:
            signs.append(f"{self.lost_share:.1%} of requests timed out or were dropped")
        if self.growth is not None and self.growth >= GROWTH and self.behind_share > BEHIND:
            signs.append(
                f"{self.behind_share:.1%} were not answered within the schedule, and the median latency of its last "
                f"third is {self.growth:.1f} times that of its first"
            )
        return f"the server fell behind: {', '.join(signs)}"


def strain_of(log: RequestLog, duration_s: float) -> Strain:
    """Of one run whose schedule spans duration_s."""
    lost = log.frame["status"].isin(["timeout", "dropped"]).to_numpy(dtype=bool)
    counted = log.ok | lost
    n = max(int(counted.sum()), 1)
    in_time = log.ok & (log.seconds("completed_ns") <= duration_s)
    latency_s = np.where(lost, np.inf, log.latency_s)[counted]
    scheduled_s = log.seconds("scheduled_ns")[counted]
    first, last = latency_s[scheduled_s < duration_s / 3], latency_s[scheduled_s >= 2 * duration_s / 3]
    medians = [np.median(part) for part in (first, last) if len(part)]
    known = len(medians) == 2 and bool(np.isfinite(medians).all()) and medians[0] > 0
    return Strain(
        growth=float(medians[1] / medians[0]) if known else None,
        behind_share=float((counted & ~in_time).sum()) / n,
        lost_share=float(lost.sum()) / n,
    )
