"""A rate that is drawn anew every interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from loadgen.patterns.pattern import FloatArray, Pattern, parameter


@dataclass(frozen=True)
class Fluctuating(Pattern):
    """KIS-S's "random" pattern: the rate is drawn anew, uniformly between low and high, every interval."""

    name: ClassVar[str] = "fluctuating"
    rank: ClassVar[int] = 3
    families: ClassVar[tuple[str, ...]] = ("fluctuating",)
    low: float = parameter(10.0, "smallest rate, requests/s")
    high: float = parameter(100.0, "largest rate, requests/s")
    interval_s: float = parameter(5.0, "how long each rate lasts, s")
    rate_seed: int = parameter(0, "seed of the rates (the arrivals have their own)")

    def __post_init__(self) -> None:
        self.need(0 <= self.low <= self.high and self.high > 0, "0 <= low <= high, and high > 0")
        self.need(self.interval_s > 0, "interval_s must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        interval = (np.asarray(t_s) / self.interval_s).astype(np.int64)
        # Draws come one after the other, so a longer run sees the same rates first.
        rates = np.random.default_rng(self.rate_seed).uniform(self.low, self.high, int(interval.max(initial=0)) + 1)
        return rates[interval]

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return self.high

    @classmethod
    def fitted(cls, peak_rps: float, duration_s: float, seed: int) -> Fluctuating:
        """See Pattern: redrawn (from `seed`) between a fifth of the peak and the peak, twenty times."""
        return cls(low=0.2 * peak_rps, high=peak_rps, interval_s=duration_s / 20, rate_seed=seed)

    @classmethod
    def drawn(cls, family: str, low: float, peak: float, period_s: float, rng: np.random.Generator) -> Fluctuating:
        """See Pattern."""
        return cls(low=low, high=peak, interval_s=period_s / 5, rate_seed=int(rng.integers(2**31)))
