"""Artefacts: read back as they were written, equal bytes for equal content, and one line for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadgen.artifact import ArtifactError, read_table, write_table
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.measurement.metric_log import MetricLog
from testbed.run_dir import RunDir

TABLE = pa.table({"n": pa.array([3, 1, 2], pa.int64()), "name": ["a", None, "b"]})


def three_requests() -> RequestLog:
    frame = pd.DataFrame(
        {
            "request_id": [0, 1, 2],
            "model": "m",
            "endpoint": ["127.0.0.1:1", "127.0.0.1:1", None],
            "scheduled_ns": [0, 1_000_000, 2_000_000],
            "sent_ns": pd.array([10_000, 1_020_000, None], dtype="Int64"),
            "completed_ns": pd.array([5_000_000, None, None], dtype="Int64"),
            "status": ["ok", "timeout", "unsent"],
            "detail": [None, "no answer within 2 s", None],
        }
    )
    return RequestLog(frame, {"by": "hand"})


def test_a_request_log_comes_back_with_what_is_missing_still_missing(tmp_path: Path) -> None:
    three_requests().write(tmp_path / "requests.parquet")
    log = RequestLog.read(tmp_path / "requests.parquet")
    assert log.counts() == {"ok": 1, "error": 0, "timeout": 1, "dropped": 0, "unsent": 1}
    assert log.latency_s[0] == pytest.approx(0.005)  # from the scheduled time, not from the sent one
    assert np.isnan(log.latency_s[1:]).all()
    assert log.lag_s[:2] == pytest.approx([10e-6, 20e-6])
    assert np.isnan(log.lag_s[2])
    assert log.provenance == {"by": "hand"}


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / name, TABLE, "thing", 1, {"z": 1, "a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert not list(tmp_path.glob("*.writing*"))


def test_what_cannot_be_read_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "thing.parquet"
    with pytest.raises(ArtifactError, match=r"thing\.parquet does not exist"):
        read_table(file, "thing", 1)
    file.write_bytes(b"not parquet")
    with pytest.raises(ArtifactError, match="not a readable parquet file"):
        read_table(file, "thing", 1)
    pq.write_table(TABLE, file)
    with pytest.raises(ArtifactError, match="without a kis header"):
        read_table(file, "thing", 1)
    write_table(file, TABLE, "thing", 2, {})
    with pytest.raises(ArtifactError, match="schema version 2, this kis reads 1: make the run again"):
        read_table(file, "thing", 1)
    with pytest.raises(ArtifactError, match="holds a thing, not a request_log"):
        RequestLog.read(file)


def test_a_schedule_must_be_in_order() -> None:
    with pytest.raises(ArtifactError, match="ascending"):
        Schedule(np.array([2, 1]), np.array(["m", "m"], dtype=object), 1.0)
    with pytest.raises(ArtifactError, match="2 times has 1 models"):
        Schedule(np.array([1, 2]), np.array(["m"], dtype=object), 1.0)


def test_metrics_are_selected_by_their_labels() -> None:
    rows = [
        (2, "triton", "batch_executions", {"endpoint": "a", "batch_size": "1"}, 5.0, "count"),
        (1, "triton", "batch_executions", {"endpoint": "b", "batch_size": "1"}, 3.0, "count"),
        (1, "process", "cpu_seconds", {"role": "machine"}, 1.0, "s"),
    ]
    log = MetricLog.from_rows(rows)
    assert log.frame["time_ns"].tolist() == [1, 1, 2]
    assert log.select("triton", "batch_executions", endpoint="a")["value"].tolist() == [5.0]
    assert log.select("triton", "batch_executions", gpu="0").empty
    assert log.select("nvml", "power").empty


def test_a_folder_without_a_run_and_a_manifest_with_a_foreign_key_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is not a run folder: it has no run\.json"):
        _ = RunDir(tmp_path).manifest
    (tmp_path / "run.json").write_text('{"run_id": "x", "colour": "red"}')
    with pytest.raises(ArtifactError, match="make the run again") as error:
        _ = RunDir(tmp_path).manifest
    assert "\n" not in str(error.value)
    with pytest.raises(ArtifactError, match="already holds a run"):
        RunDir(tmp_path).create()
