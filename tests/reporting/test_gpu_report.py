"""What the report says of a GPU: loads with their power, and the parts of a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from testbed.calibration.profile import Band, CurvePoint, DeviceUse, LoadCurve
from testbed.measurement.device_times import BatchTimes, DeviceTimes
from testbed.measurement.metric_log import MetricLog
from testbed.reporting.drawing import svg_address
from testbed.reporting.figures.gpu import gpu_figure
from testbed.reporting.gpu import gpu_view
from testbed.reporting.labels import NOT_MEASURED
from testbed.run_dir import Device, run_dirs
from tests.oracles.cluster_worlds import flat_profile
from tests.reporting.synthetic_runs import write_run

SECOND = 1_000_000_000
GPU = Device(kind="gpu", name="Imaginary GPU")
SERVED = "GPU-served"


def metrics(throttled: int = 0) -> MetricLog:
    rows: list[tuple] = []
    for second in range(11):
        for gpu, uuid, watts in (("0", "GPU-idle", 50.0), ("1", SERVED, 200.0)):
            labels = {"gpu": gpu, "gpu_uuid": uuid}
            time_ns = second * SECOND
            rows += [
                (time_ns, "nvml", "energy", labels, watts * second, "joule"),
                (time_ns, "nvml", "utilisation", labels, 0.3 if uuid == SERVED else 0.0, "ratio"),
                (time_ns, "nvml", "throttle_reasons", labels, throttled if second == 4 else 1, "bits"),
            ]
        triton = {"model": "resnet50", "endpoint": "r", "batch_size": "2"}
        rows.append((second * SECOND, "triton", "batch_executions", triton, 10.0 * second, "count"))
        rows.append((second * SECOND, "triton", "batch_compute_seconds", triton, 0.04 * second, "s"))
    return MetricLog.from_rows(rows)


def times(batches: int, network_s: float) -> DeviceTimes:
    size = BatchTimes(
        batch_size=2,
        batches=batches,
        backend_s=network_s + 0.001,
        copy_in_s=0.0002,
        network_s=network_s,
        copy_out_s=0.0001,
        rest_s=0.0007,
        network_std_s=0.0001,
        rest_std_s=0.0002,
    )
    return DeviceTimes(sizes=(size,))


def folder(path: Path) -> Path:
    arrivals = np.arange(0, 10 * SECOND, SECOND // 10)
    answered = arrivals / 1e9 + 0.01
    runs = path / "runs"
    facts = {"device": GPU, "gpu_uuids": (SERVED,)}
    write_run(runs, "one", arrivals, answered, metrics=metrics(), **facts)
    write_run(runs, "two", arrivals, answered, metrics=metrics(throttled=0x4 | 0x40), **facts)
    times(100, 0.002).write(runs / "one")
    times(300, 0.004).write(runs / "two")
    write_run(runs, "bare", arrivals, answered, device=GPU)
    write_run(runs, "cpu", arrivals, answered)
    batches = pd.DataFrame(
        {
            "request_id": np.arange(100),
            "replica": 0,
            "instance": 0,
            "start_ns": np.repeat(arrivals[::2], 2),
            "end_ns": np.repeat(arrivals[::2], 2) + 5_000_000,
            "batch_size": 2,
            "position": np.arange(100) % 2,
        }
    )
    write_run(runs, "one-sim", arrivals, answered, kind="simulated", simulates="one", batches=batches, **facts)
    return path


def test_a_load_is_of_the_gpu_that_served_and_what_was_not_measured_says_so(tmp_path: Path) -> None:
    view = gpu_view(run_dirs(folder(tmp_path)))
    assert view is not None
    loads = {load.run_id: load for load in view.loads}
    assert loads.keys() == {"one", "two", "bare"}
    assert loads["one"].power_w == 200
    assert loads["one"].joules_per_request == pytest.approx(20)  # 10 requests a second
    assert loads["one"].nvml == pytest.approx(0.3)
    assert loads["one"].network == pytest.approx(100 * 0.002 / 10)
    assert (loads["one"].throttled, loads["two"].throttled) == ("", "power cap, too hot (hardware)")
    assert loads["bare"].power_w is None
    row = next(row for row in view.load_table.rows if row[0] == "bare")
    assert row.count(NOT_MEASURED) == 8


def test_beside_a_load_stands_what_its_counterpart_would_have_done(tmp_path: Path) -> None:
    use = DeviceUse(network_s=(0.001, 0.0022), idle_w=150.0, batch_j=2.0, request_j=4.0)
    profile = flat_profile().model_copy(update={"model": "resnet50", "device_use": use})
    view = gpu_view(run_dirs(folder(tmp_path)), [profile])
    assert view is not None
    loads = {load.run_id: load for load in view.loads}
    assert loads["one"].simulated_network == pytest.approx(50 * 0.0022 / 10)
    assert loads["one"].simulated_power_w == pytest.approx(150 + (50 * 2 + 100 * 4) / 10)
    assert loads["two"].simulated_power_w is None  # it has no simulated counterpart
    rows = {row[0]: row for row in view.load_table.rows}
    assert rows["one"][7].startswith("200.0 (")  # and its error
    assert rows["two"][7] == "-"


def test_the_parts_of_a_batch_are_pooled_by_batches_and_what_triton_adds_is_the_rest(tmp_path: Path) -> None:
    view = gpu_view(run_dirs(folder(tmp_path)))
    assert view is not None
    (part,) = view.parts
    assert part.times.batches == 400
    assert part.times.network_s == pytest.approx((100 * 0.002 + 300 * 0.004) / 400)
    assert part.triton_s == pytest.approx(0.004)
    assert part.around_s == pytest.approx(0.004 - part.times.backend_s)
    assert len(view.parts_table.rows[0]) == len(view.parts_table.headings)


def test_without_a_gpu_there_is_nothing_to_say(tmp_path: Path) -> None:
    arrivals = np.arange(10) * SECOND
    write_run(tmp_path / "runs", "cpu", arrivals, arrivals / 1e9 + 0.01)
    assert gpu_view(run_dirs(tmp_path)) is None


def test_a_figure_shows_one_service_under_load_as_the_same_bytes_each_time(tmp_path: Path) -> None:
    band = Band(low=0.9, middle=1.0, high=1.1)
    points = tuple(
        CurvePoint(rate_rps=rate, p50_s=band, p95_s=band, busy=band, network=None, power_w=band) for rate in (5.0, 20.0)
    )
    runs = run_dirs(folder(tmp_path))
    label = runs[0].manifest.service.label
    profile = flat_profile().model_copy(
        update={"model": "resnet50", "load_curve": LoadCurve(configuration=label, points=points)}
    )
    view = gpu_view(runs, [profile])
    assert view is not None
    (shown,) = view.curves
    assert {load.run_id for load in shown.loads} == {"one", "two", "bare"}
    latency, _, power, *_ = gpu_figure(shown).axes
    assert any(np.allclose(line.get_ydata(), 1000.0) for line in latency.lines)  # the curve, ms
    assert any(np.allclose(line.get_ydata(), 200.0) for line in power.lines)  # what NVML measured, W
    assert svg_address(gpu_figure(shown)) == svg_address(gpu_figure(shown))
    other = profile.model_copy(update={"load_curve": LoadCurve(configuration="r2-n1-b8-d0ms", points=points)})
    drawn = gpu_figure(replace(shown, profile=other)).axes[0]
    assert not any(np.allclose(line.get_ydata(), 1000.0) for line in drawn.lines)


def test_runs_of_single_batches_have_no_load_to_draw(tmp_path: Path) -> None:
    arrivals = np.arange(0, 10 * SECOND, SECOND // 10)
    write_run(tmp_path / "runs", "heaps", arrivals, arrivals / 1e9 + 0.01, device=GPU, pattern="capacity")
    view = gpu_view(run_dirs(tmp_path))
    assert view is not None
    assert (len(view.loads), view.curves) == (1, [])
