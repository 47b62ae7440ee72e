"""Intervals: as wide as the runs differ, and no wider than nothing where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.calibration.another_run import another_run
from testbed.calibration.profile import RunEffect, RunEffects, ServiceProfile
from testbed.simulation.intervals import interval
from tests.oracles.cluster_worlds import flat_profile


def with_effects(**effects: RunEffect) -> ServiceProfile:
    return flat_profile([0.01], ingress_delay_s=0.001, egress_delay_s=0.002).model_copy(
        update={"run_effects": RunEffects(**effects)}
    )


def test_without_run_effects_every_run_is_the_same():
    profile = with_effects()
    assert another_run(profile, np.random.default_rng(1)) == profile


def test_the_interval_of_a_batch_time_is_that_of_its_run_effect():
    profile = with_effects(service=RunEffect(std=0.05, degrees_of_freedom=1000))
    band = interval(profile, lambda drawn, seed: drawn.service_time.mean_s[0], draws=4000, seed=3)
    assert band.middle == pytest.approx(0.01, rel=0.005)
    assert band.low == pytest.approx(0.01 * np.exp(-1.645 * 0.05), rel=0.005)
    assert band.high == pytest.approx(0.01 * np.exp(1.645 * 0.05), rel=0.005)


def test_few_runs_make_it_wider():
    widths = []
    for degrees_of_freedom in (2, 100):
        profile = with_effects(service=RunEffect(std=0.05, degrees_of_freedom=degrees_of_freedom))
        band = interval(profile, lambda drawn, seed: drawn.service_time.mean_s[0], draws=4000, seed=3)
        widths.append(band.high - band.low)
    assert widths[0] > 1.5 * widths[1]


def test_a_shift_of_the_ingress_delay_never_makes_it_negative():
    profile = with_effects(ingress_delay_s=RunEffect(std=0.01, degrees_of_freedom=5))
    for seed in range(50):
        drawn = another_run(profile, np.random.default_rng(seed))
        assert min(drawn.overhead.levels[0].ingress_delay_quantiles_s) >= 0


def test_the_same_seed_gives_the_same_interval():
    profile = with_effects(service=RunEffect(std=0.05, degrees_of_freedom=9))
    bands = [interval(profile, lambda d, s: d.service_time.mean_s[0] + s * 1e-12, 20, seed=4) for _ in range(2)]
    assert bands[0] == bands[1]
