"""A simulated service of known parameters, calibrated, over several seeds: `make bench ARGS="-k recovery"`.

tests/calibration has one seed of a minute a run, where the ingress delay's own randomness is 1.5 %.
"""

from __future__ import annotations

import numpy as np
import pytest

from testbed.calibration.fit import fit_profile
from testbed.calibration.profile import ServiceProfile
from testbed.calibration.service_time import fit_service_time
from testbed.pipeline.counterpart import request_log_of
from tests.oracles.known_service import calibration_runs, known_profile

SEEDS = (100, 1_100, 2_100, 3_100)
TOLERANCE_PCT = 2.0


def deviation(noise_quantiles: tuple[float, ...]) -> float:
    """Of the logarithm, without the two extremes: they are single batches."""
    return float(np.log(noise_quantiles)[1:-1].std())


def parameters(profile: ServiceProfile) -> dict[str, float]:
    """What the known service is made of; overheads over all requests, as they do not depend on the load."""
    levels = profile.overhead.levels
    requests = [level.requests for level in levels]
    ingress_delay = [np.trapezoid(level.ingress_delay_quantiles_s, dx=1 / 400) for level in levels]
    egress_delay = [np.trapezoid(level.egress_delay_quantiles_s, dx=1 / 400) for level in levels]
    assert profile.inter_batch_gap_s is not None
    return {f"batch of {b}": s for b, s in enumerate(profile.service_time.mean_s, 1)} | {
        "white noise": deviation(profile.service_time.noise_quantiles),
        "inter_batch_gap": profile.inter_batch_gap_s,
        "ingress_delay": float(np.average(ingress_delay, weights=requests)),
        "egress_delay": float(np.average(egress_delay, weights=requests)),
        "a place in the batch": profile.overhead.per_position_s,
    }


def told(found: dict[str, float], known: dict[str, float]) -> dict[str, float]:
    """Errors in per cent; printed."""
    errors = {name: 100 * (found[name] / value - 1) for name, value in known.items()}
    print("\n" + ", ".join(f"{name} {error:+.2f} %" for name, error in errors.items()))
    return errors


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_parameter_of_runs_of_400_s(benchmark, seed):
    runs = calibration_runs(known_profile(), duration_s=400, seed=seed)
    profile = benchmark.pedantic(fit_profile, args=(runs, request_log_of), kwargs={"leave_out": False}, rounds=1)
    errors = told(parameters(profile), parameters(known_profile()))
    assert max(map(abs, errors.values())) < TOLERANCE_PCT


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_slow_phases_of_runs_of_days(benchmark, seed):
    """Phases are few: telling theirs within 2 % takes days of batches."""
    profile = known_profile(slow_sigma=0.08, timescale_s=0.5)
    runs = calibration_runs(profile, duration_s=60_000, rates=(10.0,) * 4, seed=seed)
    service_time, slow, _ = benchmark.pedantic(fit_service_time, args=(runs, 8), rounds=1)
    found = {"sigma": slow.sigma, "time scale": slow.timescale_s, "white": deviation(service_time.noise_quantiles)}
    known = {"sigma": 0.08, "time scale": 0.5, "white": deviation(profile.service_time.noise_quantiles)}
    errors = told(found, known)
    assert max(map(abs, errors.values())) < TOLERANCE_PCT
