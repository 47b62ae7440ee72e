"""device_times.json: where the time of a batch on a GPU goes, as our backends measured it with CUDA events.

A batch's time in the backend is the copy to the GPU, the network there, the copy back, and the rest: Python and the
processor, which puts the requests together. What Triton adds around the backend is in metrics.parquet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from loadgen.artifact import ArtifactError
from workloads.files import first_wrong, parse_model, read_text, write_json

# One record in a backend's file. Times are CLOCK_MONOTONIC; spans lie between CUDA events on the batch's stream.
DEVICE_RECORD = np.dtype(
    [(name, "<i8") for name in ("start_ns", "end_ns", "batch_size", "copy_in_ns", "network_ns", "copy_out_ns")]
)
FILE = "device_times.json"


class BatchTimes(BaseModel):
    """Batches of one size: how many, and the mean seconds of each part; `_std_s`: from batch to batch."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    batch_size: int
    batches: int
    backend_s: float
    copy_in_s: float
    network_s: float
    copy_out_s: float
    rest_s: float
    network_std_s: float
    rest_std_s: float


class DeviceTimes(BaseModel):
    """Of one run, by batch size."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sizes: tuple[BatchTimes, ...]

    def write(self, folder: Path) -> None:
        """Into a run's folder."""
        write_json(folder / FILE, self)

    @classmethod
    def read(cls, folder: Path) -> DeviceTimes | None:
        """Of a run's folder; None: not measured. ArtifactError if the file is another."""
        file = folder / FILE
        if not file.exists():
            return None
        try:
            return parse_model(cls, read_text(file))
        except ValueError as error:
            raise ArtifactError(f"{file}: {first_wrong(error)}: make the run again with this kis") from None


def read_device_files(folder: Path, begin_ns: int, end_ns: int) -> DeviceTimes | None:
    """From <folder>/<replica>/<instance>.device: batches that began in [begin_ns, end_ns). None: there are none."""
    files = sorted(folder.glob("*/*.device"))
    if not files:
        return None
    rows = np.concatenate([_read(file) for file in files])
    rows = rows[(rows["start_ns"] >= begin_ns) & (rows["start_ns"] < end_ns)]
    sizes = tuple(_of_size(rows[rows["batch_size"] == size]) for size in np.unique(rows["batch_size"]))
    return DeviceTimes(sizes=sizes) if sizes else None


def _of_size(rows: np.ndarray) -> BatchTimes:
    copy_in, network, copy_out = (rows[f"{name}_ns"] / 1e9 for name in ("copy_in", "network", "copy_out"))
    backend = (rows["end_ns"] - rows["start_ns"]) / 1e9
    rest = backend - copy_in - network - copy_out
    return BatchTimes(
        batch_size=int(rows["batch_size"][0]),
        batches=len(rows),
        backend_s=float(backend.mean()),
        copy_in_s=float(copy_in.mean()),
        network_s=float(network.mean()),
        copy_out_s=float(copy_out.mean()),
        rest_s=float(rest.mean()),
        network_std_s=float(network.std()),
        rest_std_s=float(rest.std()),
    )


def _read(file: Path) -> np.ndarray:
    """Whole records: a kill may have cut the last one short."""
    data = file.read_bytes()
    return np.frombuffer(data[: len(data) - len(data) % DEVICE_RECORD.itemsize], DEVICE_RECORD)
