"""What an idle instance costs: found where it was put in, and nowhere else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from testbed.calibration.after_idle import FIRST_KNOT_S, KNOTS, at, fit_after_idle, idle_before, mean_extra_s
from testbed.calibration.fit import fit_profile
from testbed.calibration.profile import ServiceProfile
from testbed.calibration.service_time import counts_by_size, idleness
from testbed.pipeline.counterpart import request_log_of
from testbed.simulation.kernel import simulate_batches
from testbed.simulation.rules import BatchingRules
from testbed.simulation.state import FIRST_KNOT_NS
from tests.oracles.known_service import calibration_runs, known_profile

TABLE = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6]) * 1e-3


def test_the_kernels_knots_are_those_of_the_fit() -> None:
    assert round(FIRST_KNOT_S * 1e9) == FIRST_KNOT_NS
    assert len(TABLE) == KNOTS


@pytest.mark.parametrize(
    ("gap_ns", "extra_ns"),
    [(1, 0), (250_000, 0), (500_000, 100_000), (707_107, 150_000), (16_000_000, 600_000), (10**10, 600_000)],
)
def test_a_batch_takes_more_by_how_long_its_instance_was_idle(gap_ns: int, extra_ns: int) -> None:
    rules = BatchingRules(max_batch_size=1, instances=1)
    arrivals = [0, 1_000_000 + 600_000 + gap_ns]  # the first one finds an instance that never ran: the last knot
    result = simulate_batches(arrivals, [0.0, 1e6], 1.0, rules, after_idle_ns=TABLE * 1e9)
    took = result.end_ns - result.start_ns
    assert took[0] == 1_600_000
    assert took[1] == pytest.approx(1_000_000 + extra_ns, abs=2)


def test_between_knots_the_fit_and_the_kernel_say_the_same() -> None:
    for gap_s in np.geomspace(1e-5, 1, 40):
        rules = BatchingRules(max_batch_size=1, instances=1)
        arrivals = [0, 1_600_000 + round(gap_s * 1e9)]
        result = simulate_batches(arrivals, [0.0, 1e6], 1.0, rules, after_idle_ns=TABLE * 1e9)
        kernel_s = (result.end_ns[1] - result.start_ns[1]) / 1e9 - 0.001
        assert kernel_s == pytest.approx(float(at(np.array([gap_s]), TABLE)[0]), abs=2e-9)


def test_idle_time_is_from_the_end_of_the_batch_before_with_what_its_log_leaves_out() -> None:
    log = pd.DataFrame(
        {
            "replica": [0, 0, 1, 0],
            "instance": [0, 0, 0, 0],
            "start_ns": [0, 5_000_000, 1_000_000, 6_000_000],
            "end_ns": [2_000_000, 5_900_000, 2_000_000, 8_000_000],
            "batch_size": [2, 1, 1, 1],
        }
    )
    idle_s = idle_before(log, np.array([0.0005, 0.001]))
    assert idle_s == pytest.approx([np.inf, 0.002, np.inf, 0.0])


def slower_when_idle() -> ServiceProfile:
    known = known_profile()
    times = known.service_time.model_copy(update={"after_idle_s": tuple(TABLE)})
    return known.model_copy(update={"service_time": times})


def test_what_idle_instances_cost_comes_back_with_the_service_time_of_busy_ones() -> None:
    profile = slower_when_idle()
    fitted = fit_profile(calibration_runs(profile), request_log_of, leave_out=False)
    assert fitted.service_time.mean_s == pytest.approx(profile.service_time.mean_s, rel=0.02)
    assert fitted.service_time.after_idle_s == pytest.approx(TABLE, abs=0.00012)
    assert fitted.inter_batch_gap_s == pytest.approx(profile.inter_batch_gap_s, abs=0.00003)
    for residual in fitted.residuals:
        assert abs(residual.p95_error_pct) < 3


def test_where_idleness_costs_nothing_the_profile_has_none() -> None:
    assert not idleness(calibration_runs(known_profile()), 8).known
    profile = fit_profile(calibration_runs(known_profile()), request_log_of, leave_out=False)
    assert profile.service_time.after_idle_s == ()


def test_without_a_log_of_batches_it_is_not_known() -> None:
    assert not idleness(calibration_runs(slower_when_idle(), with_batches=False), 8).known


def test_what_a_server_takes_around_the_log_grows_with_idleness_too() -> None:
    runs = calibration_runs(slower_when_idle())
    batches, seconds = counts_by_size(runs, 8)
    nothing_s = np.zeros(8)
    around = 1.5 * batches * np.stack([mean_extra_s(run, nothing_s, TABLE) for run in runs])
    found = fit_after_idle(runs, nothing_s, batches, seconds + around)
    assert found.extra_s == pytest.approx(2.5 * found.logged_s, rel=0.1)
