"""Calibration against a truth that is not our own simulator: SimPy services, right and wrong ones.

What a profile can say comes back; of a service that does something else the report says that the profile does not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from testbed.calibration.fit import fit_profile
from testbed.calibration.profile import FitResidual, ServiceProfile
from testbed.pipeline.counterpart import request_log_of, simulate_counterpart
from testbed.reporting.reports.calibration import context_of
from testbed.reporting.summary import ComparisonRow
from testbed.run_dir import RunDir
from tests.oracles.simpy_service import (
    EGRESS_DELAY_S,
    INGRESS_DELAY_S,
    INTER_BATCH_GAP_S,
    MEAN_S,
    PER_POSITION_S,
    SIGMA,
    Campaign,
    Memory,
    Pauses,
    Physics,
    TwoModes,
)


def calibrated(
    physics: Callable[[int], Physics], folder: Path, duration_s: float
) -> tuple[ServiceProfile, ComparisonRow, str]:
    """Fitted, and the held-out traffic simulated and compared: the profile, the comparison, the report's claim."""
    campaign = Campaign(physics, duration_s)
    profile = fit_profile(campaign.fitted(), request_log_of, leave_out=False)
    file = folder / "profile-emulated.json"
    profile.write(file)
    held_out, real = campaign.held_out(), RunDir(folder / "runs" / "held-out").create()
    held_out.schedule.write(real.schedule)
    held_out.requests.write(real.requests)
    held_out.metrics.write(real.metrics)
    if held_out.batches is not None:
        held_out.batches.write(real.batches)
    real.write_manifest(held_out.manifest)
    simulate_counterpart(real, file, folder / "runs" / "held-out-sim", seed=3)
    (group,) = context_of(folder).groups
    return profile, group.rows[0], group.claim


def mean_s(profile: ServiceProfile, table: str) -> float:
    """Of an overhead, over all requests."""
    levels = profile.overhead.levels
    means = [np.trapezoid(getattr(level, table), dx=1 / 400) for level in levels]
    return float(np.average(means, weights=[level.requests for level in levels]))


def test_a_service_of_known_parameters_is_recovered_and_well_simulated(tmp_path: Path) -> None:
    profile, row, claim = calibrated(Physics, tmp_path, duration_s=30.0)
    assert profile.service_time.mean_s == pytest.approx(MEAN_S, rel=0.02)
    assert np.log(profile.service_time.noise_quantiles)[1:-1].std() == pytest.approx(SIGMA, rel=0.04)
    assert profile.slow_phase.sigma < 0.2 * SIGMA
    assert profile.inter_batch_gap_s == pytest.approx(INTER_BATCH_GAP_S, rel=0.02)
    assert mean_s(profile, "ingress_delay_quantiles_s") == pytest.approx(INGRESS_DELAY_S, rel=0.03)
    assert mean_s(profile, "egress_delay_quantiles_s") == pytest.approx(EGRESS_DELAY_S, rel=0.03)
    assert profile.overhead.per_position_s == pytest.approx(PER_POSITION_S, rel=0.03)
    assert row.p95_error_pct == pytest.approx(0, abs=3)
    assert row.p99_error_pct == pytest.approx(0, abs=5)
    assert row.ks is not None
    assert row.ks < 0.02
    assert row.utilisation_sim == pytest.approx(row.utilisation, abs=0.005)
    assert profile.misfit is None
    assert "does not fit" not in claim


@pytest.mark.parametrize("physics", [TwoModes, Pauses, Memory])
def test_of_a_service_that_no_profile_describes_the_report_says_so(physics: type[Physics], tmp_path: Path) -> None:
    profile, row, claim = calibrated(physics, tmp_path, duration_s=15.0)
    assert max(abs(row.p95_error_pct or 0), abs(row.p99_error_pct or 0)) > 5
    assert profile.misfit is not None
    assert "The profile does not fit this service: even of run fitted-" in claim


def test_a_run_that_was_not_valid_is_no_sign_of_a_misfit() -> None:
    residual = FitResidual(run_id="late", valid=False, p50_error_pct=0.0, p95_error_pct=40.0, ks=0.1)
    profile = ServiceProfile.model_construct(residuals=(residual,))
    assert profile.misfit is None
    wrong = profile.model_copy(update={"residuals": (residual, residual.model_copy(update={"valid": True}))})
    assert "of run late" in (wrong.misfit or "")
