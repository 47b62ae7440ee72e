"""Writing the archive of a results folder, and getting the run folders back from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from loadgen.artifact import ArtifactError, read_table, write_table
from loadgen.request_log import RequestLog
from loadgen.schedule import Schedule
from testbed.archive.batches import decode_batches, encode_batches
from testbed.archive.logs import decode_logs, encode_logs
from testbed.archive.metrics import decode_metrics, encode_metrics
from testbed.archive.requests import (
    MICROSECOND,
    Coded,
    decode_requests,
    decode_schedules,
    encode_requests,
    encode_schedules,
)
from testbed.measurement.batch_log import BatchLog
from testbed.measurement.metric_log import MetricLog
from testbed.measurement.scaling_log import ScalingLog
from testbed.run_dir import RunDir, RunManifest, manifest_of, run_dirs
from workloads.files import write_text_atomically

T = TypeVar("T")
NAME, VERSION = "archive", 1
# What pandas, NumPy and Arrow raise for columns, types, lengths and numbers that do not fit together.
FOREIGN = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, NotImplementedError, pa.ArrowException)
AGAIN = "fetch the archive again"
FILES = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("run", "name", "text")])
ARTEFACTS = ("schedule.parquet", "requests.parquet", "batches.parquet", "metrics.parquet")


def has_archive(folder: Path) -> bool:
    """Whether the results folder has one."""
    return any((folder / NAME / f"{name}.parquet").exists() for name in ("files", "logs"))


def refuse_without_real_runs(folder: Path) -> None:
    """ArtifactError if the folder has nothing to archive: no logs, and no real run that ended."""
    runs = _ended(folder)
    if not runs and not any(folder.glob("logs/*/*.parquet")):
        raise ArtifactError(f"{folder} has no runs that ended: expected runs/<run_id>/run.json in it")
    if runs and all(run.manifest.kind != "real" for run in runs):
        raise ArtifactError(f"{folder} has no real runs: there is nothing to keep, simulated ones come back from seeds")


def _ended(folder: Path) -> list[RunDir]:
    return [run for run in run_dirs(folder) if run.manifest.state != "running"]


def write_archive(
    folder: Path,
    unit_ns: int = MICROSECOND,
    keep_every: int = 1,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Path:
    """Write the archive of the folder's runs and logs, which stay as they are. Returns the archive's folder.

    unit_ns: times are kept to the nearest of it. keep_every: see `encode_metrics`. Of simulated runs run.json is kept.
    on_progress: share of the steps. ArtifactError if there is no real run that ended.
    """
    refuse_without_real_runs(folder)
    archive = folder / NAME
    logs = sorted(folder.glob("logs/*/*.parquet"))
    if logs:
        archive.mkdir(exist_ok=True)
        by_name = {str(file.relative_to(folder)): ScalingLog.read(file) for file in logs}
        _write(archive, "logs", encode_logs(by_name))
    if _ended(folder):
        _write_runs(folder, archive, unit_ns, keep_every, on_progress)
    return archive


def _write_runs(
    folder: Path, archive: Path, unit_ns: int, keep_every: int, on_progress: Callable[[float], None]
) -> None:
    runs = _ended(folder)
    real = {run.path.name: run for run in runs if run.manifest.kind == "real"}
    schedules = {name: Schedule.read(run.schedule) for name, run in real.items()}
    logs = {name: RequestLog.read(run.requests) for name, run in real.items()}
    batches = {name: BatchLog.read(run.batches) for name, run in real.items() if run.batches.exists()}
    metrics = {name: MetricLog.read(run.metrics) for name, run in real.items() if run.metrics.exists()}
    archive.mkdir(exist_ok=True)
    on_progress(0.25)  # about, as the shares below
    _write(archive, "schedules", encode_schedules(schedules))
    coded = encode_batches(batches, unit_ns) if batches else None
    if coded is not None:
        _write(archive, "batches", coded)
    on_progress(0.5)
    _write(archive, "requests", encode_requests(logs, schedules, decode_batches(coded) if coded else {}, unit_ns))
    on_progress(0.75)
    if metrics:
        _write(archive, "metrics", encode_metrics(metrics, unit_ns, keep_every))
    texts = [
        (run.path.name, file.name, file.read_text())
        for run in runs
        for file in sorted(run.path.iterdir())
        if file.is_file() and file.name not in ARTEFACTS and (run.path.name in real or file.name == "run.json")
    ]
    columns = [pa.array(column, pa.string()) for column in zip(*texts, strict=True)]
    _write(archive, "files", Coded(pa.Table.from_arrays(columns, schema=FILES), {}))
    on_progress(1.0)


def archived_manifests(folder: Path) -> dict[str, RunManifest]:
    """run.json of every archived run, simulated ones too, by the name of its folder."""
    archive = folder / NAME
    texts = ((run, text) for run, name, text in _texts(archive) if name == "run.json")
    return {run: manifest_of(text, f"{archive}: run.json of {run}") for run, text in texts}


def unpack(folder: Path) -> list[Path]:
    """Write the run folders of the archive's real runs that are not there; returns them.

    run.json is written last: a folder that has it is whole.
    """
    archive = folder / NAME
    texts: dict[str, dict[str, str]] = {}
    for name, file, text in _texts(archive):
        texts.setdefault(name, {})[file] = text
    missing = [
        name
        for name, manifest in archived_manifests(folder).items()
        if manifest.kind == "real" and not (folder / "runs" / name / "run.json").exists()
    ]
    if not missing:
        return []
    schedules = _decoded(archive, "schedules", decode_schedules)
    batches = _optional(archive, "batches", decode_batches)
    logs = _decoded(archive, "requests", lambda coded: decode_requests(coded, schedules, batches))
    metrics = _optional(archive, "metrics", decode_metrics)
    for name in missing:
        if name not in schedules or name not in logs:
            raise ArtifactError(f"{archive} has no requests of run {name}: {AGAIN}")
        run = RunDir(folder / "runs" / name)
        run.path.mkdir(parents=True, exist_ok=True)
        with _foreign(archive, f"*.parquet of run {name}"):
            schedules[name].write(run.schedule)
            logs[name].write(run.requests)
            if name in batches:
                batches[name].write(run.batches)
            if name in metrics:
                metrics[name].write(run.metrics)
        for file, text in sorted(texts[name].items(), key=lambda item: item[0] == "run.json"):
            write_text_atomically(run.path / file, text)
    return [folder / "runs" / name for name in missing]


def unpack_logs(folder: Path) -> None:
    """Write those logs of an archived evaluation that are not there."""
    for name, log in _optional(folder / NAME, "logs", decode_logs).items():
        _refuse_path(folder / NAME, name, parts=3)
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with _foreign(folder / NAME, "logs.parquet"):
                log.write(folder / name)


def _texts(archive: Path) -> list[tuple[str, str, str]]:
    if not (archive / "files.parquet").exists():
        return []
    table = _read(archive, "files", FILES).table
    texts = list(zip(*(table[name].to_pylist() for name in FILES.names), strict=True))
    for name in {part for run, file, _ in texts for part in (run, file)}:
        _refuse_path(archive, name)
    return texts


def _refuse_path(archive: Path, name: str, parts: int = 1) -> None:
    """ArtifactError if a name would be written elsewhere than into the results folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) != parts or not name.isprintable():
        raise ArtifactError(f"{archive} names a file {name!r}: not one that `kis archive` wrote")


