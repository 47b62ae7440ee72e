"""How runs differ beyond what load explains."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from testbed.calibration.fit import fit_profile
from testbed.calibration.run_effects import fit_run_effects, run_means, unexplained
from testbed.pipeline.counterpart import request_log_of
from tests.oracles.known_service import calibration_runs, known_profile


def rows_of(shifts_s: list[float], slope_s: float, seed: int = 1) -> pd.DataFrame:
    """Runs at doubling rates whose egress delay rises with the rate's logarithm, each with a shift of its own."""
    rng = np.random.default_rng(seed)
    tables = []
    for run, shift_s in enumerate(shifts_s):
        rate = 50.0 * 2**run
        egress_delay = 0.001 + slope_s * np.log(rate) + shift_s + rng.exponential(1e-5, 4000)
        tables.append(
            pd.DataFrame(
                {
                    "run": run,
                    "replicas": 1,
                    "instances": 1,
                    "rate": rate,
                    "ingress_delay": np.nan,
                    "egress_delay": egress_delay,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def test_what_load_explains_is_not_a_run_effect():
    effect = unexplained(run_means(rows_of([0.0] * 8, slope_s=2e-4), "egress_delay"))
    assert effect is not None
    assert effect.std < 2e-6
    assert effect.degrees_of_freedom == 6


def test_shifts_of_single_runs_are():
    rng = np.random.default_rng(5)
    found = []
    for seed in range(30):
        effect = unexplained(
            run_means(rows_of(rng.normal(0, 1e-4, 8).tolist(), slope_s=2e-4, seed=seed), "egress_delay")
        )
        assert effect is not None
        found.append(effect.std**2)
    assert np.sqrt(np.mean(found)) == pytest.approx(1e-4, rel=0.15)


def test_too_few_runs_tell_nothing():
    rows = rows_of([0.0, 0.0], slope_s=0.0)
    factors = pd.DataFrame({"run": [0], "replicas": [1], "instances": [1], "rate": [50.0], "service": [0.01]})
    effects = fit_run_effects(rows, rows.rename(columns={"egress_delay": "inter_batch_gap"}), factors)
    assert effects.egress_delay_s is None
    assert effects.ingress_delay_s is None
    assert effects.service is None


def test_a_steady_service_has_small_ones():
    effects = fit_profile(calibration_runs(known_profile()), request_log_of, leave_out=False).run_effects
    assert effects.service is not None
    assert effects.service.std < 0.01
    assert effects.egress_delay_s is not None
    assert effects.egress_delay_s.std < 2e-5
