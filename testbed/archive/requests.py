"""Requests of many runs in two tables: arrivals once for all runs that had the same, and what became of each request.

schedules: `schedule` (number), `step` (units since the arrival before), `model`; `tokens` and
`rows` where requests have lengths, or batches of their own.
requests, in order of run and request_id: `run`, `endpoint`, `lag` (units from scheduled to sent), `answer` (units since
the end of the request's batch, or, where that is not known, since the answer before at the same endpoint), `status`,
`detail`. A time that is missing is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from loadgen.artifact import ArtifactError
from loadgen.request_log import SCHEMA, RequestLog
from loadgen.schedule import Schedule
from testbed.archive.coding import IntArray, from_steps, in_units, steps
from testbed.measurement.batch_log import BatchLog

EXTRA = ("tokens", "rows")  # of a Schedule, where it has them
MICROSECOND = 1_000  # in ns; arrivals are whole ones, but for those that are made to fill batches


class Coded(NamedTuple):
    """A table, and what is to be known to read it."""

    table: pa.Table
    header: dict[str, Any]


def encode_schedules(schedules: Mapping[str, Schedule]) -> Coded:
    """By run. Runs with the same arrivals share them; nothing is lost."""
    numbers: dict[bytes, int] = {}
    parts, units, runs = [], [], {}
    extra = [name for name in EXTRA if any(getattr(schedule, name) is not None for schedule in schedules.values())]
    for run, schedule in schedules.items():
        key = schedule.scheduled_ns.tobytes() + "\n".join(map(str, schedule.model)).encode()
        of_requests = {name: getattr(schedule, name) for name in extra}
        key += b"".join(b"\n" if column is None else column.tobytes() for column in of_requests.values())
        if key not in numbers:
            numbers[key] = len(numbers)
            unit = MICROSECOND if not (schedule.scheduled_ns % MICROSECOND).any() else 1
            units.append(unit)
            part = _arrivals(numbers[key], schedule.scheduled_ns // unit, schedule.model)
            for name, column in of_requests.items():
                whole = pa.nulls(len(schedule), pa.int64()) if column is None else pa.array(column, pa.int64())
                part = part.append_column(name, whole)
            parts.append(part)
        runs[run] = {"schedule": numbers[key], "duration_s": schedule.duration_s, "provenance": schedule.provenance}
    table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    return Coded(table, {"unit_ns": units, "runs": runs})


def decode_schedules(coded: Coded) -> dict[str, Schedule]:
    """By run."""
    frame = coded.table.to_pandas()
    arrivals = {}
    for number, part in frame.groupby("schedule"):
        times = np.cumsum(part["step"].to_numpy(dtype=np.int64)) * coded.header["unit_ns"][int(str(number))]
        known = (name in part and part[name].notna().all() for name in EXTRA)
        of_requests = (part[name].to_numpy(np.int64) if has else None for name, has in zip(EXTRA, known, strict=True))
        arrivals[int(str(number))] = (times, part["model"].to_numpy(dtype=object), *of_requests)
    empty = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=object), None, None)
    schedules = {}
    for run, header in coded.header["runs"].items():
        times, model, *tokens_and_rows = arrivals.get(header["schedule"], empty)
        schedules[run] = Schedule(times, model, header["duration_s"], header["provenance"], *tokens_and_rows)
    return schedules


def encode_requests(
    logs: Mapping[str, RequestLog], schedules: Mapping[str, Schedule], batches: Mapping[str, BatchLog], unit_ns: int
) -> Coded:
    """By run; times to the nearest unit. batches: of those runs that have them, to the nearest unit already.

    ArtifactError if a log is not of its run's schedule.
    """
    parts = []
    for run, log in logs.items():
        frame, schedule = log.frame, schedules[run]
        same = np.array_equal(frame["request_id"].to_numpy(dtype=np.int64), np.arange(len(schedule)))
        same = same and np.array_equal(frame["scheduled_ns"].to_numpy(dtype=np.int64), schedule.scheduled_ns)
        if not same or not np.array_equal(frame["model"].to_numpy(dtype=object), schedule.model):
            raise ArtifactError(f"run {run}: requests.parquet is not of its schedule.parquet: make the run again")
        parts.append(_answers(run, frame, _batch_ends(batches.get(run), len(schedule), unit_ns), unit_ns))
    table = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    return Coded(table, {"unit_ns": unit_ns, "provenance": {run: log.provenance for run, log in logs.items()}})


def decode_requests(
    coded: Coded, schedules: Mapping[str, Schedule], batches: Mapping[str, BatchLog]
) -> dict[str, RequestLog]:
    """By run."""
    frame, unit_ns = coded.table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get), coded.header["unit_ns"]
    of_run = dict(iter(frame.groupby("run", observed=True, sort=False)))
    logs = {}
    for run, provenance in coded.header["provenance"].items():
        schedule = schedules[run]
        part = of_run[run].reset_index(drop=True) if run in of_run else frame.iloc[:0]
        answered = part["answer"].notna().to_numpy()
        endpoints = part["endpoint"].astype(object).to_numpy()
        end = _batch_ends(batches.get(run), len(schedule), unit_ns)
        done = part["answer"].to_numpy(dtype=np.int64, na_value=0) + end
        alone = answered & (end == 0)
        done[alone] = from_steps(done[alone], [endpoints[alone]])
        completed = pd.array(done * unit_ns, dtype="Int64")
        completed[~answered] = pd.NA
        decoded = pd.DataFrame(
            {
                "request_id": pd.array(np.arange(len(part)), dtype="Int64"),
                "model": schedule.model,
                "endpoint": endpoints,
                "scheduled_ns": pd.array(schedule.scheduled_ns, dtype="Int64"),
                "sent_ns": pd.array(schedule.scheduled_ns, dtype="Int64") + part["lag"].array * unit_ns,
                "completed_ns": completed,
                "status": part["status"].astype(object),
                "detail": part["detail"].astype(object),
            }
        )
        table = pa.Table.from_pandas(decoded, schema=SCHEMA, preserve_index=False)
        logs[run] = RequestLog(table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get), provenance)
    return logs


def _arrivals(number: int, units: IntArray, model: Any) -> pa.Table:
    return pa.table(
        {
            "schedule": pa.array(np.full(len(units), number), pa.int64()),
            "step": pa.array(np.diff(units, prepend=0), pa.int64()),
            "model": pa.array(model, pa.string()).dictionary_encode(),
        }
    )


def _batch_ends(batches: BatchLog | None, requests: int, unit_ns: int) -> IntArray:
    """int64[requests]: when the batch of each request ended, in units; 0 where that is not known."""
    ends = np.zeros(requests, dtype=np.int64)
    if batches is not None:
        ids, times = (batches.frame[name].to_numpy(dtype=np.int64) for name in ("request_id", "end_ns"))
        ends[ids[ids >= 0]] = times[ids >= 0] // unit_ns
    return ends


def _answers(run: str, frame: pd.DataFrame, end: IntArray, unit_ns: int) -> pa.Table:
    lag = (frame["sent_ns"] - frame["scheduled_ns"] + unit_ns // 2) // unit_ns
    answered = frame["completed_ns"].notna().to_numpy()
    endpoints = frame["endpoint"].to_numpy(dtype=object)
    done = in_units(frame["completed_ns"].to_numpy(dtype=np.int64, na_value=0), unit_ns) - end
    alone = answered & (end == 0)
    done[alone] = steps(done[alone], [endpoints[alone]])
    return pa.table(
        {
            "run": pa.array([run] * len(frame), pa.string()).dictionary_encode(),
            "endpoint": pa.array(endpoints, pa.string(), from_pandas=True).dictionary_encode(),
            "lag": pa.array(lag, pa.int64()),
            "answer": pa.array(done, pa.int64(), mask=~answered),
            "status": pa.array(frame["status"], pa.string()).dictionary_encode(),
            "detail": pa.array(frame["detail"], pa.string()).dictionary_encode(),
        }
    )
