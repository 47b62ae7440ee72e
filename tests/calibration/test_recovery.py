"""Calibrating a simulated service of known parameters gives the parameters back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from loadgen.validity import Verdict
from testbed.calibration.evidence import Evidence
from testbed.calibration.fit import fit_profile, usable
from testbed.calibration.profile import ServiceProfile
from testbed.calibration.service_time import fit_noise
from testbed.errors import CalibrationError
from testbed.pipeline.counterpart import request_log_of
from tests.oracles.known_service import SIGMA, calibration_runs, known_profile


def mean_overhead(profile: ServiceProfile) -> tuple[float, float]:
    """Over all requests: the known overhead does not depend on load."""
    levels = profile.overhead.levels
    requests = [level.requests for level in levels]
    ingress_delay = [np.trapezoid(level.ingress_delay_quantiles_s, dx=1 / 400) for level in levels]
    egress_delay = [np.trapezoid(level.egress_delay_quantiles_s, dx=1 / 400) for level in levels]
    return float(np.average(ingress_delay, weights=requests)), float(np.average(egress_delay, weights=requests))


def log_deviation(profile: ServiceProfile) -> float:
    q = np.log(profile.service_time.noise_quantiles)
    return float(q[1:-1].std())  # without the two extremes: they are single batches


@pytest.fixture(scope="module")
def fitted() -> ServiceProfile:
    return fit_profile(calibration_runs(known_profile()), request_log_of, leave_out=False)


def test_batch_times_come_back_within_2_percent(fitted: ServiceProfile) -> None:
    assert fitted.service_time.mean_s == pytest.approx(known_profile().service_time.mean_s, rel=0.02)


def test_every_batch_size_was_visited(fitted: ServiceProfile) -> None:
    assert min(fitted.service_time.batches) >= 40


def test_inter_batch_gap_comes_back_within_2_percent(fitted: ServiceProfile) -> None:
    assert fitted.inter_batch_gap_s == pytest.approx(0.00015, rel=0.02)


def test_the_spread_of_batches_comes_back(fitted: ServiceProfile) -> None:
    assert log_deviation(fitted) == pytest.approx(log_deviation(known_profile()), rel=0.02)
    assert fitted.slow_phase.sigma < 0.2 * SIGMA  # there was none


def test_overhead_comes_back_within_2_percent(fitted: ServiceProfile) -> None:
    assert sum(mean_overhead(fitted)) == pytest.approx(0.0006, rel=0.02)
    assert mean_overhead(fitted)[0] == pytest.approx(0.0002, rel=0.03)  # over seeds its deviation is 1.1 %
    assert fitted.overhead.per_position_s == pytest.approx(0.00005, rel=0.03)  # likewise


def test_the_profile_repeats_the_runs_that_it_was_fitted_on(fitted: ServiceProfile) -> None:
    assert np.median([abs(r.p95_error_pct) for r in fitted.residuals]) < 2.0
    assert max(r.ks for r in fitted.residuals[1:]) < 0.05


def test_slow_phases_come_back_within_2_percent() -> None:
    """From the times of batches alone, hours of them: phases are few. tests/bench has it of simulated runs."""
    rng = np.random.default_rng(7)
    factors = []
    for _ in range(3):
        step_s = 0.025
        decay = np.exp(-step_s / 0.5)
        x = lfilter([1.0], [1.0, -decay], 0.08 * np.sqrt(1 - decay**2) * rng.standard_normal(1_200_001))
        slow = np.exp(x - 0.08**2 / 2)
        time_s = np.sort(rng.uniform(0, 30_000, 300_000))
        factors.append((time_s, slow[(time_s / step_s).astype(int)] * np.exp(SIGMA * rng.standard_normal(300_000))))
    noise, phase = fit_noise(factors)
    assert phase.sigma == pytest.approx(0.08, rel=0.02)
    assert phase.timescale_s == pytest.approx(0.5, rel=0.02)
    assert np.log(noise)[1:-1].std() == pytest.approx(log_deviation(known_profile()), rel=0.02)


def test_a_slow_phase_is_in_the_profile() -> None:
    """Of 100 s a run: as near as so few phases tell."""
    runs = calibration_runs(known_profile(slow_sigma=0.08, timescale_s=2.0), duration_s=100)
    profile = fit_profile(runs, request_log_of, leave_out=False)
    assert profile.slow_phase.sigma == pytest.approx(0.08, rel=0.25)
    assert 1.0 < profile.slow_phase.timescale_s < 4.0


def test_without_a_log_of_batches_inter_batch_gap_and_spread_are_fitted_through_simulation() -> None:
    runs = calibration_runs(known_profile(), with_batches=False)
    profile = fit_profile(runs, request_log_of, leave_out=False)
    assert profile.service_time.mean_s == pytest.approx(known_profile().service_time.mean_s, rel=0.02)
    assert profile.steadiness is None  # not measured
    assert np.median([abs(r.p95_error_pct) for r in profile.residuals]) < 2.5


def test_no_runs_is_one_clear_line() -> None:
    with pytest.raises(CalibrationError, match="kis calibrate"):
        fit_profile([], request_log_of)


def judged(run: Evidence, reason: str | None) -> Evidence:
    """The run with a verdict: VALID, late, or whatever else is the reason."""
    late = {"lag_p99_ms": 9.0, "lag_limit_ms": 2.0} if reason == LATE else {}
    verdict = Verdict(valid=reason is None, reasons=() if reason is None else (reason,), figures=late)
    return replace(run, manifest=run.manifest.model_copy(update={"verdict": verdict}))


LATE = "requests were sent late: lag P99 9.00 ms, limit 2.00 ms"


def test_invalid_runs_are_fitted_on_only_for_want_of_others_and_late_ones_tell_of_the_service_time() -> None:
    bursts, *loads = calibration_runs(known_profile(), duration_s=1)
    foreign = judged(loads[0], "the server executed 9 requests more than were sent: something else used the model")
    sound, fitted = usable([bursts, foreign, judged(loads[1], LATE), *loads[2:]])
    assert [run.manifest.run_id for run in sound] == [run.manifest.run_id for run in (bursts, *loads[1:])]
    assert [run.manifest.run_id for run in fitted] == [run.manifest.run_id for run in (bursts, *loads[2:])]
    sound, fitted = usable([judged(run, LATE) for run in (bursts, *loads)])
    assert len(sound) == len(fitted) == 5
    with pytest.raises(CalibrationError, match=r"every run to fit on is INVALID.*used the model"):
        usable([judged(loads[1], foreign.manifest.verdict.reasons[0])] if foreign.manifest.verdict else [])


def test_a_profile_names_the_invalid_runs_that_it_rests_on() -> None:
    bursts, *loads = calibration_runs(known_profile(), duration_s=20)
    some = fit_profile([bursts, judged(loads[0], LATE), *loads[1:]], request_log_of, leave_out=False)
    assert some.left_out_runs == (loads[0].manifest.run_id,)
    assert some.invalid_runs == ()
    every = fit_profile([judged(run, LATE) for run in (bursts, *loads)], request_log_of, leave_out=False)
    assert every.left_out_runs == ()
    assert len(every.invalid_runs) == 5


def test_runs_in_two_precisions_make_no_profile() -> None:
    first, *others = calibration_runs(known_profile(), duration_s=5)
    in_fp16 = replace(first, manifest=first.manifest.model_copy(update={"precision": "fp16", "execution": "graph"}))
    with pytest.raises(CalibrationError, match="fp16, as CUDA graphs"):
        fit_profile([in_fp16, *others], request_log_of)
