"""Run effects are as large as the calibration's own runs say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from testbed.calibration.another_run import another_run, fit_inflation
from testbed.calibration.evidence import Evidence
from testbed.calibration.fit import fit_profile, left_out_of
from testbed.calibration.profile import RunEffect, RunEffects, ServiceProfile
from testbed.errors import CalibrationError
from testbed.pipeline.counterpart import request_log_of
from testbed.simulation.simulator import simulate
from tests.oracles.known_service import calibration_runs, known_profile


def with_effect(deviation: float) -> ServiceProfile:
    effects = RunEffects(service=RunEffect(std=deviation, degrees_of_freedom=100))
    return known_profile().model_copy(update={"run_effects": effects})


def varying_runs(profile: ServiceProfile, copies: int) -> list[Evidence]:
    """Each calibration run several times, each as another run of the profile."""
    runs = []
    for number, run in enumerate(calibration_runs(known_profile(), duration_s=6) * copies):
        run_effect = another_run(profile, np.random.default_rng(number))
        again = simulate(run.schedule, run_effect, run.manifest.service, seed=1000 + number)
        runs.append(replace(run, requests=again.requests))
    return runs


def test_effects_that_say_enough_are_left_alone() -> None:
    profile = with_effect(0.02)
    left_out = [(profile, run) for run in varying_runs(profile, 4)]
    assert 0.75 < np.median(fit_inflation(left_out, request_log_of, 1)) < 1.35


def test_effects_that_say_too_little_grow() -> None:
    left_out = [(with_effect(0.02), run) for run in varying_runs(with_effect(0.06), 4)]
    factors = fit_inflation(left_out, request_log_of, 1)
    assert np.median(factors) == pytest.approx(3.0, rel=0.35)
    few = fit_inflation(left_out[:5], request_log_of, 1)
    assert np.ptp(few) > np.ptp(factors)  # fewer runs tell less


def test_nothing_can_be_made_of_no_effects() -> None:
    left_out = [(known_profile(), run) for run in varying_runs(known_profile(), 1)]
    assert fit_inflation(left_out, request_log_of, 1) == (1.0,)
    assert fit_inflation([], request_log_of, 1) == (1.0,)


def test_inflation_stretches_what_is_drawn() -> None:
    drawn = []
    for inflation in (1.0, 2.0):
        effects = with_effect(0.02).run_effects.model_copy(update={"inflation": (inflation,)})
        profile = with_effect(0.02).model_copy(update={"run_effects": effects})
        times = [another_run(profile, np.random.default_rng(seed)).service_time.mean_s[0] for seed in range(400)]
        drawn.append(float(np.std(np.log(times))))
    assert drawn[1] == pytest.approx(2 * drawn[0], rel=1e-6)


def test_a_run_that_the_others_cannot_do_without_is_not_left_out() -> None:
    few = calibration_runs(known_profile(), duration_s=0.1)[1:4]  # too few requests without the middle rate
    with pytest.raises(CalibrationError):
        fit_profile([few[0], few[2]], request_log_of)
    assert left_out_of(few, few, [], request_log_of) == []
    enough = calibration_runs(known_profile(), duration_s=4)
    assert len(left_out_of(enough, enough, [], request_log_of)) == 2
