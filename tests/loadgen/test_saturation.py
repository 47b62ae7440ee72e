"""A queue that grows is told from one that does not, on servers of known speed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from loadgen.request_log import RequestLog
from loadgen.saturation import strain_of

SPAN_S = 60.0


def log_of(scheduled_s: np.ndarray, completed_s: np.ndarray, given_up_s: float = np.inf) -> RequestLog:
    late = completed_s - scheduled_s > given_up_s
    completed_ns = pd.array((completed_s * 1e9).astype("int64"), "Int64")
    completed_ns[late] = pd.NA
    n = len(scheduled_s)
    return RequestLog(
        pd.DataFrame(
            {
                "request_id": pd.array(np.arange(n), "Int64"),
                "model": "m",
                "endpoint": "e",
                "scheduled_ns": pd.array((scheduled_s * 1e9).astype("int64"), "Int64"),
                "sent_ns": pd.array((scheduled_s * 1e9).astype("int64"), "Int64"),
                "completed_ns": completed_ns,
                "status": np.where(late, "timeout", "ok"),
                "detail": None,
            }
        )
    )


def served(load: float, seed: int, shape: float = 0.0, given_up_s: float = np.inf) -> RequestLog:
    """One server, a tenth of a second a request, in order. shape: of a rate that rises by it over the span."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, SPAN_S, rng.poisson(10 * load * SPAN_S)))
    scheduled_s = times[rng.uniform(0, 1, len(times)) < 1 - shape * (1 - times / SPAN_S)]
    now, completed_s = 0.0, []
    for at in scheduled_s:
        now = max(now, at) + 0.1 * rng.lognormal(0, 0.1)
        completed_s.append(now)
    return log_of(scheduled_s, np.array(completed_s), given_up_s)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("load", [0.2, 0.4, 0.6])
def test_a_server_that_keeps_up_is_not_called_saturated(load: float, seed: int) -> None:
    assert not strain_of(served(load, seed), SPAN_S).saturated


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("load", [1.2, 2.0])
def test_a_server_that_is_sent_too_much_is(load: float, seed: int) -> None:
    strain = strain_of(served(load, seed), SPAN_S)
    assert strain.saturated
    assert strain.growth is not None
    assert strain.growth > 3
    assert strain.behind_share > 0.1


def test_long_latencies_that_do_not_grow_are_no_saturation() -> None:
    scheduled_s = np.sort(np.random.default_rng(1).uniform(0, SPAN_S, 200))
    strain = strain_of(log_of(scheduled_s, scheduled_s + 6.0), SPAN_S)
    assert strain.growth == pytest.approx(1.0)
    assert strain.behind_share == pytest.approx(0.1, abs=0.03)  # what is in flight at the end
    assert not strain.saturated


def test_a_rate_that_rises_within_what_the_server_can_do_is_not_saturation() -> None:
    assert not any(strain_of(served(0.6, seed, shape=0.8), SPAN_S).saturated for seed in range(10))


def test_a_client_that_gives_up_hides_the_growth_but_not_the_saturation() -> None:
    strain = strain_of(served(3.0, 1, given_up_s=0.5), SPAN_S)
    assert strain.growth is None  # most of the last third was never answered
    assert strain.lost_share > 0.5
    assert strain.saturated


def test_errors_and_an_empty_run_are_no_saturation() -> None:
    refused = served(0.4, 1)
    refused.frame["status"] = "error"
    for log in (refused, log_of(np.array([]), np.array([]))):
        strain = strain_of(log, SPAN_S)
        assert strain == (None, 0.0, 0.0)
        assert not strain.saturated
