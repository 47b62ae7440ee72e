"""What clients ask of a deployment, from its pods alone: how much comes, whether it grows, and what waits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from testbed.autoscaling.forecast import slope_of
from testbed.autoscaling.observation import Observation, Window


class Demand(NamedTuple):
    """rate_rps: arrivals a second in the newest window, whose middle was middle_s ago; slope_rps_s: their increase a
    second, by a line through all windows. waiting: requests in the queues at its end."""

    rate_rps: float
    slope_rps_s: float
    waiting: float
    middle_s: float

    def expected_rps(self, provisioning_delay_s: float) -> float:
        """Arrivals a second in provisioning_delay_s from now, if they go on as they did; not below 0."""
        return max(0.0, self.rate_rps + self.slope_rps_s * (self.middle_s + provisioning_delay_s))


def demand_of(observation: Observation, window_s: float, windows: int, metrics_delay_s: float) -> Demand | None:
    """From so many windows, each as long, the newest metrics_delay_s old at least; None: there are no two of them yet.

    What arrived in a window is what was answered, and what the queues grew by: a full replica answers no more than it
    can. The oldest window says only what waited before the next.
    """
    newest_first: list[Window] = []
    for k in range(windows + 1):
        window = observation.window(window_s, metrics_delay_s + k * window_s)
        if window is None:
            break
        newest_first.append(window)
    if len(newest_first) < 2:
        return None
    waiting = [float(window.waiting.sum()) for window in newest_first]
    rates = [
        max(0.0, window.rate_rps + (here - before) / window.seconds)
        for window, here, before in zip(newest_first, waiting, waiting[1:], strict=False)
    ]
    newest = newest_first[0]
    middle_s = observation.now_s - (newest.start_s + newest.end_s) / 2
    return Demand(rates[0], slope_of(np.array(rates[::-1])) / newest.seconds, waiting[0], middle_s)
