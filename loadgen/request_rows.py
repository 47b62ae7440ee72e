"""How many rows each request has, its own batch size: a part of the traffic of clients that send several at a time.

batch: 4                      every request has four rows
batch: {1: 0.7, 8: 0.3}       rows and weights: each request has one or eight
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from workloads.errors import KisError

if TYPE_CHECKING:
    from loadgen.schedule import Schedule


class RowsError(KisError):
    """Rows of requests that make no sense, or that a model does not take."""


def _weighted(given: Any) -> Any:
    """One number is of all requests."""
    return {given: 1.0} if isinstance(given, int) else given


def _makes_sense(shares: dict[int, float]) -> dict[int, float]:
    if min(shares, default=0) < 1 or min(shares.values()) < 0 or not sum(shares.values()):
        raise ValueError("give rows of 1 or more, each with a weight, one of them above 0: 4, or {1: 0.7, 8: 0.3}")
    return shares


RequestRows = Annotated[dict[int, float], BeforeValidator(_weighted), AfterValidator(_makes_sense)]


def parse_rows(text: str) -> dict[int, float]:
    """As a user types it: ROWS, or ROWS:WEIGHT,ROWS:WEIGHT,...; RowsError otherwise."""
    try:
        if ":" not in text:
            return _makes_sense({int(text): 1.0})
        return _makes_sense({int(rows): float(weight) for rows, weight in (one.split(":") for one in text.split(","))})
    except ValueError:
        raise RowsError(
            f"--batch {text}: give rows of each request, e.g. 4, or rows and weights, e.g. 1:0.7,8:0.3"
        ) from None


def with_rows(schedule: Schedule, shares: dict[int, float], seed: int) -> Schedule:
    """The schedule, each request with rows of its own; the same seed gives the same rows to any pattern."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 2)))  # another stream than arrivals and lengths have
    weights = np.array([*shares.values()])
    rows = rng.choice(np.array([*shares], dtype=np.int64), len(schedule), p=weights / weights.sum())
    provenance = {**schedule.provenance, "batch": {str(size): weight for size, weight in shares.items()}}
    return replace(schedule, rows=rows, provenance=provenance)


def refuse_too_many(schedule: Schedule, model: str, most: int, why: str = "max_batch_size") -> None:
    """RowsError if a request has more rows than the model takes."""
    rows = 0 if schedule.rows is None else int(schedule.rows.max(initial=0))
    if rows > most:
        raise RowsError(
            f"batch: there are requests of {rows} rows, and model '{model}' takes at most {most} in one ({why})"
        )
