"""From residuals to a profile that fits again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import brentq

from testbed.adaptation.drift import Residual, expected_spread
from testbed.adaptation.recalibrate import Factor, estimate, recalibrated, rescaled
from testbed.adaptation.settings import DriftSettings, RecalibrationSettings
from testbed.calibration.profile import ServiceProfile
from testbed.simulation.load_curve import rate_within
from tests.adaptation.drifting import varying_profile
from tests.oracles.cluster_worlds import flat_profile
from workloads.catalog import ServiceConfig

SETTINGS = RecalibrationSettings()
SPREAD = expected_spread(varying_profile(), DriftSettings())


def residuals(middle: float, count: int, seed: int = 0) -> list[Residual]:
    values = middle + SPREAD.window_deviation * np.random.default_rng(seed).normal(size=count)
    return [Residual(5.0 * k, 5.0 * (k + 1), value, 100.0) for k, value in enumerate(values.tolist())]


def test_the_factor_and_its_interval_hold_the_truth_as_often_as_they_say():
    found = [estimate(residuals(math.log(1.4), 12, seed), SPREAD, SETTINGS) for seed in range(400)]
    factors = [one for one in found if isinstance(one, Factor)]
    assert len(factors) == 400
    assert sum(factor.low <= 1.4 <= factor.high for factor in factors) >= 380
    assert np.mean([factor.value for factor in factors]) == pytest.approx(1.4, rel=0.01)


def test_too_few_windows_and_factors_out_of_bounds_are_refused_in_words():
    assert estimate(residuals(0.3, 11), SPREAD, SETTINGS) == "11 windows after the change, 12 are needed"
    assert "3.0" in str(estimate(residuals(math.log(3.0), 12), SPREAD, SETTINGS))
    assert "calibrate it anew" in str(estimate(residuals(math.log(0.3), 12), SPREAD, SETTINGS))


def test_bounds_beyond_what_a_profile_can_be_moved_by_are_refused():
    with pytest.raises(ValidationError, match="factors are within"):
        RecalibrationSettings(most_factor=3.0)


def test_the_new_profile_has_other_times_the_same_rest_and_says_where_from(tmp_path: Path):
    old, factor = varying_profile(), Factor(1.4, 1.38, 1.42, 12, 100.0, 160.0)
    new = recalibrated(old, factor, "pods of x")
    assert new.service_time.mean_s == pytest.approx([1.4 * one for one in old.service_time.mean_s])
    assert new.overhead == old.overhead
    assert new.provenance["recalibrated"] == [{**factor._asdict(), "from": "pods of x"}]
    again = recalibrated(new, factor, "pods of x")
    assert len(again.provenance["recalibrated"]) == 2
    new.write(tmp_path / "profile.json")
    assert ServiceProfile.read(tmp_path / "profile.json") == new


def test_one_replica_without_batching_serves_what_an_md1_queue_holds():
    """Erlang's sum: in M/D/1 a wait is at most two services with the chance (1 - rho) (exp(2 rho) - rho exp(rho))."""
    profile = flat_profile([0.01])
    service = ServiceConfig(max_batch_size=1, dynamic_batching=None)
    load = brentq(lambda rho: (1 - rho) * (math.exp(2 * rho) - rho * math.exp(rho)) - 0.95, 0.1, 0.9)
    assert rate_within(profile, service, 0.030) == pytest.approx(100 * load, rel=0.08)
    assert rate_within(profile, service, 0.005) == 0.0


def test_rates_fall_by_more_than_the_factor_when_the_target_stays():
    old = flat_profile([0.01])
    new = recalibrated(old, Factor(1.4, 1.4, 1.4, 12, 0.0, 60.0), "")
    service = ServiceConfig(max_batch_size=1, dynamic_batching=None)
    found = rescaled(100.0, old, new, service, 0.030)
    assert not isinstance(found, str)
    assert 0.3 * 100 < found.replica_capacity_rps < 100 / 1.4
    assert "no rate is served" in str(rescaled(100.0, old, new, service, 0.012))
    assert "latency target" in str(rescaled(100.0, old, new, service, 0.005))
