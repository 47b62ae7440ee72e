"""Triton's statistics of a model by batch size, as /v2/models/<model>/stats gives them.

Everything is cumulative since the model was loaded: meaning is in the difference of two readings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.errors import CalibrationError, ServingError


@dataclass(frozen=True)
class BatchStatistics:
    """Executions of one batch size, and the time they took: compute_input + compute_infer + compute_output."""

    executions: int
    compute_ns: int

    @property
    def mean_compute_s(self) -> float:
        """Mean seconds of an execution; NaN if there was none."""
        return self.compute_ns / self.executions / 1e9 if self.executions else math.nan


@dataclass(frozen=True)
class ModelStatistics:
    """Triton's statistics of one model: since it was loaded, or between two readings.

    Of its newest version: the one that answers requests that name none, as ours do.

    succeeded and failed count requests; queue_ns and request_ns sum over the succeeded ones; batches is by batch size
    and has no entry for a size that never ran.
    """

    model: str
    succeeded: int
    failed: int
    queue_ns: int
    request_ns: int
    batches: Mapping[int, BatchStatistics]

    @property
    def executions(self) -> int:
        """Batches of any size."""
        return sum(batch.executions for batch in self.batches.values())


def difference(before: ModelStatistics, after: ModelStatistics) -> ModelStatistics:
    """What happened between two readings. CalibrationError if a counter went back: the model was loaded anew."""
    batches = {}
    for size in sorted(before.batches.keys() | after.batches.keys()):
        old, new = (s.batches.get(size, BatchStatistics(0, 0)) for s in (before, after))
        batches[size] = BatchStatistics(new.executions - old.executions, new.compute_ns - old.compute_ns)
    between = ModelStatistics(
        after.model,
        after.succeeded - before.succeeded,
        after.failed - before.failed,
        after.queue_ns - before.queue_ns,
        after.request_ns - before.request_ns,
        {size: batch for size, batch in batches.items() if batch != BatchStatistics(0, 0)},
    )
    counters = [between.succeeded, between.failed, between.queue_ns, between.request_ns]
    counters += [n for batch in batches.values() for n in (batch.executions, batch.compute_ns)]
    if min(counters) < 0:
        raise CalibrationError(
            f"statistics of '{after.model}' went back between two readings: it was loaded anew meanwhile; run again"
        )
    return between


def parse_statistics(text: str, model: str) -> ModelStatistics:
    """From the answer to /v2/models/<model>/stats; ServingError if it is not one about this model."""
    try:
        versions = [entry for entry in json.loads(text)["model_stats"] if entry["name"] == model]
        if not versions:
            raise KeyError(model)
        newest = max(versions, key=lambda entry: version_number(str(entry.get("version", ""))))
        totals = [newest["inference_stats"]]
        return ModelStatistics(
            model,
            succeeded=_total(totals, "success", "count"),
            failed=_total(totals, "fail", "count"),
            queue_ns=_total(totals, "queue", "ns"),
            request_ns=_total(totals, "success", "ns"),
            batches=_batches(newest.get("batch_stats", [])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ServingError(
            f"statistics of '{model}' cannot be read ({type(error).__name__}: {error}): is this a Triton server?"
        ) from None


def version_number(text: str) -> int:
    """Of a model's version; -1 if it has none."""
    return int(text) if text.isdecimal() else -1


def _total(entries: Iterable[Mapping[str, Any]], stage: str, what: str) -> int:
    # JSON of 64-bit integers: some gateways write them as strings.
    values = [int(entry[stage][what]) for entry in entries]
    if min(values, default=0) < 0:
        raise ValueError(f"{stage} {what} is {min(values)}")
    return sum(values)


def _batches(entries: list[Mapping[str, Any]]) -> dict[int, BatchStatistics]:
    batches = {}
    for size in sorted({int(entry["batch_size"]) for entry in entries}):
        same = [entry for entry in entries if int(entry["batch_size"]) == size]
        compute_ns = sum(_total(same, stage, "ns") for stage in ("compute_input", "compute_infer", "compute_output"))
        batches[size] = BatchStatistics(_total(same, "compute_infer", "count"), compute_ns)
    return batches
