"""VALID or INVALID: whether a run's client kept its schedule and took enough samples."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Verdict(BaseModel):
    """The judgement of one real run. `reasons` is empty if and only if it is valid; `figures` holds what was judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    valid: bool
    reasons: tuple[str, ...] = ()
    figures: dict[str, float] = {}
