"""What a policy imitates before it learns by itself: one that knows the traffic of the drawn scenario.

Nobody knows that much on a cluster. What cannot be foreseen there is not told here either: the teacher then keeps what
the recent peak needs, the longer the more a miss costs; and a burst is foreseen only once it has come back.
"""

from __future__ import annotations

import math

import numpy as np

from testbed.kiscaler.scenarios import Scenario

KEPT_S = 20.0  # of a recent peak, for each unit of the penalty
KEPT_AT_MOST_S = 400.0
GRID_S = 0.5


def replicas_of_teacher(scenario: Scenario, now_s: float) -> int:
    """That should be asked for now."""
    scale, pattern = scenario.scale, scenario.pattern
    until_s = now_s + scale.provisioning_delay_s + scale.metrics_delay_s + 2 * scale.step_s
    known = now_s > pattern.foreseen_after_s
    kept_s = 0.0 if known else min(KEPT_AT_MOST_S, KEPT_S * scale.slo_penalty)
    times_s = np.arange(max(0.0, now_s - kept_s), until_s if known else now_s + GRID_S, GRID_S)
    peak_rps = float(pattern.rate_rps(times_s).max())
    return min(max(1, math.ceil(peak_rps / scale.replica_capacity_rps - 1e-9)), scale.max_replicas)
