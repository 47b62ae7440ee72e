"""Readings on disk as they come: one JSON line a reading, so that a kill loses at most the line being written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadgen.artifact import ArtifactError
from testbed.measurement.metric_log import MetricRow, Sample, are_labels
from workloads.files import parse_json


class SampleStream:
    """Appends readings to a file. What a full disk refuses waits in memory, and is tried again with the next one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.failure: str | None = None  # the first refusal
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._whole_bytes = 0  # length of the file up to its last whole line
        self._waiting = b""

    def append(self, monotonic_ns: int, samples: Sequence[Sample]) -> None:
        """Write one reading taken at `monotonic_ns`."""
        self._waiting += json.dumps([monotonic_ns, samples], separators=(",", ":")).encode() + b"\n"
        try:
            if self._file.write(self._waiting) != len(self._waiting):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.failure = self.failure or f"{self._path.name}: {error.strerror}"
            self._file.truncate(self._whole_bytes)  # half a line must not precede the next try
            self._file.seek(self._whole_bytes)
        else:
            self._whole_bytes += len(self._waiting)
            self._waiting = b""

    def close(self) -> None:
        """Close the file; appending is over."""
        self._file.close()

    def rows(self, start_monotonic_ns: int) -> list[MetricRow]:
        """Every row so far, on the run clock, those that the disk refused included."""
        return read_samples(self._path, start_monotonic_ns) + list(_rows(self._waiting, start_monotonic_ns, self._path))


def read_samples(path: Path, start_monotonic_ns: int) -> list[MetricRow]:
    """The rows of a stream on the run clock; a last line that a kill cut short is left out.

    Readings before the run's start have negative times. ArtifactError if the file is missing or no such stream.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}: expected the sampler's readings of this run") from None
    return list(_rows(data[: data.rfind(b"\n") + 1], start_monotonic_ns, path))


def _rows(data: bytes, start_monotonic_ns: int, path: Path) -> Iterator[MetricRow]:
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            monotonic_ns, samples = parse_json(line)
            time_ns = monotonic_ns - start_monotonic_ns
            if not isinstance(time_ns, int) or time_ns.bit_length() > 63:
                raise ValueError("no time")
            for source, name, labels, value, unit in samples:
                texts = all(isinstance(text, str) for text in (source, name, unit))
                if not texts or not are_labels(labels) or not isinstance(value, int | float):
                    raise ValueError("no sample")
                yield (time_ns, source, name, labels, value, unit)
        except (ValueError, TypeError):
            raise ArtifactError(
                f"{path}, line {number} is not a reading of the sampler: restore the file, or run again"
            ) from None
