"""The curve over loads: closed forms where there is one, and intervals that hold what they are of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from testbed.calibration.profile import DeviceUse, RunEffect, RunEffects, ServiceProfile
from testbed.simulation.load_curve import RATES, REQUESTS, load_curve, rate_within
from tests.oracles.cluster_worlds import flat_profile
from workloads.catalog import ServiceConfig

SERVICE = ServiceConfig(max_batch_size=1, dynamic_batching=None)
SERVICE_S = 0.01
USE = DeviceUse(network_s=(0.006,), idle_w=100.0, batch_j=0.5, request_j=0.25)


def profile(**update: object) -> ServiceProfile:
    known = {"ranges": {"rate_rps": (10.0, 80.0)}, "device_use": USE, **update}
    return flat_profile((SERVICE_S,)).model_copy(update=known)


def test_shares_and_power_are_those_of_the_rate() -> None:
    curve = load_curve(profile(), SERVICE, seed=1)
    assert curve.configuration == SERVICE.label
    assert [point.rate_rps for point in curve.points] == pytest.approx(np.linspace(10, 80, RATES))
    for point in curve.points:
        share = 4 / np.sqrt(REQUESTS)  # of chance in the number of arrivals
        assert point.busy.middle == pytest.approx(point.rate_rps * SERVICE_S, rel=share)
        assert point.network is not None
        assert point.network.middle == pytest.approx(point.rate_rps * 0.006, rel=share)
        assert point.power_w is not None
        assert point.power_w.middle == pytest.approx(100 + 0.75 * point.rate_rps, rel=share)
        assert point.busy.low < point.busy.middle < point.busy.high


def test_the_wait_is_that_of_a_queue_with_constant_service() -> None:
    """M/D/1: no wait with probability 1 - rho, so that the median of rho < .5 is the service time alone."""
    first, *_, last = load_curve(profile(), SERVICE, seed=1).points
    assert first.p50_s.middle == pytest.approx(SERVICE_S)
    assert last.p95_s.middle > 3 * SERVICE_S


def test_runs_that_differ_widen_the_interval_of_what_they_differ_in() -> None:
    effects = RunEffects(service=RunEffect(std=0.05, degrees_of_freedom=40))
    use = USE.model_copy(update={"power_spread": RunEffect(std=0.1, degrees_of_freedom=40)})
    middle = RATES // 2
    same = load_curve(profile(), SERVICE, seed=1).points[middle]
    other = load_curve(profile(run_effects=effects, device_use=use), SERVICE, seed=1).points[middle]
    for name in ("busy", "power_w"):
        narrow, wide = (getattr(point, name) for point in (same, other))
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_what_the_profile_does_not_tell_is_missing() -> None:
    points = load_curve(profile(device_use=None), SERVICE, seed=1).points
    assert {point.network for point in points} == {None}
    assert {point.power_w for point in points} == {None}


@pytest.mark.parametrize("service_s", [0.01, 1.0])
def test_what_a_replica_serves_within_a_target_is_that_of_a_queue_with_constant_service(service_s: float) -> None:
    """M/D/1, of a target of four services: P(wait > 3 services) = c * exp(-3 d) with load * (exp(d) - 1) = d, whether
    the service takes 10 ms or a second."""

    def late(load: float) -> float:
        d = brentq(lambda d: load * (np.exp(d) - 1) - d, 1e-6, 20)
        return float((1 - load) / (load * np.exp(d) - 1) * np.exp(-3 * d))

    rate_rps = rate_within(flat_profile((service_s,)), SERVICE, 4 * service_s)
    assert rate_rps * service_s == pytest.approx(brentq(lambda load: late(load) - 0.05, 0.3, 0.9), abs=0.015)
