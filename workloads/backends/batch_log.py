"""The log that each model instance keeps of its batches; testbed/measurement/batch_log.py defines the record."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

# request_id, start_ns, end_ns (CLOCK_MONOTONIC), batch_size, position
RECORD = struct.Struct("<qqqii")
# start_ns, end_ns (CLOCK_MONOTONIC), batch_size; between CUDA events: copy_in_ns, network_ns, copy_out_ns
DEVICE_RECORD = struct.Struct("<qqqqqq")
NO_NUMBER = -1
_INT64_MAX = 2**63 - 1


def request_number(request_id: str) -> int:
    """The client's request id if it is a number of 64 bits, else -1."""
    if request_id.isascii() and request_id.isdigit() and int(request_id) <= _INT64_MAX:
        return int(request_id)
    return NO_NUMBER


class BatchWriter:
    """Appends one record a request to `<folder>/<instance>.bin`; without a folder it writes nothing."""

    def __init__(self, folder: str | None, instance: str) -> None:
        self._fd: int | None = None
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._fd = os.open(Path(folder) / f"{instance}.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, request_ids: Sequence[str], sizes: Sequence[int], start_ns: int, end_ns: int) -> None:
        """Log one batch: its requests in order, and how many rows each brought.

        One unbuffered write, so that a killed server leaves whole batches.
        """
        if self._fd is None:
            return
        batch_size, position, records = sum(sizes), 0, []
        for request_id, size in zip(request_ids, sizes, strict=True):
            records.append(RECORD.pack(request_number(request_id), start_ns, end_ns, batch_size, position))
            position += size
        os.write(self._fd, b"".join(records))


class DeviceLog:
    """Appends one record a batch on a GPU to `<folder>/<instance>.device`: what of its time the network took there."""

    def __init__(self, folder: str | None, instance: str) -> None:
        self._file = None if folder is None else Path(folder) / f"{instance}.device"
        self._fd: int | None = None

    def note_gpu(self, uuid: str) -> None:
        """Write which GPU the instance is on, as NVML names it, to `<folder>/<instance>.gpu`."""
        if self._file is not None:
            self._file.with_suffix(".gpu").write_text(uuid)

    def append(self, start_ns: int, end_ns: int, batch_size: int, times: tuple[int, int, int] | None) -> None:
        """times: copy_in_ns, network_ns, copy_out_ns; None: not known, nothing is written."""
        if self._file is None or times is None:
            return
        if self._fd is None:
            self._fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(self._fd, DEVICE_RECORD.pack(start_ns, end_ns, batch_size, *times))
