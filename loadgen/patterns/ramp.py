"""A straight rise, then held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from loadgen.patterns.pattern import FloatArray, Pattern, parameter


@dataclass(frozen=True)
class Ramp(Pattern):
    """Rises in a straight line from low to peak during rise_s, then holds the peak."""

    name: ClassVar[str] = "ramp"
    rank: ClassVar[int] = 1
    families: ClassVar[tuple[str, ...]] = ("ramp",)
    low: float = parameter(10.0, "rate at the start, requests/s")
    peak: float = parameter(100.0, "rate after the rise, requests/s")
    rise_s: float = parameter(40.0, "how long the rise takes, s")

    def __post_init__(self) -> None:
        self.need(0 <= self.low <= self.peak and self.peak > 0, "0 <= low <= peak, and peak > 0")
        self.need(self.rise_s > 0, "rise_s must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        return self.low + (self.peak - self.low) * np.minimum(np.asarray(t_s) / self.rise_s, 1.0)

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return self.peak

    @classmethod
    def fitted(cls, peak_rps: float, duration_s: float, seed: int) -> Ramp:
        """See Pattern: from a fifth of the peak, over 60 % of the run, then hold."""
        return cls(low=0.2 * peak_rps, peak=peak_rps, rise_s=0.6 * duration_s)

    @classmethod
    def drawn(cls, family: str, low: float, peak: float, period_s: float, rng: np.random.Generator) -> Ramp:
        """See Pattern."""
        return cls(low=low, peak=peak, rise_s=period_s)

    @property
    def foreseen_after_s(self) -> float:
        """See Pattern."""
        return -np.inf
