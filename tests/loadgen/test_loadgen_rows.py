from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from loadgen.artifact import ArtifactError
from loadgen.request_log import SCHEMA, STATUSES, RequestLog
from loadgen.row_stream import KILLED, Row, RowStream, RowTail, collect_rows, read_rows
from loadgen.schedule import Schedule
from loadgen.validity import ClientFigures

OK, ERROR = STATUSES.index("ok"), STATUSES.index("error")
MS = 1_000_000


def schedule_of(n: int) -> Schedule:
    """One request each 10 ms."""
    return Schedule(np.arange(n) * 10 * MS, np.full(n, "toy", dtype=object), n / 100)


def client(worker: int = 0, workers: int = 1, **figures) -> ClientFigures:
    return ClientFigures(worker=worker, workers=workers, pid=1, start_unix_ns=5, start_monotonic_ns=6, **figures)


def answered(request_id: int) -> Row:
    at = request_id * 10 * MS
    return Row(request_id, "a:1", at + 1000, at + 5 * MS, OK, None)


def test_what_was_flushed_is_read_back_and_the_reserved_space_is_given_back(tmp_path):
    path = tmp_path / "rows-0.arrows"
    rows = RowStream(path, expected_rows=10_000, expected_s=60)
    assert path.stat().st_blocks * 512 > 1_000_000  # really there, not a hole
    for i in range(3):
        rows.append(answered(i))
    rows.append(Row(3, None, None, None, ERROR, "no endpoint was ready"))
    rows.close(now_ns=77)
    frame, complete_ns = read_rows(path)
    assert frame["request_id"].tolist() == [0, 1, 2, 3]
    assert frame["sent_ns"].isna().tolist() == [False, False, False, True]
    assert frame["detail"].iloc[3] == "no endpoint was ready"
    assert complete_ns == 77
    assert path.stat().st_size < 5_000


@pytest.mark.parametrize("cut", ["zeros", "short", "half written"])
def test_a_file_left_by_a_kill_keeps_its_whole_batches(tmp_path, cut):
    path = tmp_path / "rows-0.arrows"
    rows = RowStream(path, expected_rows=100, expected_s=1)
    rows.append(answered(0))
    rows.flush(now_ns=10 * MS)
    whole = rows._end
    rows.append(answered(1))
    rows.flush(now_ns=20 * MS)
    content = path.read_bytes()
    if cut == "zeros":  # killed before the second flush: the reserved space follows
        content = content[:whole] + bytes(len(content) - whole)
    elif cut == "short":
        content = content[: whole + 100]
    else:  # killed inside the second flush: its first eight bytes come last
        content = content[:whole] + bytes(8) + content[whole + 8 :]
    path.write_bytes(content)
    frame, complete_ns = read_rows(path)
    assert frame["request_id"].tolist() == [0]
    assert complete_ns == 10 * MS


