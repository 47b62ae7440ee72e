"""Numbers of a comparison against sums done by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import CPU, EMULATED, VALID, profile_of, write_run
from synthetic_runs import RESNET as RESNET_SERVICE

from loadgen.validity import Verdict
from testbed.errors import ReportError
from testbed.measurement.metric_log import MetricLog
from testbed.reporting.compare import compare, compare_folder, ks_distance, quantile_ms, recompute
from testbed.reporting.loading import LoadedRun, load_run
from workloads.catalog import ServiceConfig

ARRIVALS_NS = np.arange(1, 102) * 10_000_000  # 101 requests, 10 ms apart: quantiles fall on order statistics
LATENCY_S = np.arange(101) / 1000  # 0, 1, ... 100 ms: P50 is 50 ms, P95 95 ms, P99 99 ms
INVALID = Verdict(valid=False, reasons=("the client was late",))


def a_run(folder: Path, run_id: str, latency_s: np.ndarray = LATENCY_S, **kwargs) -> LoadedRun:
    arrivals_ns = kwargs.pop("arrivals_ns", ARRIVALS_NS)
    write_run(folder / "runs", run_id, arrivals_ns, arrivals_ns / 1e9 + latency_s, **kwargs)
    return load_run(folder / "runs" / run_id)


def a_counterpart(folder: Path, of: str, latency_s: np.ndarray = LATENCY_S, **kwargs) -> LoadedRun:
    return a_run(folder, f"{of}-sim", latency_s, kind="simulated", simulates=of, **kwargs)


def batches_of(*spans_s: tuple[float, float], size: int = 2) -> pd.DataFrame:
    rows = [
        (0, 0, 0, round(start * 1e9), round(end * 1e9), size, position)
        for start, end in spans_s
        for position in range(size)
    ]
    names = ["request_id", "replica", "instance", "start_ns", "end_ns", "batch_size", "position"]
    return pd.DataFrame(rows, columns=names).astype("int64")


def test_quantiles_come_from_answered_requests_only():
    assert quantile_ms(np.array([0.004, np.nan, 0.001, 0.003, 0.002, 0.005]), 0.5) == pytest.approx(3.0)
    assert quantile_ms(np.array([0.010, 0.020]), 0.95) == pytest.approx(19.5)
    assert quantile_ms(np.array([np.nan, np.nan]), 0.5) is None


def test_ks_is_the_largest_gap_between_two_cdfs():
    a, b = np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6, np.nan])
    assert ks_distance(a, b) == pytest.approx(0.5)  # at 2: half of a, none of b
    assert ks_distance(a, a) == 0
    assert ks_distance(a, np.array([np.nan])) is None


def test_a_simulation_that_is_a_tenth_slower_is_ten_percent_off(tmp_path):
    row = compare(a_run(tmp_path, "real"), a_counterpart(tmp_path, "real", LATENCY_S * 1.1))
    assert (row.p50_real_ms, row.p95_real_ms, row.p99_real_ms) == (50, 95, 99)
    assert (row.p50_sim_ms, row.p95_sim_ms, row.p99_sim_ms) == (55, 104.5, 108.9)
    assert (row.p50_error_pct, row.p95_error_pct, row.p99_error_pct) == (10, 10, 10)
    assert row.requests == 101
    assert row.throughput_real_rps == 10.1  # 101 answers in 10 s
    assert row.offered_rps == 10.1
    assert row.configuration == "r1-n1-b8-d0ms"


def test_a_faster_simulation_has_a_negative_error(tmp_path):
    row = compare(a_run(tmp_path, "real"), a_counterpart(tmp_path, "real", LATENCY_S * 0.8))
    assert row.p95_error_pct == -20


def test_failed_and_late_requests_are_counted_but_have_no_latency(tmp_path):
    failing = LATENCY_S.copy()
    failing[51:] = np.nan  # the slower half failed
    late = LATENCY_S.copy()
    late[50] = 60.0  # answered long after the run's 10 s
    row = compare(a_run(tmp_path, "real", failing), a_counterpart(tmp_path, "real", late))
    assert (row.requests, row.ok_real, row.ok_sim) == (101, 51, 101)
    assert row.p50_real_ms == 25
    assert (row.throughput_real_rps, row.throughput_sim_rps) == (5.1, 10.0)


def test_what_was_not_measured_is_null(tmp_path):
    row = compare(a_run(tmp_path, "real", np.full(101, np.nan)), a_counterpart(tmp_path, "real"))
    for missing in (
        "p95_real_ms",
        "p95_error_pct",
        "p99_error_pct",
        "ks",
        "repeat_spread_pct",
        "p95_error_vs_mean_pct",
    ):
        assert getattr(row, missing) is None
    assert (row.utilisation, row.utilisation_source, row.mean_batch_real) == (None, None, None)


def test_utilisation_is_busy_instance_time_within_the_run(tmp_path):
    service = ServiceConfig(replicas=2, instances=2)  # 4 instances for 10 s
    log = batches_of((1.0, 2.0), (4.0, 6.0), (9.0, 12.0))  # 1 + 2 s, and 1 s of the last before the end
    real = a_run(tmp_path, "real", service=service, batches=log)
    row = compare(real, a_counterpart(tmp_path, "real", service=service, batches=batches_of((0, 10), size=4)))
    assert (row.utilisation, row.utilisation_source) == (0.1, "batches")
    assert row.utilisation_sim == 0.25
    assert (row.mean_batch_real, row.mean_batch_sim) == (2, 4)


def test_without_a_batch_log_tritons_counters_tell_utilisation(tmp_path):
    def at(time_s: float, endpoint: str, size: int, executions: float, compute_s: float) -> list:
        labels = {"model": "resnet50", "endpoint": endpoint, "batch_size": str(size)}
        time_ns = round(time_s * 1e9)
        return [
            (time_ns, "triton", "batch_executions", labels, executions, "count"),
            (time_ns, "triton", "batch_compute_seconds", labels, compute_s, "s"),
        ]

    rows = at(0, "a", 1, 10, 5.0)  # the warm-up, before the run
    rows += at(5, "a", 1, 12, 6.0) + at(5, "a", 4, 1, 0.5)  # size 4 was first executed within the run
    rows += at(10, "a", 1, 3, 0.25) + at(10, "a", 4, 2, 0.75)  # size 1 counts anew: the server was restarted
    rows += [(0, "triton", "nv_inference_count", {"model": "resnet50", "endpoint": "b"}, 0.0, "count")]
    rows += at(5, "b", 1, 1, 0.5) + at(10, "b", 1, 1, 0.5)  # b was there from the start and had run nothing
    real = a_run(tmp_path, "real", metrics=MetricLog.from_rows(rows))
    row = compare(real, a_counterpart(tmp_path, "real"))
    # a: (1 + .25) at size 1, (.5 + .25) at size 4; b: .5
    assert (row.utilisation, row.utilisation_source) == (0.25, "metrics")
    # executions: size 1: 2 + 3 + 1 = 6, size 4: 2
    assert row.mean_batch_real == pytest.approx((6 * 1 + 2 * 4) / 8)


def test_the_spread_of_repeats_is_their_range_over_their_mean(tmp_path):
    real = a_run(tmp_path, "real")
    repeats = [a_run(tmp_path, f"real-k{k}", LATENCY_S * factor, repeat=k) for k, factor in ((1, 1.1), (2, 0.9))]
    row = compare(real, a_counterpart(tmp_path, "real", LATENCY_S * 1.05), repeats)
    assert row.p95_repeats_ms == (95, 104.5, 85.5)
    assert row.repeat_spread_pct == 20  # (104.5 - 85.5) / 95
    assert row.p95_error_pct == 5
    assert row.p95_error_vs_mean_pct == 5  # the mean is 95 as well


def test_a_repeat_that_is_not_valid_does_not_widen_the_spread(tmp_path):
    real = a_run(tmp_path, "real")
    good = a_run(tmp_path, "real-k1", LATENCY_S * 1.1, repeat=1)
    bad = a_run(tmp_path, "real-k2", LATENCY_S * 3, repeat=2, verdict=INVALID)
    row = compare(real, a_counterpart(tmp_path, "real"), [good, bad])
    assert row.repeats == ("real", "real-k1")
    assert row.repeats_left_out == ("real-k2",)
    assert row.repeat_spread_pct == pytest.approx(100 * 9.5 / 99.75, abs=1e-4)


def test_an_interrupted_run_is_not_valid_and_says_why(tmp_path):
    row = compare(a_run(tmp_path, "real", state="interrupted"), a_counterpart(tmp_path, "real"))
    assert row.valid is False
    assert row.reasons == ("the run was interrupted",)


def test_a_run_without_a_verdict_is_neither_valid_nor_invalid(tmp_path):
    row = compare(a_run(tmp_path, "real", verdict=None), a_counterpart(tmp_path, "real"))
    assert row.valid is None


def test_other_arrivals_cannot_be_compared(tmp_path):
    real = a_run(tmp_path, "real")
    with pytest.raises(ReportError, match="real and real-sim have different schedules"):
        compare(real, a_counterpart(tmp_path, "real", arrivals_ns=ARRIVALS_NS + 1))


def test_another_service_cannot_be_compared(tmp_path):
    real = a_run(tmp_path, "real")
    with pytest.raises(ReportError, match="different service configurations"):
        compare(real, a_counterpart(tmp_path, "real", service=ServiceConfig(instances=2)))


def test_the_folder_finds_counterparts_and_repeats(tmp_path):
    for k in (0, 1, 2):
        a_run(tmp_path, f"real-k{k}", LATENCY_S * (1 + k / 10), repeat=k)
    a_run(tmp_path, "other-seed", seed=2)
    a_counterpart(tmp_path, "real-k0")
    comparison = compare_folder(tmp_path)
    assert [row.run_id for row in comparison.runs] == ["real-k0"]
    assert comparison.runs[0].repeats == ("real-k0", "real-k1", "real-k2")
    assert comparison.summary.not_compared == ("other-seed",)


def test_the_file_has_the_agreed_keys_in_order(tmp_path):
    a_run(tmp_path, "real")
    a_counterpart(tmp_path, "real")
    content = json.loads(compare_folder(tmp_path).text)
    agreed = (
        "run_id model device pattern configuration seed held_out valid requests utilisation p50_real_ms p50_sim_ms "
        "p95_real_ms p95_sim_ms p95_error_pct p99_error_pct ks repeat_spread_pct"
    )
    assert list(content) == ["runs", "summary"]
    assert list(content["runs"][0])[:18] == agreed.split()
    assert content["runs"][0]["utilisation"] is None


def test_only_valid_held_out_runs_count_in_the_summary(tmp_path):
    for name, factor, more in (
        ("a", 1.02, {}),
        ("b", 0.96, {}),
        ("c", 1.03, {}),
        ("late", 2.0, {"verdict": INVALID}),
        ("fitted", 1.5, {"held_out": False}),
    ):
        a_run(tmp_path, name, pattern=name, **more)
        a_counterpart(tmp_path, name, LATENCY_S * factor, pattern=name)
    summary = compare_folder(tmp_path).summary
    (group,) = summary.groups
    assert (group.runs, group.counted, group.invalid) == (5, 3, 1)
    assert group.left_out == {"invalid": 1, "not held out": 1} == summary.left_out
    assert group.median_abs_p95_error_pct == 3  # of 2, 4 and 3
    assert (group.worst_abs_p95_error_pct, group.worst_run_id) == (4, "b")
    assert group.median_repeat_spread_pct is None


def test_models_and_devices_are_summed_up_apart(tmp_path):
    for name, model in (("a", "resnet50"), ("b", "bert")):
        a_run(tmp_path, name, model=model)
        a_counterpart(tmp_path, name, model=model)
    assert [group.model for group in compare_folder(tmp_path).summary.groups] == ["bert", "resnet50"]


def test_recomputing_gives_the_same_file_and_names_what_was_changed(tmp_path):
    a_run(tmp_path, "real")
    a_counterpart(tmp_path, "real", LATENCY_S * 1.0314159)
    file = tmp_path / "comparison.json"
    file.write_text(compare_folder(tmp_path).text)
    assert recompute(tmp_path).text == file.read_text()
    file.write_text(file.read_text().replace('"p95_error_pct": 3.1416', '"p95_error_pct": 0.1'))
    with pytest.raises(ReportError, match=r"run real: p95_error_pct is 0\.1, its parquet files give 3\.1416"):
        recompute(tmp_path)


def test_recomputing_without_a_file_says_what_to_do(tmp_path):
    with pytest.raises(ReportError, match="kis report"):
        recompute(tmp_path)


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(ReportError, match="has no runs"):
        compare_folder(tmp_path)


def test_a_folder_without_simulated_runs(tmp_path):
    a_run(tmp_path, "real")
    with pytest.raises(ReportError, match="1 real and no simulated runs"):
        compare_folder(tmp_path)


def test_a_simulation_of_a_run_that_is_gone(tmp_path):
    a_counterpart(tmp_path, "gone")
    with pytest.raises(ReportError, match="simulates run gone, which is not in this folder"):
        compare_folder(tmp_path)


def test_two_simulations_of_one_run(tmp_path):
    a_run(tmp_path, "real")
    a_counterpart(tmp_path, "real")
    a_run(tmp_path, "again", kind="simulated", simulates="real")
    with pytest.raises(ReportError, match="both simulate run real"):
        compare_folder(tmp_path)


def test_a_run_that_never_ended(tmp_path):
    arrivals_s = ARRIVALS_NS / 1e9
    write_run(tmp_path / "runs", "real", ARRIVALS_NS, arrivals_s, state="running", verdict=VALID, device=CPU)
    a_counterpart(tmp_path, "real")
    with pytest.raises(ReportError, match="never ended"):
        compare_folder(tmp_path)


def test_a_run_that_was_fitted_on_is_not_held_out(tmp_path):
    a_run(tmp_path, "real")
    a_counterpart(tmp_path, "real")
    profile_of(RESNET_SERVICE, (1, 2), ("real",)).write(tmp_path / "profile-resnet50.json")
    with pytest.raises(ReportError, match=r"says held_out, but profile-resnet50.json was fitted on it"):
        compare_folder(tmp_path)


def test_an_emulated_model_has_no_target_of_the_catalog(tmp_path):
    of_cpu = compare(a_run(tmp_path, "cpu"), a_counterpart(tmp_path, "cpu"))
    emulated = {"model": "emulated", "device": EMULATED}
    waiting = compare(a_run(tmp_path, "waits", **emulated), a_counterpart(tmp_path, "waits", **emulated))
    assert of_cpu.target_p99_ms is not None
    assert waiting.target_p99_ms is None
