"""Triton's statistics of a model by batch size, as /v2/models/<model>/stats gives them.

Everything is cumulative since the model was loaded: meaning is in the difference of two readings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.errors import ServingError


@dataclass(frozen=True)
class BatchStatistics:
    """Executions of one batch size, and the time they took: compute_input + compute_infer + compute_output."""

    executions: int
    compute_ns: int


@dataclass(frozen=True)
class ModelStatistics:
    """Triton's statistics of one model since it was loaded.

    Of its newest version: the one that answers requests that name none, as ours do.

    succeeded counts requests; queue_ns sums over them; batches is by batch size and has no entry for a size that never
    ran.
    """

    model: str
    succeeded: int
    queue_ns: int
    batches: Mapping[int, BatchStatistics]

    @property
    def executions(self) -> int:
        """Batches of any size."""
        return sum(batch.executions for batch in self.batches.values())


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
            queue_ns=_total(totals, "queue", "ns"),
            batches=_batches(newest.get("batch_stats", [])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ServingError(
            f"statistics of '{model}' cannot be read ({type(error).__name__}: {error}): is this a Triton server?"
        ) from None


def version_number(text: str) -> int:
    """Of a model's version; -1 if it has none."""
    return int(text) if text.isdecimal() and len(text) < 20 else -1


def _total(entries: Iterable[Mapping[str, Any]], stage: str, what: str) -> int:
    # JSON of protobuf: 64-bit integers are strings, and zeros are left out.
    values = [int(entry[stage].get(what, 0)) for entry in entries]
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