def test_a_kill_in_the_middle_of_a_write_leaves_no_half_batch(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    path = tmp_path / "rows-0.arrows"
    rows = RowStream(path, expected_rows=100, expected_s=1)
    rows.append(answered(0))
    rows.flush(now_ns=10 * MS)
    pwrite = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        pwrite(fd, data[: len(data) * 3 // 4], offset)
        raise Killed

    monkeypatch.setattr(os, "pwrite", half)
    for i in range(1, 9):
        rows.append(answered(i))
    with pytest.raises(Killed):
        rows.flush(now_ns=90 * MS)
    frame, complete_ns = read_rows(path)
    assert frame["request_id"].tolist() == [0]
    assert complete_ns == 10 * MS


def test_a_file_of_a_client_that_wrote_nothing_has_no_rows(tmp_path):
    (tmp_path / "rows-0.arrows").write_bytes(bytes(4096))
    frame, complete_ns = read_rows(tmp_path / "rows-0.arrows")
    assert len(frame) == 0
    assert complete_ns == -1


def test_the_files_of_all_workers_become_one_log_with_a_row_for_every_request(tmp_path):
    for worker in (0, 1):
        rows = RowStream(tmp_path / f"rows-{worker}.arrows", 5, 1)
        for i in (3, 1) if worker else (4, 0, 2):  # in order of their ends, not of their times
            rows.append(answered(i))
        rows.close(now_ns=100 * MS)
    log = collect_rows(tmp_path, schedule_of(6), (client(0, 2, finished=True), client(1, 2, finished=True)))
    assert log.frame.columns.tolist() == SCHEMA.names
    assert log.frame["request_id"].tolist() == [0, 1, 2, 3, 4, 5]
    assert log.frame["scheduled_ns"].tolist() == schedule_of(6).scheduled_ns.tolist()
    assert log.frame["status"].tolist() == ["ok"] * 5 + ["unsent"]
    assert log.latency_s[:5] == pytest.approx(0.005)
    log.write(tmp_path / "requests.parquet")
    assert RequestLog.read(tmp_path / "requests.parquet").frame.equals(log.frame)


def test_a_killed_client_leaves_errors_up_to_its_last_flush_and_unsent_requests_after_it(tmp_path):
    rows = RowStream(tmp_path / "rows-0.arrows", 10, 1)
    rows.append(answered(0))
    rows.append(answered(2))
    rows.flush(now_ns=45 * MS)  # requests 1, 3 and 4 were due by then, and have no answer
    log = collect_rows(tmp_path, schedule_of(8), (client(),))
    assert log.frame["status"].tolist() == ["ok", "error", "ok", "error", "error", "unsent", "unsent", "unsent"]
    assert set(log.frame["detail"][log.frame["status"] == "error"]) == {KILLED}
    assert log.frame["endpoint"].isna().tolist() == [False, True, False, True, True, True, True, True]


def test_only_the_killed_workers_share_is_lost(tmp_path):
    finished = RowStream(tmp_path / "rows-0.arrows", 10, 1)
    for i in (0, 2):
        finished.append(answered(i))
    finished.close(now_ns=30 * MS)
    RowStream(tmp_path / "rows-1.arrows", 10, 1).flush(now_ns=35 * MS)
    clients = (client(0, 2, finished=True, stopped="interrupted"), client(1, 2))
    log = collect_rows(tmp_path, schedule_of(6), clients)
    assert log.frame["status"].tolist() == ["ok", "error", "ok", "error", "unsent", "unsent"]
    assert log.frame["detail"].iloc[4] == "interrupted"


def test_without_any_client_nothing_was_sent(tmp_path):
    assert collect_rows(tmp_path, schedule_of(3), ()).counts()["unsent"] == 3


def test_a_disk_that_is_full_from_the_start_is_one_error_and_leaves_no_file(tmp_path, monkeypatch):
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ArtifactError, match=r"No space left on device: the rows of 1000 requests need .* MB"):
        RowStream(tmp_path / "rows-0.arrows", 1000, 10)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_the_disk_refuses_stay_in_memory_and_are_written_when_it_has_room_again(tmp_path, monkeypatch):
    path = tmp_path / "rows-0.arrows"
    rows = RowStream(path, 10, 1)
    rows.append(answered(0))
    rows.flush(now_ns=10 * MS)

    def refuse(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", refuse)
        rows.append(answered(1))
        rows.flush(now_ns=20 * MS)
    assert rows.failure == "rows-0.arrows: No space left on device"
    assert read_rows(path)[0]["request_id"].tolist() == [0]
    rows.append(answered(2))
    rows.close(now_ns=30 * MS)
    assert read_rows(path)[0]["request_id"].tolist() == [0, 1, 2]


def test_a_write_that_the_system_cuts_short_is_continued(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7], offset))
    rows = RowStream(tmp_path / "rows-0.arrows", 10, 1)
    rows.append(answered(4))
    rows.close(now_ns=1)
    assert read_rows(tmp_path / "rows-0.arrows")[0]["request_id"].tolist() == [4]


def test_a_tail_gives_each_row_once_and_waits_for_a_batch_that_is_half_written(tmp_path):
    file = tmp_path / "rows-0.arrows"
    stream, tail = RowStream(file, 10, 1.0), RowTail(file)
    assert (len(tail.read()), tail.complete_ns) == (0, -1)
    stream.append(Row(0, "a", 1, 2, 0, None))
    stream.flush(5)
    assert (tail.read()["request_id"].tolist(), tail.complete_ns) == ([0], 5)
    assert len(tail.read()) == 0
    stream.append(Row(1, "a", 6, None, 2, "late"))
    stream.close(9)
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    assert (len(tail.read()), tail.complete_ns) == (0, 5)
    file.write_bytes(whole)
    assert (tail.read()["request_id"].tolist(), tail.complete_ns) == ([1], 9)
