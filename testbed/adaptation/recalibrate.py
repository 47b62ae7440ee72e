"""From the windows after a change to a profile that fits again, and to what one replica serves with it. Pure.

What one replica serves within the latency target is scaled by the ratio of two searches in the simulator, with the new
profile and with the old one, on the same arrivals: the largest rate at which a percentile of the latency is within the
target. Scaling by 1 / factor would be too good: the target stays where it is while every batch comes nearer to it. The
ratio, not the searched rate itself, so that the margin of whoever chose the old number (`kis plan`, say) is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from testbed.adaptation.drift import Residual, Spread
from testbed.adaptation.settings import RecalibrationSettings
from testbed.calibration.another_run import shifted
from testbed.calibration.profile import ServiceProfile
from testbed.simulation.load_curve import PERCENTILE, rate_within
from workloads.catalog import ServiceConfig


class Factor(NamedTuple):
    """What a batch takes, of what the profile says; its interval, and the windows that say so."""

    value: float
    low: float
    high: float
    windows: int
    since_s: float
    until_s: float


def estimate(residuals: Sequence[Residual], spread: Spread, settings: RecalibrationSettings) -> Factor | str:
    """The factor of windows that lie wholly after the change; a text says why there is none.

    The interval is Student's t about the windows' mean, with the larger of their own error and the expected one, in
    which phases count.
    """
    values = np.array([residual.value for residual in residuals])
    if len(values) < settings.windows:
        return f"{len(values)} windows after the change, {settings.windows} are needed"
    middle, count = float(values.mean()), len(values)
    error = max(float(values.std(ddof=1)) / math.sqrt(count), spread.level_error(count))
    reach = float(student.ppf((1 + settings.confidence) / 2, count - 1)) * error
    low, value, high = (math.exp(middle + step) for step in (-reach, 0.0, reach))
    if not settings.least_factor <= value <= settings.most_factor:
        return (
            f"batches take {value:.2f} of the profile's time, and only {settings.least_factor:g} to "
            f"{settings.most_factor:g} are taken for the same service: calibrate it anew"
        )
    return Factor(value, low, high, count, residuals[0].start_s, residuals[-1].end_s)


def recalibrated(profile: ServiceProfile, factor: Factor, source: str) -> ServiceProfile:
    """The profile with batch times moved by the factor; its provenance says from what. source: of the windows."""
    steps: list[Any] = [*profile.provenance.get("recalibrated", ()), {**factor._asdict(), "from": source}]
    return shifted(profile, {"service": math.log(factor.value)}).model_copy(
        update={"provenance": {**profile.provenance, "recalibrated": steps}}
    )


class Serves(NamedTuple):
    """What one replica serves within the target, anew. by: how that was found."""

    replica_capacity_rps: float
    by: str


def rescaled(
    replica_capacity_rps: float, old: ServiceProfile, new: ServiceProfile, service: ServiceConfig, target_s: float
) -> Serves | str:
    """replica_capacity_rps under the new profile; a text says why there is none."""
    before, after = (rate_within(profile, service, target_s) for profile in (old, new))
    if before <= 0:
        return f"the old profile serves nothing within {target_s:g} s: is that the service's latency target?"
    if after <= 0:
        return f"with the new profile no rate is served within {target_s:g} s: replicas cannot mend that"
    text = f"P{PERCENTILE:g} within {target_s:g} s: {before:.0f}/s of one replica before, {after:.0f}/s now"
    return Serves(replica_capacity_rps * after / before, text)
