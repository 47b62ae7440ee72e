"""A sine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from loadgen.patterns.pattern import FloatArray, Pattern, parameter


@dataclass(frozen=True)
class Periodic(Pattern):
    """A sine: mean + amplitude * sin(2 pi t / period_s)."""

    name: ClassVar[str] = "periodic"
    rank: ClassVar[int] = 2
    families: ClassVar[tuple[str, ...]] = ("periodic",)
    mean: float = parameter(50.0, "mean rate, requests/s")
    amplitude: float = parameter(40.0, "swing above and below the mean, requests/s")
    period_s: float = parameter(20.0, "length of one period, s")

    def __post_init__(self) -> None:
        self.need(0 <= self.amplitude <= self.mean and self.mean > 0, "0 <= amplitude <= mean, and mean > 0")
        self.need(self.period_s > 0, "period_s must be > 0")

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """See Pattern."""
        return self.mean + self.amplitude * np.sin(2 * np.pi * np.asarray(t_s) / self.period_s)

    @property
    def peak_rps(self) -> float:
        """See Pattern."""
        return self.mean + self.amplitude

    @classmethod
    def fitted(cls, peak_rps: float, duration_s: float, seed: int) -> Periodic:
        """See Pattern: between a fifth of the peak and the peak, four periods."""
        return cls(mean=0.6 * peak_rps, amplitude=0.4 * peak_rps, period_s=duration_s / 4)

    @classmethod
    def drawn(cls, family: str, low: float, peak: float, period_s: float, rng: np.random.Generator) -> Periodic:
        """See Pattern."""
        return cls(mean=(low + peak) / 2, amplitude=(peak - low) / 2, period_s=period_s)

    @property
    def foreseen_after_s(self) -> float:
        """See Pattern."""
        return -np.inf
