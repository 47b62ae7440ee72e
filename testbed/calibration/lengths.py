"""How long a batch takes that is padded to fewer tokens than the longest, from runs whose requests are all so long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from testbed.calibration.after_idle import AfterIdle
from testbed.calibration.evidence import Evidence, FloatArray
from testbed.calibration.profile import LengthTime
from testbed.calibration.service_time import ENOUGH_BATCHES, beyond_log, counts_by_size, without_idle
from testbed.errors import CalibrationError


def fit_lengths(
    runs: Sequence[Evidence], every: Sequence[Evidence], mean_s: FloatArray, idle: AfterIdle
) -> tuple[LengthTime, ...]:
    """One entry a run, by length. runs: the requests of each are all of one length; every: all that the rest of the
    profile is fitted on, for what the backend adds to its log; mean_s: S(b) of the longest length.

    A straight line in S(b), nothing below 0: what a batch costs whatever its length stays, the rest shrinks with the
    tokens. Weighted least squares of the means by size, whose errors shrink with the square root of the batches.
    CalibrationError: too few batches.
    """
    if not runs:
        return ()
    beyond_s = beyond_log(every, len(mean_s)) if idle.known else np.zeros(len(mean_s))
    fitted = []
    for run in runs:
        tokens = int(run.manifest.pattern_parameters["tokens"])
        batches, seconds = counts_by_size([run], len(mean_s))
        if idle.known:
            seconds = without_idle([run], batches, seconds, idle, beyond_s)
        ran = batches[0] > 0
        if batches.sum() < ENOUGH_BATCHES:
            raise CalibrationError(f"run {run.manifest.run_id} has {batches.sum()} batches: measure longer")
        weight = np.sqrt(batches[0][ran]) / mean_s[ran]  # batches spread in proportion to their time
        line = np.stack([np.ones(ran.sum()), mean_s[ran]], axis=1)
        if ran.sum() == 1:  # one size tells a factor alone
            line[:, 0] = 0.0
        (offset_s, factor), _ = nnls(line * weight[:, None], seconds[0][ran] / batches[0][ran] * weight)
        fitted.append(
            LengthTime(tokens=tokens, offset_s=float(offset_s), factor=float(factor), batches=int(batches.sum()))
        )
    return tuple(sorted(fitted, key=lambda bucket: bucket.tokens))