def _write(archive: Path, name: str, coded: Coded) -> None:
    write_table(archive / f"{name}.parquet", coded.table, f"archive_{name}", VERSION, coded.header, compact=True)


def _read(archive: Path, name: str, columns: Iterable[pa.Field] = ()) -> Coded:
    return Coded(*read_table(archive / f"{name}.parquet", f"archive_{name}", VERSION, columns))


def _decoded(archive: Path, name: str, decode: Callable[[Coded], dict[str, T]]) -> dict[str, T]:
    """ArtifactError if the table does not hold what `encode` makes: columns, header, and numbers that fit together."""
    coded = _read(archive, name)
    with _foreign(archive, f"{name}.parquet"):
        return decode(coded)


@contextmanager
def _foreign(archive: Path, name: str) -> Iterator[None]:
    """ArtifactError where what is made of a table is not what `kis archive` keeps."""
    try:
        with np.errstate(invalid="raise"):  # a NaN is no whole number
            yield
    except FOREIGN as error:
        what = f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{archive / name} is not one that `kis archive` wrote ({what}): {AGAIN}") from None


def _optional(archive: Path, name: str, decode: Callable[[Coded], dict[str, T]]) -> dict[str, T]:
    return _decoded(archive, name, decode) if (archive / f"{name}.parquet").exists() else {}
