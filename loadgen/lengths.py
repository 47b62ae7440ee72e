"""How long requests are, in tokens: a part of the traffic of models whose requests differ in length.

lengths: {median: 40, sigma: 0.6, longest: 128}     lognormal, rounded, 1 to longest
lengths: {tokens: [16, 64, 128], weights: [5, 3, 2]}
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from workloads.errors import KisError

if TYPE_CHECKING:
    from loadgen.schedule import Schedule

IntArray = npt.NDArray[np.int64]


class LogNormalLengths(BaseModel):
    """Lengths whose logarithm is normal; what is below 1 or above `longest` is taken as that."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    median: float = Field(gt=0, description="median length, tokens")
    sigma: float = Field(ge=0, description="standard deviation of the logarithm")
    longest: int = Field(ge=1, description="longest length, tokens")

    def draw(self, n: int, rng: np.random.Generator) -> IntArray:
        """int64[n]"""
        drawn = np.rint(self.median * np.exp(self.sigma * rng.standard_normal(n)))
        return np.asarray(np.clip(drawn, 1, self.longest), dtype=np.int64)

    def share_within(self, tokens: int) -> float:
        """Of requests that have at most so many."""
        if tokens >= self.longest:
            return 1.0
        away = math.log((tokens + 0.5) / self.median)  # lengths are rounded
        return NormalDist().cdf(away / self.sigma) if self.sigma else float(away > 0)


class ListedLengths(BaseModel):
    """A few lengths, each with its weight."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tokens: tuple[int, ...] = Field(min_length=1)
    weights: tuple[float, ...] = Field((), description="weight of each length; none: equally likely")

    @model_validator(mode="after")
    def _a_weight_each(self) -> ListedLengths:
        if min(self.tokens) < 1:
            raise ValueError("a request has 1 token or more")
        if self.weights and (len(self.weights) != len(self.tokens) or min(self.weights) < 0 or not sum(self.weights)):
            raise ValueError(f"give a weight for each of {len(self.tokens)} lengths, one of them above 0")
        return self

    @property
    def longest(self) -> int:
        """Tokens."""
        return max(self.tokens)

    def draw(self, n: int, rng: np.random.Generator) -> IntArray:
        """int64[n]"""
        weights = np.array(self.weights or np.ones(len(self.tokens)))
        return np.asarray(rng.choice(self.tokens, n, p=weights / weights.sum()), dtype=np.int64)

    def share_within(self, tokens: int) -> float:
        """Of requests that have at most so many."""
        weights = np.array(self.weights or np.ones(len(self.tokens)))
        return float(weights[np.array(self.tokens) <= tokens].sum() / weights.sum())


def _kind_of(given: Any) -> str:
    """So that a mistake is said of the one that was meant."""
    names = given.keys() if isinstance(given, dict) else getattr(type(given), "model_fields", ())
    return "listed" if "tokens" in names else "lognormal"


Lengths = Annotated[
    Annotated[LogNormalLengths, Tag("lognormal")] | Annotated[ListedLengths, Tag("listed")], Discriminator(_kind_of)
]


class LengthsError(KisError):
    """A distribution of lengths that makes no sense."""


def parse_lengths(text: str) -> Lengths:
    """As a user types it: MEDIAN:SIGMA:LONGEST, or TOKENS,TOKENS,... with equal weights; LengthsError otherwise."""
    try:
        if ":" in text:
            median, sigma, longest = text.split(":")
            return LogNormalLengths(median=float(median), sigma=float(sigma), longest=int(longest))
        return ListedLengths(tokens=tuple(map(int, text.split(","))))
    except ValueError:
        raise LengthsError(
            f"--lengths {text}: give MEDIAN:SIGMA:LONGEST of a lognormal, e.g. 40:0.6:128, or tokens, e.g. 16,64,128"
        ) from None


def with_lengths(schedule: Schedule, lengths: Lengths, seed: int) -> Schedule:
    """The schedule, each request with a length of its own; the same seed gives the same lengths to any pattern."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 1)))  # another stream than the arrivals'
    provenance = {**schedule.provenance, "lengths": lengths.model_dump()}
    return replace(schedule, tokens=lengths.draw(len(schedule), rng), provenance=provenance)


def all_of(schedule: Schedule, tokens: int) -> Schedule:
    """The schedule, all requests of that length."""
    provenance = {**schedule.provenance, "lengths": {"tokens": [tokens]}}
    return replace(schedule, tokens=np.full(len(schedule), tokens, dtype=np.int64), provenance=provenance)
