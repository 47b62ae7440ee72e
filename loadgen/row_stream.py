"""Rows of a run, streamed to disk while it goes on and merged when it is over.

Each client process appends to its own Arrow IPC stream, `raw/rows-<worker>.arrows`. The schedule is known, so the
file's space is reserved before the first request: a full disk is one clear error then, not a loss later. A batch of
rows becomes visible only when its first eight bytes are written, after all the others; so a kill leaves a file whose
tail is zeros, and zeros end an Arrow stream.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from loadgen.artifact import ArtifactError
from loadgen.request_log import SCHEMA, STATUSES, RequestLog
from loadgen.schedule import Schedule
from loadgen.validity import ClientFigures

FLUSH_S = 0.25
KILLED = "no answer recorded: the client was killed"
ROWS = pa.schema(
    [
        pa.field("request_id", pa.int64(), nullable=False),  # -1: a mark, sent_ns says up to when rows are complete
        pa.field("endpoint", pa.string()),
        pa.field("sent_ns", pa.int64()),
        pa.field("completed_ns", pa.int64()),
        pa.field("status", pa.int8(), nullable=False),  # place in STATUSES
        pa.field("detail", pa.string()),
    ]
)
_MARK = -1
_NULLABLE = {pa.int64(): pd.Int64Dtype()}
_ROW_BYTES, _BATCH_BYTES = 72, 1024  # a row without detail, and what each flush adds, rounded up
_PARQUET_ROW_BYTES = 48  # reserved as well, and given back at the end: requests.parquet is written then


class Row(NamedTuple):
    """What one client knows of one request; the fields are ROWS's columns."""

    request_id: int
    endpoint: str | None
    sent_ns: int | None
    completed_ns: int | None
    status: int
    detail: str | None


class RowStream:
    """The rows of one client process. `failure` says why if the disk refused some: they stay in memory."""

    def __init__(self, path: Path, expected_rows: int, expected_s: float) -> None:
        """Create the file and reserve its space; ArtifactError if the disk has too little."""
        self.failure: str | None = None
        self._path = path
        self._rows: list[Row] = []
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        reserve = (_ROW_BYTES + _PARQUET_ROW_BYTES) * expected_rows + _BATCH_BYTES * int(expected_s / FLUSH_S + 64)
        try:
            os.posix_fallocate(self._fd, 0, reserve)
            self._end = 0
            self._append(ROWS.serialize().to_pybytes())
        except OSError as error:
            os.close(self._fd)
            path.unlink()
            raise ArtifactError(
                f"{path.parent}: {error.strerror}: the rows of {expected_rows} requests need {reserve / 1e6:.1f} MB: "
                "free some space, or choose another run folder"
            ) from None

    def append(self, row: Row) -> None:
        """Take one row; it is on disk after the next flush."""
        self._rows.append(row)

    def flush(self, now_ns: int) -> None:
        """Write what was taken, and a mark that rows are complete up to `now_ns` on the run clock."""
        rows = [*self._rows, Row(_MARK, None, now_ns, None, 0, None)]
        try:
            self._append(_encode(rows))
        except OSError as error:
            self.failure = f"{self._path.name}: {error.strerror}"
        else:
            self._rows.clear()

    def close(self, now_ns: int) -> None:
        """Flush, and give back the space that was reserved but not used."""
        self.flush(now_ns)
        if self._rows:  # the disk refused: what matters most still has a chance without its explanations
            with contextlib.suppress(OSError):
                self._append(_encode([row._replace(detail=None) for row in self._rows]))
                self._rows.clear()
        os.ftruncate(self._fd, self._end)
        os.close(self._fd)

    def _append(self, message: bytes) -> None:
        _write_all(self._fd, message[8:], self._end + 8)
        _write_all(self._fd, message[:8], self._end)
        self._end += len(message)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def _encode(rows: list[Row]) -> bytes:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ROWS, strict=True)]
    message: bytes = pa.RecordBatch.from_arrays(arrays, schema=ROWS).serialize().to_pybytes()
    return message


class RowTail:
    """The rows of one file as they come: what was read once is not read again.

    complete_ns: the instant (run clock) up to which they are complete; -1 before the first mark.
    """

    def __init__(self, path: Path) -> None:
        self.complete_ns = -1
        self._path, self._offset = path, 0

    def read(self) -> pd.DataFrame:
        """Rows since the last call, up to the file's last whole batch; none of a file without a whole schema."""
        batches: list[pa.RecordBatch] = []
        with pa.OSFile(str(self._path)) as file, contextlib.suppress(pa.ArrowInvalid, OSError, EOFError):
            file.seek(self._offset)
            while True:
                message = pa.ipc.read_message(file)
                if message.type == "record batch":
                    batch = pa.ipc.read_record_batch(message, ROWS)
                    batch.validate(full=True)  # Arrow believes what a damaged file says of lengths
                    batches.append(batch)
                self._offset = file.tell()
        frame: pd.DataFrame = pa.Table.from_batches(batches, schema=ROWS).to_pandas(types_mapper=_NULLABLE.get)
        marks = frame["request_id"] == _MARK
        if marks.any():
            self.complete_ns = int(frame.loc[marks, "sent_ns"].max())
        return frame[~marks]


def read_rows(path: Path) -> tuple[pd.DataFrame, int]:
    """Rows of one file up to its last whole batch, and the instant (run clock, ns) up to which they are complete.

    A tail that is cut off or zero is left out; a file without a whole schema has no rows, complete up to -1.
    """
    tail = RowTail(path)
    return tail.read(), tail.complete_ns


def collect_rows(raw: Path, schedule: Schedule, clients: tuple[ClientFigures, ...]) -> RequestLog:
    """Merge the files of all workers: every scheduled request has exactly one row.

    A request without a row is `unsent` if its client ended properly or was killed before the request's time, and
    `error` if its client was killed after it: then nobody knows what became of it.
    """
    frame = pd.DataFrame(
        {
            "request_id": pd.array(range(len(schedule)), dtype="Int64"),
            "model": schedule.model,
            "scheduled_ns": pd.array(schedule.scheduled_ns, dtype="Int64"),
        }
    )
    files = [(client, *read_rows(raw / f"rows-{client.worker}.arrows")) for client in clients if client.rows_exist(raw)]
    rows = pd.concat([rows for _, rows, _ in files], ignore_index=True) if files else _no_rows()
    frame = frame.merge(rows.drop_duplicates("request_id", keep="last"), on="request_id", how="left", sort=True)
    missing = frame["status"].isna()
    frame["status"] = frame["status"].map(dict(enumerate(STATUSES))).astype(object).where(~missing, "unsent")
    for client, _, complete_ns in files:
        if not client.finished:
            share = frame["request_id"] % client.workers == client.worker
            lost = missing & share & (frame["scheduled_ns"] < complete_ns)
            frame.loc[lost, "status"], frame.loc[lost, "detail"] = "error", KILLED
    reasons = "; ".join(sorted({client.stopped for client in clients if client.stopped}))
    frame.loc[frame["status"] == "unsent", "detail"] = reasons or "the run ended before its time"
    # Through Arrow, so that the log has the very types that it will have when it is read from its file.
    table = pa.Table.from_pandas(frame[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    return RequestLog(table.to_pandas(types_mapper=_NULLABLE.get))


def _no_rows() -> pd.DataFrame:
    empty: pd.DataFrame = ROWS.empty_table().to_pandas(types_mapper=_NULLABLE.get)
    return empty
