"""Batch logs of backends, as files written by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.artifact import ArtifactError
from loadgen.request_log import RequestLog
from testbed.measurement.batch_files import read_batch_files, without_foreign
from testbed.measurement.batch_log import RECORD, BatchLog

START = 1_000


def write(folder, name, records):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(np.array(records, RECORD).tobytes())
    return file


@pytest.fixture
def folder(tmp_path):
    """Two replicas; the first has two instances, and ran a warm-up (no number) before the start."""
    write(
        tmp_path, "replica-0/resnet50_0_0.bin", [(-1, 500, 900, 1, 0), (7, 1_400, 1_500, 2, 0), (8, 1_400, 1_500, 2, 1)]
    )
    write(tmp_path, "replica-0/resnet50_0_1.bin", [(9, 1_300, 1_450, 1, 0)])
    write(tmp_path, "replica-11/resnet50_0_0.bin", [(-1, 1_350, 1_390, 1, 0), (10, 1_400, 1_600, 1, 0)])
    return tmp_path


COLUMNS = ["request_id", "replica", "instance", "start_ns", "end_ns", "batch_size", "position"]


def test_rows_of_all_instances_on_the_run_clock_in_the_order_of_their_start(folder):
    frame = read_batch_files(folder, START).frame
    assert list(frame.columns) == COLUMNS
    assert frame.to_numpy().tolist() == [
        [-1, 0, 0, -500, -100, 1, 0],
        [9, 0, 1, 300, 450, 1, 0],
        [-1, 11, 0, 350, 390, 1, 0],
        [7, 0, 0, 400, 500, 2, 0],
        [8, 0, 0, 400, 500, 2, 1],
        [10, 11, 0, 400, 600, 1, 0],
    ]


def test_warm_up_and_numberless_requests_go_only_when_asked(folder):
    assert read_batch_files(folder, START, measured_only=True).frame["request_id"].tolist() == [9, 7, 8, 10]


def test_it_is_a_batch_log_that_can_be_written_and_read(folder, tmp_path):
    log = read_batch_files(folder, START)
    log.write(tmp_path / "batches.parquet")
    assert BatchLog.read(tmp_path / "batches.parquet").frame.equals(log.frame)


def test_no_files_give_an_empty_log_that_can_be_written(tmp_path):
    log = read_batch_files(tmp_path, START)
    assert len(log.frame) == 0
    log.write(tmp_path / "batches.parquet")


@given(whole=st.integers(0, 5), extra=st.integers(0, RECORD.itemsize - 1))
def test_a_record_cut_short_by_a_kill_is_left_out_and_no_other(tmp_path_factory, whole, extra):
    folder = tmp_path_factory.mktemp("batches")
    file = write(folder, "0/m_0_0.bin", [(k, START + k, START + k + 1, 1, 0) for k in range(6)])
    file.write_bytes(file.read_bytes()[: whole * RECORD.itemsize + extra])
    assert read_batch_files(folder, START).frame["request_id"].tolist() == list(range(whole))


@pytest.mark.parametrize(
    ("name", "says"),
    [("0/resnet50.bin", "'resnet50' names no instance"), ("first/m_0_0.bin", "'first' names no replica")],
)
def test_a_misnamed_file_is_refused(tmp_path, name, says):
    write(tmp_path, name, [])
    with pytest.raises(ArtifactError, match=says):
        read_batch_files(tmp_path, START)


def test_two_models_in_one_replica_are_not_mixed(tmp_path):
    write(tmp_path, "0/bert_0_0.bin", [])
    write(tmp_path, "replica-0/resnet50_0_0.bin", [])
    with pytest.raises(ArtifactError, match="another file of instance 0"):
        read_batch_files(tmp_path, START)


def test_requests_of_another_client_are_told_apart():
    """As when the client of an earlier run goes on sending to the port that the server got."""
    rows = [  # request_id, start_ns, end_ns
        (0, 110, 150),  # ours
        (1, 120, 190),  # ours, in flight when the client gave up: no answer
        (3, 130, 160),  # ran before it was sent
        (3, 310, 350),  # ours
        (2, 205, 290),  # ran until after it was answered
        (0, 400, 450),  # ours has run already
        (9, 410, 460),  # not in the log
    ]
    frame = pd.DataFrame([(i, 0, 0, start, end, 1, 0) for i, start, end in rows], columns=COLUMNS)
    sent = pd.array([100, 105, 200, 300], dtype="Int64")
    completed = pd.array([160, None, 280, 360], dtype="Int64")
    status = ["ok", "timeout", "ok", "ok"]
    log = RequestLog(
        pd.DataFrame({"request_id": range(4), "sent_ns": sent, "completed_ns": completed, "status": status})
    )
    kept, foreign = without_foreign(BatchLog(frame), log)
    assert kept.frame[["request_id", "start_ns"]].to_numpy().tolist() == [[0, 110], [1, 120], [3, 310]]
    assert foreign == 4
