"""What batches take of a GPU: put into runs, and found in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from testbed.calibration.device_use import batches_of, fit_device_use, network_share, power_w
from testbed.calibration.evidence import Evidence
from testbed.calibration.profile import DeviceUse
from testbed.measurement.device_times import BatchTimes, DeviceTimes
from testbed.measurement.metric_log import MetricLog
from tests.oracles.known_service import calibration_runs, known_profile

IDLE_W, BATCH_J, REQUEST_J = 120.0, 0.4, 0.25
KNOWN = DeviceUse(network_s=(0.003, 0.004, 0.005), idle_w=IDLE_W, batch_j=BATCH_J, request_j=REQUEST_J)


def times(**network_s: float) -> DeviceTimes:
    rest = dict.fromkeys(("backend_s", "copy_in_s", "copy_out_s", "rest_s", "network_std_s", "rest_std_s"), 0.0)
    sizes = [
        BatchTimes(batch_size=int(size.removeprefix("b")), batches=10, network_s=seconds, **rest)
        for size, seconds in network_s.items()
    ]
    return DeviceTimes(sizes=tuple(sizes))


def on_gpu(run: Evidence, factor: float = 1.0) -> Evidence:
    """With an energy counter that counts what is known, or so many times as much."""
    span_s = run.schedule.duration_s
    counts = batches_of(run.batches, span_s)
    requests = sum(size * count for size, count in counts.items())
    watts = factor * (IDLE_W + (BATCH_J * sum(counts.values()) + REQUEST_J * requests) / span_s)
    rows = [
        (round(k * span_s * 1e8), "nvml", "energy", {"gpu": "0", "gpu_uuid": "GPU-a"}, watts * k * span_s / 10, "joule")
        for k in range(11)
    ]
    return replace(run, metrics=MetricLog.from_rows(rows), device_times=times(b1=0.003, b3=0.005))


@pytest.fixture(scope="module")
def runs() -> list[Evidence]:
    rates = (40.0, 150.0, 250.0, 350.0, 450.0, 600.0)
    return [on_gpu(run) for run in calibration_runs(known_profile(), duration_s=20, rates=rates)]


def test_power_and_network_times_come_back(runs: list[Evidence]) -> None:
    found = fit_device_use(runs, 4)
    assert found is not None
    assert found.network_s == pytest.approx((0.003, 0.004, 0.005, 0.005))  # between sizes on a line, beyond as the last
    assert (found.idle_w, found.batch_j, found.request_j) == pytest.approx((IDLE_W, BATCH_J, REQUEST_J), rel=1e-3)
    assert found.power_spread is not None
    assert found.power_spread.degrees_of_freedom == len(runs) - 3
    assert found.power_spread.std < 1e-3


def test_by_how_much_runs_differ_from_the_power_is_known(runs: list[Evidence]) -> None:
    rng, spread = np.random.default_rng(3), 0.05
    found = []
    for _ in range(30):
        studies = [on_gpu(run, float(rng.normal(1, spread))) for run in runs]
        use = fit_device_use(studies, 4)
        assert use is not None
        assert use.power_spread is not None
        found.append(use.power_spread)
    squares = sum(one.degrees_of_freedom * one.std**2 for one in found) / sum(one.degrees_of_freedom for one in found)
    assert np.sqrt(squares) == pytest.approx(spread, rel=0.2)


def test_two_runs_do_not_tell_idle_batch_and_request_apart(runs: list[Evidence]) -> None:
    found = fit_device_use(runs[:2], 4)
    assert found is not None
    assert (found.idle_w, found.batch_j, found.request_j) == (None, None, None)
    assert power_w(found, {1: 10}, 1.0) is None


def test_without_a_gpu_there_is_nothing() -> None:
    assert fit_device_use(calibration_runs(known_profile(), duration_s=5), 8) is None


def test_use_is_of_the_batches_by_size() -> None:
    assert network_share(KNOWN, {1: 100, 3: 10}, 1.0) == pytest.approx(0.35)
    assert power_w(KNOWN, {1: 100, 3: 10}, 2.0) == pytest.approx(IDLE_W + (0.4 * 110 + 0.25 * 130) / 2)
    assert network_share(KNOWN, {}, 1.0) == 0
    assert network_share(KNOWN, {4: 1}, 1.0) is None  # a size that is not known


def test_replicas_that_share_a_gpu_tell_nothing_of_one_batch(runs: list[Evidence]) -> None:
    service = runs[0].manifest.service.model_copy(update={"replicas": 2})
    manifest = runs[0].manifest.model_copy(update={"service": service})
    shared = replace(runs[0], manifest=manifest, device_times=times(b1=0.009))
    assert fit_device_use([*runs, shared], 4) == fit_device_use(runs, 4)
