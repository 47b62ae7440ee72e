"""A results folder that is archived and unpacked has the runs that it had."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from loadgen.artifact import ArtifactError, write_table
from loadgen.lengths import all_of
from loadgen.request_log import SCHEMA, RequestLog
from loadgen.request_rows import with_rows
from loadgen.schedule import Schedule
from testbed.archive.folder import FILES, has_archive, unpack, unpack_logs, write_archive
from testbed.archive.requests import decode_schedules, encode_schedules
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.latency_histogram import BINS
from testbed.measurement.metric_log import MetricLog
from testbed.measurement.scaling_log import COST, COUNTS, ScalingLog, scaling_frame
from testbed.reporting.evaluation import row_of
from testbed.run_dir import Device, RunDir, RunManifest
from tests.reporting.synthetic_runs import write_run
from workloads.catalog import ServiceConfig

HALF_UNIT = 500  # ns, of the default
NOTHING = pd.NA


def schedule(times_ns: list[int], model: str = "m") -> Schedule:
    provenance = {"pattern": "constant", "seed": 3}
    return Schedule(np.array(times_ns), np.full(len(times_ns), model, dtype=object), 1.5, provenance)


def log_of(arrivals: Schedule, answers: list[tuple[str | None, int | None, int | None, str, str | None]]) -> RequestLog:
    endpoint, sent, completed, status, detail = zip(*answers, strict=True)
    frame = pd.DataFrame(
        {
            "request_id": pd.array(np.arange(len(arrivals)), dtype="Int64"),
            "model": arrivals.model,
            "endpoint": endpoint,
            "scheduled_ns": pd.array(arrivals.scheduled_ns, dtype="Int64"),
            "sent_ns": pd.array([NOTHING if x is None else x for x in sent], dtype="Int64"),
            "completed_ns": pd.array([NOTHING if x is None else x for x in completed], dtype="Int64"),
            "status": status,
            "detail": detail,
        }
    )
    return RequestLog(frame[SCHEMA.names], {"interrupted": False})


def manifest(run_id: str, kind: str = "real", state: str = "complete") -> RunManifest:
    return RunManifest.model_validate(
        {
            **{"run_id": run_id, "kind": kind, "state": state, "model": "m", "weights": "none", "pattern": "constant"},
            **{"device": Device(kind="emulated", name="x"), "service": ServiceConfig(), "seed": 3, "duration_s": 1.5},
        }
    )


def make_run(folder: Path, run_id: str, arrivals: Schedule, log: RequestLog) -> RunDir:
    run = RunDir(folder / "runs" / run_id).create()
    arrivals.write(run.schedule)
    log.write(run.requests)
    (run.path / "decisions.json").write_text('[{"time_s": 1.0}]\n')
    run.write_manifest(manifest(run_id))
    return run


def every_outcome(arrivals: Schedule) -> RequestLog:
    rows = [
        ("pod-a", 1_000_040_123, 1_007_000_456, "ok", None),
        ("pod-b", 1_000_090_999, 1_009_000_001, "ok", None),
        ("pod-a", 1_002_000_000, None, "timeout", "no answer in 5 s"),
        ("pod-a", 1_003_000_111, 1_007_030_777, "ok", None),
        (None, None, None, "dropped", "64 in flight"),
    ]
    return log_of(arrivals, rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    arrivals = schedule([1_000_000_000, 1_000_000_000, 1_001_000_000, 1_003_000_000, 1_004_000_000])
    for run_id in ("first", "second"):
        run = make_run(tmp_path, run_id, arrivals, every_outcome(arrivals))
        rows = [(3, 1, 0, 2_000_000_111, 2_007_000_222, 2, k) for k in range(2)]
        rows = [(0, 0, 0, 1_000_200_000, 1_006_900_400, 1, 0), *rows]
        names = ["request_id", "replica", "instance", "start_ns", "end_ns", "batch_size", "position"]
        BatchLog(pd.DataFrame(rows, columns=names).astype("int64"), {"backend": "python"}).write(run.batches)
        samples = [
            (k * 500_000_123, "triton", "batch_compute_seconds", {"endpoint": "e", "batch_size": "1"}, k / 3, "s")
            for k in range(8)
        ]
        samples += [
            (k * 500_000_123, "triton", "nv_inference_count", {"endpoint": "e"}, 7.0 * k, "count") for k in range(8)
        ]
        samples += [(k * 500_000_123, "process", "cpu_seconds", {"role": "machine"}, 0.01 * k, "s") for k in range(8)]
        MetricLog.from_rows(samples, {"missed": 0}).write(run.metrics)
    return tmp_path


def unpacked(folder: Path, **settings: int) -> Path:
    """The folder after its runs went, and came back from the archive; what they were lies in kept/."""
    write_archive(folder, **settings)
    (folder / "runs").rename(folder / "kept")
    assert [path.name for path in unpack(folder)] == ["first", "second"]
    return folder


def test_requests_come_back_to_the_nearest_microsecond(folder: Path) -> None:
    unpacked(folder)
    before, after = (RequestLog.read(folder / where / "second" / "requests.parquet") for where in ("kept", "runs"))
    for name in ("sent_ns", "completed_ns"):
        assert before.frame[name].isna().equals(after.frame[name].isna())
        assert (before.frame[name] - after.frame[name]).abs().max() <= HALF_UNIT
    rest = ["request_id", "model", "endpoint", "scheduled_ns", "status", "detail"]
    pd.testing.assert_frame_equal(before.frame[rest], after.frame[rest])
    assert before.provenance == after.provenance


def test_arrivals_come_back_exactly_and_are_kept_once(folder: Path) -> None:
    unpacked(folder)
    before, after = (Schedule.read(folder / where / "first" / "schedule.parquet") for where in ("kept", "runs"))
    assert before.scheduled_ns.tolist() == after.scheduled_ns.tolist()
    assert (before.duration_s, before.provenance) == (after.duration_s, after.provenance)
    assert len(pd.read_parquet(folder / "archive" / "schedules.parquet")) == len(before)


def test_arrivals_between_microseconds_are_exact_too(tmp_path: Path) -> None:
    arrivals = schedule([1, 1_234_567])
    log = log_of(arrivals, [("a", 100, 2000, "ok", None), ("a", 1_300_000, 1_400_000, "ok", None)])
    make_run(tmp_path, "bursts", arrivals, log)
    write_archive(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    (path,) = unpack(tmp_path)
    assert Schedule.read(path / "schedule.parquet").scheduled_ns.tolist() == [1, 1_234_567]


def test_batches_come_back_to_the_nearest_microsecond(folder: Path) -> None:
    unpacked(folder)
    before, after = (BatchLog.read(folder / where / "first" / "batches.parquet") for where in ("kept", "runs"))
    assert (before.frame - after.frame).abs().max().max() <= HALF_UNIT
    same = ["request_id", "replica", "instance", "batch_size", "position"]
    pd.testing.assert_frame_equal(before.frame[same], after.frame[same])


def test_metrics_come_back_with_their_values_exactly(folder: Path) -> None:
    unpacked(folder)
    before, after = (MetricLog.read(folder / where / "first" / "metrics.parquet") for where in ("kept", "runs"))
    for source, name in (("triton", "batch_compute_seconds"), ("process", "cpu_seconds")):
        a, b = before.select(source, name), after.select(source, name)
        assert a["value"].tolist() == b["value"].tolist()
        assert (a["time_ns"].to_numpy() - b["time_ns"].to_numpy()).max() <= HALF_UNIT
        assert a["labels"].tolist() == b["labels"].tolist()


def test_fewer_readings_of_counters_keep_their_increase(folder: Path) -> None:
    unpacked(folder, keep_every=3)
    before, after = (MetricLog.read(folder / where / "first" / "metrics.parquet") for where in ("kept", "runs"))
    assert len(after.select("triton", "batch_compute_seconds")) == 4  # of 8: the first, each third, the last
    increase = [
        log.select("triton", "batch_compute_seconds")["value"].iloc[[0, -1]].tolist() for log in (before, after)
    ]
    assert increase[0] == increase[1]
    assert len(after.select("process", "cpu_seconds")) == 8


def test_other_files_come_back_as_they_were(folder: Path) -> None:
    unpacked(folder)
    for name in ("run.json", "decisions.json"):
        assert (folder / "runs" / "first" / name).read_text() == (folder / "kept" / "first" / name).read_text()


def test_an_archive_of_what_was_unpacked_is_the_same(folder: Path) -> None:
    unpacked(folder)
    before = {file.name: file.read_bytes() for file in (folder / "archive").iterdir()}
    write_archive(folder)
    assert {file.name: file.read_bytes() for file in (folder / "archive").iterdir()} == before


def test_a_run_that_is_there_is_left_alone(folder: Path) -> None:
    write_archive(folder)
    shutil.rmtree(folder / "runs" / "first")
    (folder / "runs" / "second" / "decisions.json").write_text("mine\n")
    assert [path.name for path in unpack(folder)] == ["first"]
    assert (folder / "runs" / "second" / "decisions.json").read_text() == "mine\n"


def test_requests_that_are_not_of_their_schedule_are_refused(folder: Path) -> None:
    schedule([1, 2, 3, 4, 5]).write(folder / "runs" / "first" / "schedule.parquet")
    with pytest.raises(ArtifactError, match=r"run first: requests\.parquet is not of its schedule\.parquet"):
        write_archive(folder)
    assert not has_archive(folder)


@pytest.mark.parametrize("money", [{}, {COST: 2_500_000}])
def test_logs_of_an_evaluation_come_back_with_all_that_rows_are_computed_from(
    money: dict[str, int], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    runs = []
    for seed in (7, 8):
        histogram = np.zeros(BINS, dtype=np.int64)
        histogram[2000:2400] = rng.integers(0, 50, 400)
        counts = dict.fromkeys((*COUNTS, "asked", "ready", "changes", "gpu_us"), 10 * seed)
        rows: list[dict[str, int | None]] = [{"time_ns": k, **counts, "energy_mj": None, **money} for k in range(1, 4)]
        runs.append(scaling_frame(seed, rows, histogram))
    log = ScalingLog(pd.concat(runs, ignore_index=True), {"policy": {"kind": "hpa"}})
    file = tmp_path / "logs" / "ramp" / "hpa.parquet"
    file.parent.mkdir(parents=True)
    log.write(file)
    log = ScalingLog.read(file)
    write_archive(tmp_path)
    shutil.rmtree(tmp_path / "logs")
    unpack_logs(tmp_path)
    again = ScalingLog.read(file)
    assert (again.provenance, again.seeds) == (log.provenance, [7, 8])
    pd.testing.assert_frame_equal(again.run(7), log.run(7))
    assert len(again.run(8)) == 1
    assert row_of("ramp", "hpa", 8, again.run(8), "x").get("cost") == (2.5 if money else None)
    assert row_of("ramp", "hpa", 8, again.run(8), "x") == row_of("ramp", "hpa", 8, log.run(8), "x")


def test_a_folder_with_simulated_runs_alone_is_refused(folder: Path) -> None:
    for run_id in ("first", "second"):
        RunDir(folder / "runs" / run_id).write_manifest(manifest(run_id, kind="simulated"))
    with pytest.raises(ArtifactError, match="has no real runs"):
        write_archive(folder)


@pytest.mark.parametrize("run", ["../elsewhere", "/tmp/elsewhere", "a/b", ""])
def test_an_archive_that_would_write_elsewhere_is_refused(folder: Path, run: str) -> None:
    write_archive(folder)
    columns = [pa.array([one], pa.string()) for one in (run, "run.json", manifest("x").model_dump_json())]
    table = pa.Table.from_arrays(columns, schema=FILES)
    write_table(folder / "archive" / "files.parquet", table, "archive_files", 1, {})
    with pytest.raises(ArtifactError, match="not one that `kis archive` wrote"):
        unpack(folder)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has no runs that ended"):
        write_archive(tmp_path)


def test_lengths_are_kept_and_runs_that_differ_in_them_alone_stay_apart() -> None:
    plain = schedule([1_000, 2_000])
    kept = {"plain": plain, "short": all_of(plain, 16), "long": all_of(plain, 128), "again": all_of(plain, 16)}
    coded = encode_schedules(kept)
    assert coded.table.num_rows == 3 * 2  # the same requests are there once
    back = decode_schedules(coded)
    for run, before in kept.items():
        assert back[run].same_requests(before), run
    assert not back["short"].same_requests(back["long"])
    assert not back["plain"].same_requests(back["long"])
    assert "tokens" not in encode_schedules({"plain": plain}).table.column_names


def test_rows_of_requests_are_kept() -> None:
    plain = schedule([1_000, 2_000])
    kept = {"plain": plain, "four": with_rows(plain, {4: 1.0}, 0), "both": all_of(with_rows(plain, {2: 1.0}, 0), 16)}
    back = decode_schedules(encode_schedules(kept))
    for run, before in kept.items():
        assert back[run].same_requests(before), run


def test_an_archive_tells_how_far_it_is(tmp_path: Path) -> None:
    arrivals = np.arange(1, 41, dtype=np.int64) * 50_000_000
    write_run(tmp_path / "runs", "one", arrivals, arrivals / 1e9 + 0.1)
    told: list[float] = []
    write_archive(tmp_path, on_progress=told.append)
    assert told == sorted(told)
    assert len(told) >= 3
    assert told[-1] == 1.0
